"""How is a monitor had, and ended?

`start` puts the parts together: where it may listen (`places`), the socket
(`listening`), what runs the commands (`running`), and a door.  What its user
holds is a `Monitor`.
"""

import atexit
import contextlib
import os
import ssl
import threading
from collections.abc import Callable
from functools import partial
from socket import socket
from typing import TYPE_CHECKING, Any, Literal, Self

from zkfleet.endpoints import Endpoint, is_loopback, parse_endpoint
from zkfleet.errors import BadInput, WaitTimedOut
from zkfleet.monitor.commands import COMMANDS, Commands
from zkfleet.monitor.conversation import Conversation
from zkfleet.monitor.encrypted import Certificates
from zkfleet.monitor.limits import Limits
from zkfleet.monitor.listening import Taken, default_path, identity, listen
from zkfleet.monitor.loading import load
from zkfleet.monitor.opening import Opened, Opener
from zkfleet.monitor.places import Address, Place, UnixPath, check_guarded, place
from zkfleet.monitor.running import Running
from zkfleet.monitor.talking import Speak
from zkfleet.monitor.threads import in_thread
from zkfleet.spelling import get_logger

if TYPE_CHECKING:
    from zkfleet.registry import Registry
    from zkfleet.registry.announcer import Announcer

logger = get_logger(__name__)


class Monitor:
    """A monitor that answers, until it is closed; a context manager.

    Attributes:
        address: where it listens, a path or `host:port`.
        http: its door for HTTP, if it has one, with an `address` of its own.
        running: what runs its commands.
        board: its connections, for its loop's thread alone.
    """

    def __init__(self, where: Place, listener: socket, opened: Opened, running: Running) -> None:
        self.running, self.board = running, opened.board
        self._where, self._listener, self._opened = where, listener, opened
        self._path = where.path if isinstance(where, UnixPath) else ""
        self._file = identity(self._path) if self._path else None
        bound = listener.getsockname()
        self.address = self._path or str(Endpoint(bound[0], bound[1]))
        self._lock = threading.Lock()
        self._is_closed = False
        self._look_no_more: Callable[[], object] = lambda: None
        self._deregister: Callable[[], object] = lambda: None
        self.http: Monitor | None = None
        if self._path:
            self.board.clock.from_thread(self._look_later)
        _OPEN.add(self)

    def _look_later(self) -> None:
        self._look_no_more = self.board.clock.later(self.running.limits.looks, self._look)

    def _look(self) -> None:
        """On the loop's thread: make a socket's file again that somebody has removed."""
        with self._lock:
            if self._is_closed:
                return
            if identity(self._path) is None:
                self._listen_again()
        self._look_later()

    def _listen_again(self) -> None:
        try:
            listener = listen(self._where)
        except (Taken, BadInput) as exc:
            logger.warning("monitor_unreachable address=%s reason=%s", self.address, exc)
            return
        self._opened.listen_at(listener)
        self._listener.close()
        self._listener, self._file = listener, identity(self._path)
        logger.warning("monitor_listens_again address=%s reason=its file was removed", self.address)

    def register(self, registry: "Registry", path: str) -> None:
        """Say in a registry where it listens, until it is closed."""
        self._deregister = registry.register(path, self.address, **self._properties()).close

    def announce(self, announcer: "Announcer", path: str) -> None:
        """Say where it listens as soon as ZooKeeper answers, until it is closed; the announcer ends with it."""
        from zkfleet.registry.announcer import Announcement

        self._deregister = announcer.close
        announcer.register([Announcement(path, parse_endpoint(self.address), self._properties())])
        announcer.start()

    def _properties(self) -> dict[str, Any]:
        also = {} if self.http is None or self.http._path else {"http_port": self.http._listener.getsockname()[1]}
        return {"kind": "monitor", **also}

    def close(self) -> None:
        """Take it out of its registry, let nobody in any more, break its connections.  Twice is fine."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        _OPEN.discard(self)
        self._deregister()
        if self.http is not None:
            self.http.close()
        try:
            self._opened.close()
        finally:
            self._look_no_more()
            self._listener.close()
            if self._path and identity(self._path) == self._file:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path)
            logger.info("monitor_closed address=%s", self.address)

    def leave_to_parent(self) -> None:
        """In a forked child: keep nothing open that is the parent's, and answer nobody."""
        self._is_closed, self._lock = True, threading.Lock()
        self._listener.close()
        self._opened.leave_to_parent()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


