"""How is a server registered, however late ZooKeeper comes?

A thread connects and registers.  It logs what prevents this: at once, then once a
minute, and when it is over.  After that the registry keeps the server registered;
nothing that happens to ZooKeeper ends the server.  ZEO servers use it, and
monitors that are configured in a file.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

from zkfleet import paths
from zkfleet.endpoints import Endpoint
from zkfleet.errors import ZkfleetError
from zkfleet.registry.registration import Registration
from zkfleet.registry.registry import Registry
from zkfleet.spelling import get_logger

logger = get_logger(__name__)

# Seconds that connecting may take: few at first, so that the log has a problem soon.
PATIENCE = (2.0, 5.0)
LONGEST_PATIENCE = 15.0
RETRY_AFTER = 1.0
LOOK_AGAIN = 0.5
TELL_AGAIN = 60.0
DEREGISTER_WITHIN = 2.0


@dataclass(frozen=True, slots=True)
class Announcement:
    """What is to be registered.

    Attributes:
        path: of the service.
        address: where it is provided.
        properties: of the provider.
    """

    path: str
    address: Endpoint
    properties: Mapping[str, Any]


class Concern:
    """A problem that is logged at once, then once a minute, and when it is over."""

    def __init__(self, about: str) -> None:
        self._about, self._now, self._again = about, "", 0.0

    def is_now(self, problem: str) -> None:
        """Take the present problem; "" for none."""
        if problem and (problem != self._now or time.monotonic() >= self._again):
            logger.warning("not_registered_yet path=%s reason=%s", self._about, problem)
            self._again = time.monotonic() + TELL_AGAIN
        if self._now and not problem:
            logger.info("not_registered_is_over path=%s", self._about)
        self._now = problem


class Announcer:
    """Connects to ZooKeeper, and keeps what is announced registered.

    Args:
        connect: returns a registry of its own within so many seconds, or raises.
        about: the path that the log names while nothing is registered.
        advertise: what to register instead of the host; None as for `Registry.register`.
        registry: to use in place of one of its own; it is not closed.

    Raises:
        BadPath: `about` is none.

    Attributes:
        registry: None until there is a connection, and after the end.
    """

    def __init__(
        self,
        connect: Callable[[float], Registry],
        about: str,
        *,
        advertise: str | None = None,
        registry: Registry | None = None,
    ) -> None:
        self._connected_within, self._advertise, self._given = connect, advertise, registry
        self._lock = threading.Lock()
        self.registry = registry
        self._registrations: list[Registration] = []
        self._announcements: Sequence[Announcement] = ()
        self._connected, self._over = threading.Event(), threading.Event()
        self.concern = Concern(paths.check(about))
        self._thread = threading.Thread(target=self._run, name="zkfleet registering", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def wait_until_connected(self) -> bool:
        """Wait for ZooKeeper, for ever if need be; False if `close` was called meanwhile."""
        self._connected.wait()
        return not self._over.is_set()

    def rest(self, seconds: float) -> bool:
        """Wait some seconds; False at once if `close` is called."""
        return not self._over.wait(seconds)

    def register(self, announcements: Sequence[Announcement]) -> None:
        """Register these, in place of those before, as soon as that is possible."""
        self.begin_to_withdraw()
        with self._lock:
            self._announcements = announcements
            self._register()

    def begin_to_withdraw(self) -> list[Registration]:
        """Begin to remove what is registered, without waiting; return what that was."""
        with self._lock:
            self._announcements = ()
            registrations, self._registrations = self._registrations, []
        for one in registrations:
            one.begin_close()
        return registrations

    def withdraw(self) -> None:
        """Remove what is registered, if ZooKeeper answers soon."""
        _close(self.begin_to_withdraw())

    def close(self) -> None:
        """Remove everything from ZooKeeper, if it answers soon, and end.  Twice is fine."""
        with self._lock:
            self._over.set()
            registrations, self._registrations = self._registrations, []
            registry, self.registry = self.registry, None
        self._connected.set()
        # Our own session takes all of its registrations with it.
        _close([registry] if registry is not None and registry is not self._given else registrations)
        if registry is not None and self._thread.is_alive():
            self._thread.join(LOOK_AGAIN)

    # -- on its thread

    def _run(self) -> None:
        if self._connect():
            self._connected.set()
            while not self._over.wait(LOOK_AGAIN):
                problems = (registration.problem for registration in list(self._registrations))
                self.concern.is_now(str(next(filter(None, problems), "")))

    def _connect(self) -> bool:
        """Try until there is a registry, or until `close` is called."""
        if self._given is not None:
            return True
        for patience in chain(PATIENCE, repeat(LONGEST_PATIENCE)):
            try:
                self._take(self._connected_within(patience))
                break
            except ZkfleetError as exc:
                self.concern.is_now(str(exc))
            # The machine has no more threads, perhaps.  Without this one nobody would try again, or say so.
            except Exception as exc:
                self.concern.is_now(repr(exc))
            if self._over.wait(RETRY_AFTER):
                break
        return not self._over.is_set()

    def _take(self, registry: Registry) -> None:
        with self._lock:
            if not self._over.is_set():
                self.registry = registry
                try:
                    self._register()
                except BaseException:
                    self.registry, self._registrations = None, []
                    registry.close(DEREGISTER_WITHIN)
                    raise
                return
        registry.close(DEREGISTER_WITHIN)

    def _register(self) -> None:
        """Register what is announced, if there is a connection; the lock is held."""
        if self.registry is None:
            return
        for one in self._announcements:
            try:
                made = self.registry.register(
                    one.path, one.address, advertise=self._advertise, wait=False, **one.properties
                )
            except ZkfleetError as exc:
                logger.error("not_registered path=%s reason=%s", one.path, exc)
                continue
            self._registrations.append(made)
            logger.info("registering path=%s addresses=%s", made.path, ",".join(made.addresses))


def _close(ours: Sequence[Registry | Registration]) -> None:
    for one in ours:
        try:
            one.close(DEREGISTER_WITHIN)
        except ZkfleetError as exc:
            logger.warning("not_deregistered reason=%s: it is removed when its session ends", exc)