_OPEN: set[Monitor] = set()


def _after_fork() -> None:
    for monitor in _OPEN:
        monitor.leave_to_parent()
    _OPEN.clear()


def _at_exit() -> None:
    for monitor in list(_OPEN):
        with contextlib.suppress(WaitTimedOut):
            monitor.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)


def start(
    address: Address | None = None,
    *,
    registry: "Registry | None" = None,
    path: str | None = None,
    tls: ssl.SSLContext | Certificates | None = None,
    token: str | None = None,
    insecure: bool = False,
    actions: bool = False,
    limits: Limits | None = None,
    commands: Commands | None = None,
    door: Opener | None = None,
    http: Address | None = None,
) -> "Monitor | Literal[False]":
    """Answer questions about this process from now on.

    Args:
        address: a TCP port of the loopback address, `host:port`, a pair of them, or the path
            of a Unix socket; None for a socket of this process in the runtime directory.
        registry: where it says its address, below `path`.
        path: an existing path in it.
        tls: what makes TCP encrypted; with authorities for client certificates these are needed.
        token: one word that clients begin with, `token XXXX`, over HTTP `Authorization: Bearer XXXX`;
            None for no need of one.
        insecure: everybody who reaches it may ask.
        actions: enable the commands that change something.
        limits: how much clients may ask for.
        commands: None for all that this process has.
        door: what answers; None for a thread with a loop of its own.
        http: an address for HTTP and metrics, as the first one; None for no such door.

    Returns:
        The monitor; False, and a warning in the log, if somebody listens there already.

    Raises:
        BadInput: it cannot listen there, or others could reach it and nobody would ask who they are.
    """
    where = place(default_path() if address is None else address)
    _check_registration(registry, path, where)
    context = tls.context() if isinstance(tls, Certificates) else tls
    asks_who = context is not None and context.verify_mode is ssl.CERT_REQUIRED
    web = None if http is None else place(http)
    for one in [where] if web is None else [where, web]:
        check_guarded(one, token=token or "", has_client_certificates=asks_who, insecure=insecure)
    running = Running(_loaded() if commands is None else commands, limits or Limits(), actions=actions)
    speak = partial(Conversation, longest=running.limits.line, token=token or "")
    with contextlib.ExitStack() as undo:
        monitor = _opened(where, running, speak, door or in_thread, context)
        if monitor is None:
            return False
        undo.enter_context(monitor)
        if web is not None:
            monitor.http = _opened(web, running, _hypertext(web, running, token or ""), door or in_thread, context)
            if monitor.http is None:
                return False
        if registry is not None and path is not None:
            monitor.register(registry, path)
        undo.pop_all()
    return monitor


def _loaded() -> Commands:
    load()
    return COMMANDS


def _check_registration(registry: "Registry | None", path: str | None, where: Place) -> None:
    if (registry is None) != (path is None):
        raise BadInput("a registry and a path go together", hint="give both, or neither")
    if registry is not None and isinstance(where, UnixPath):
        raise BadInput(f"{where}: nobody finds a Unix socket through a registry", hint="listen on a TCP port")


def _opened(
    where: Place, running: Running, speak: Speak, door: Opener, context: ssl.SSLContext | None
) -> Monitor | None:
    """Return a monitor that answers there; None, and a warning, if somebody else does."""
    try:
        listener = listen(where)
    except Taken as exc:
        logger.warning("monitor_not_started address=%s reason=%s", where, exc.strerror)
        return None
    with contextlib.ExitStack() as undo:
        undo.callback(_unlisten, listener, where)
        opened = door(listener, running, speak, None if isinstance(where, UnixPath) else context)
        monitor = Monitor(where, listener, opened, running)
        undo.pop_all()
    logger.info("monitor_started address=%s", monitor.address)
    return monitor


def _hypertext(where: Place, running: Running, token: str) -> Speak:
    # Who has no such door needs none of the libraries that it stands on.
    from zkfleet.monitor.http import Hypertext
    from zkfleet.monitor.metrics import scraping
    from zkfleet.monitor.site import Site

    is_loopback_alone = isinstance(where, Endpoint) and is_loopback(where.host)
    site = Site(
        running.commands, scraping(running), actions=running.actions, token=token, is_loopback=is_loopback_alone
    )
    return partial(Hypertext, site, longest=running.limits.line)


def _unlisten(listener: socket, where: Place) -> None:
    listener.close()
    if isinstance(where, UnixPath):
        os.unlink(where.path)
