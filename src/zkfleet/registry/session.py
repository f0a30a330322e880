"""Are we connected, as whom, and how does a request get its answer?

One `Session` wraps one kazoo client: it starts it, checks the server, tells
its listener of the link and of watch events, and gives requests three doors:
`send` (any thread, never waits), `call` and `read` (wait, with a deadline, and
ask again when the link breaks under a read), `send_once` (waits, and repeats
nothing; `writing` finds out what became of a write whose reply was lost).

The listener is called on kazoo's connection thread and must only enqueue.
"""

import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from kazoo import exceptions as kazoo_errors
from kazoo.client import KazooClient
from kazoo.protocol.serialization import Exists, Sync
from kazoo.protocol.states import KazooState

from zkfleet import errors, paths
from zkfleet.registry import wire
from zkfleet.registry.reads import MARKS, Answer, Batch, Event, Reading, Reply
from zkfleet.registry.refusals import ask_members, remedy
from zkfleet.registry.tap import Tap
from zkfleet.spelling import get_logger

logger = get_logger(__name__)

T = TypeVar("T")
OLDEST_SERVER = (3, 6)
SYSTEM = "/zookeeper"
SLOW = "ZooKeeper accepts the connection and is slow: try again, or wait longer"
SASL_UNANSWERED = (
    "is SASL configured there?  a ZooKeeper without it may not answer, and `zkfleet dev` has none; else wait longer"
)
NOT_SENT = "the request was not sent; try again when ZooKeeper answers"
LOOK = "look whether it is there before you try again"
LOST = (kazoo_errors.ConnectionLoss, kazoo_errors.SessionExpiredError, kazoo_errors.SessionMovedError)
WARN_EVERY = 30.0

# kazoo's own default doubles its pause up to an hour: after an outage of 20 s
# it needs 10-18 s more.  Half a second keeps a session alive that can be.
RECONNECT = {"max_tries": -1, "delay": 0.05, "backoff": 2, "max_delay": 0.5}


class Replied(NamedTuple):
    """What a server replied to a write, and the transaction that made it."""

    value: Any
    zxid: int


class Listener(Protocol):
    """Who is told what happens to a session; called on kazoo's connection thread."""

    def on_link(self, connected: bool, session_id: int, grant: int) -> None:
        """The link came up, with this session, or went down; `grant` counts the connections."""

    def on_event(self, event: Event, path: str) -> None:
        """A watch fired."""


class Session:
    """A client's session with the ensemble, whichever one it is at the moment.

    Args:
        client: a kazoo client.
        owned: whether we start and stop it.
        listener: who is told of the link and of watch events.
        timeout: seconds that a request may wait when it says nothing else.
        packet_limit: the ensemble's jute.maxbuffer, in bytes.

    Attributes:
        safe_packet: how many bytes we put into one packet.
    """

    def __init__(
        self,
        client: KazooClient,
        *,
        owned: bool,
        listener: Listener,
        timeout: float,
        packet_limit: int = wire.PACKET_LIMIT,
    ) -> None:
        self.packet_limit, self.safe_packet = packet_limit, wire.safe_packet(packet_limit)
        self.client, self.owned, self.timeout = client, owned, timeout
        self.negotiated_timeout = client._session_timeout / 1000
        self._listener = listener
        self._grants_before = 0
        self._refused = False
        self._closed = False
        self._lock, self._state = threading.Lock(), KazooState.LOST
        # Set from the moment at which requests are behind the sync of a new session.
        self._ready = threading.Event()
        self.tap = Tap.join(client, self)
        client.add_listener(self._on_state)

    @property
    def hosts(self) -> str:
        """The members that we know, as a connection string."""
        members = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.client.hosts)
        return f"{members}{self.client.chroot}"

    @property
    def authenticated(self) -> bool:
        """Whether the ensemble can tell us from others."""
        return bool(self.client.auth_data or self.client._connection.sasl_options)

    @property
    def is_linked(self) -> bool:
        """Whether a request can be sent now, as far as we know."""
        return self._ready.is_set() and not self._refused and not self._closed

    @property
    def session_id(self) -> int:
        """The session's id, 0 if there is none."""
        return self.client._session_id or 0

    def check_not_system(self, path: str) -> None:
        """See to it that nobody changes ZooKeeper's own nodes, or ours.

        Raises:
            BadPath: the path is one of them.
        """
        rooted = wire.rooted(self.client.chroot, path)
        if paths.within(path, SYSTEM) or paths.within(rooted, SYSTEM):
            raise errors.BadPath(f"{path} belongs to ZooKeeper", hint="name a node of yours")
        if MARKS in rooted.split("/"):
            raise errors.BadPath(
                f"{path} belongs to zkfleet, which keeps its marks there",
                hint="name a node of yours; delete it from a text that an earlier zkfleet exported",
            )

    # -- coming and going

    def open(self, *, wait: bool) -> None:
        """Connect and check the server.

        Raises:
            ConnectFailed: nobody answered within the timeout, and not `wait`.
            UnsupportedServer: the server is older than 3.6.
            ChrootNotFound: the chroot is not there.
            BadAuth: the credentials were refused.
        """
        deadline = time.monotonic() + self.timeout
        live = self.client.start_async()
        while not live.wait(min(1.0, self.timeout)):
            self._check_refused()
            if time.monotonic() < deadline:
                continue
            refusals = ask_members(self.client, min(1.0, self.timeout))
            why = "; ".join(map(str, refusals))
            if not wait:
                raise errors.ConnectFailed(
                    f"no ZooKeeper answered at {self.hosts} within {self.timeout:g} s ({why})",
                    hint=remedy(refusals, encrypted=self.client.use_ssl),
                )
            logger.warning(
                "zookeeper_unreachable hosts=%s waited_seconds=%.0f reason=%r", self.hosts, self.timeout, why
            )
            deadline = time.monotonic() + WARN_EVERY
        if not self.owned:
            self._on_state(None)  # it may have been connected before we listened
        self._check_server()

    def _check_server(self) -> None:
        try:
            version = server_version(wire.four_letters(self.client, b"srvr", self.timeout))
        except (OSError, kazoo_errors.KazooException) as exc:
            logger.warning("zookeeper_version_unknown hosts=%s reason=%r", self.hosts, exc)
            version = None
        if version is not None and version < OLDEST_SERVER:
            raise errors.UnsupportedServer(
                f"{self.hosts} runs ZooKeeper {'.'.join(map(str, version))}, and zkfleet needs 3.6 or later",
                hint="earlier servers know neither multiRead nor persistent watches",
            )
        # kazoo calls a link connected before SASL has taken place: only an answer tells.
        if self.call(self._exists, path="/") is None:
            raise errors.ChrootNotFound(self.client.chroot, self.hosts)

    def _exists(self, then: Callable[[Any, Exception | None, int], None]) -> None:
        self.send(Exists(wire.rooted(self.client.chroot, "/"), None), then)

    def forget(self) -> None:
        """Give the session up: the next connection gets a new one."""
        self.tap.forget_session(self._grants_before)

    def close(self, timeout: float) -> None:
        """End the session if it is ours, and stop listening in any case.

        A server that says nothing is waited for at most `timeout` seconds; then
        the session is left to its own end.
        """
        self._closed = True
        self._ready.set()  # whoever waits for the link looks again
        self.client.remove_listener(self._on_state)
        if self.owned and not self.tap.end_session(timeout):
            logger.warning("session_left_to_expire id=0x%x hosts=%s", self.session_id, self.hosts)
        self.tap.leave(self)

    def abandon(self) -> None:
        """Let go without a word to anybody: we are a fork, and this is our parent's."""
        self._closed = True

    def on_event(self, event: Event, path: str) -> None:
        """Hand a watch event on, but for those of our marks: nobody sees them."""
        if MARKS not in path or MARKS not in path.split("/"):
            self._listener.on_event(event, path)

    def on_grant(self, timeout: float) -> None:
        """Take note of what the server granted."""
        self.negotiated_timeout = timeout

    def _on_state(self, state: str | None) -> None:
        with self._lock:
            state = state or self.client.state
            if state != self._state:
                self._state = state
                self._take_state(state)

    def _take_state(self, state: str) -> None:
        self._refused = self.client._state == "AUTH_FAILED"
        if state == KazooState.CONNECTED:
            # This member may lag behind what an old session saw, and behind writes
            # of this one whose replies were lost: it has not seen those, so the
            # zxid that kazoo shows it does not tell.  This travels first, and all
            # later reads wait for it.
            self.send(Sync(wire.rooted(self.client.chroot, "/")), _ignore)
            self._ready.set()
            self._listener.on_link(True, self.session_id, self.tap.grants)
            return
        if not self._refused:
            self._ready.clear()
        else:
            self._ready.set()  # waiting does not help
        self._grants_before = self.tap.grants
        self._listener.on_link(False, self.session_id, self.tap.grants)

    # -- requests

    def send(
        self, request: Any, then: Callable[[Any, Exception | None, int], None], *, grant: int | None = None
    ) -> None:
        """Queue a request without waiting; see `Tap.send`."""
        self.tap.send(request, then, grant=grant)

    def ask(self, batch: Batch, then: Callable[[Answer | None, Exception | None], None]) -> None:
        """Queue a batch of reads without waiting; `then(answer, error)` gets the outcome.

        A batch over the packet limit is split, and is then no single point in time.
        """
        runs = list(wire.batches(batch.reads, self.safe_packet))
        whole = len(runs) == 1
        gathered: list[Reply] = []

        def step(value: tuple[Reply, ...] | None, error: Exception | None, zxid: int) -> None:
            if error is not None or value is None:
                then(None, error)
                return
            gathered.extend(value)
            if runs:
                self.send(wire.MultiRead(runs.pop(0), self.client.chroot), step)
            else:
                then(Answer(tuple(gathered), zxid, whole), None)

        self.send(wire.MultiRead(runs.pop(0), self.client.chroot), step)

    def read(self, reading: Callable[[], Reading[T]], *, timeout: float | None = None) -> T:
        """Run a reading to its end, from its beginning again when the link breaks.

        Args:
            reading: makes the reading; called once for every try.
            timeout: seconds in all; None for the session's.

        Raises:
            NotConnected: no link in all that time.
        """
        deadline = Deadline(self.timeout if timeout is None else timeout)
        while True:
            try:
                return self._read_once(reading(), deadline)
            except (kazoo_errors.ConnectionLoss, kazoo_errors.SessionExpiredError):
                deadline.pause()
            except kazoo_errors.KazooException as exc:
                raise mapped(exc, "/", "read") from exc

    def _read_once(self, reading: Reading[T], deadline: "Deadline") -> T:
        try:
            batch = next(reading)
            while True:
                self._wait_for_link(deadline)
                future: Future[Answer] = Future()
                self.ask(batch, partial(settle, future))
                batch = reading.send(self._result(future, deadline, "the reply to a read"))
        except StopIteration as end:
            result: T = end.value
            return result

    def call(
        self,
        queue: Callable[[Callable[[Any, Exception | None, int], None]], None],
        *,
        path: str,
        timeout: float | None = None,
    ) -> Any:
        """Queue one request that may be repeated and wait for its value, again when the link breaks."""
        deadline = Deadline(self.timeout if timeout is None else timeout)
        while True:
            self._wait_for_link(deadline)
            future: Future[Any] = Future()
            queue(partial(settle, future))
            try:
                return self._result(future, deadline, f"the reply about {path}")
            except (kazoo_errors.ConnectionLoss, kazoo_errors.SessionExpiredError):
                deadline.pause()
            except kazoo_errors.NoNodeError:
                return None
            except kazoo_errors.KazooException as exc:
                raise mapped(exc, path, "read") from exc

    def send_once(self, request: Any, *, path: str, deadline: "Deadline", grant: int | None = None) -> Replied:
        """Send a write and wait for its reply; it is sent once, or not at all.

        Args:
            request: in kazoo's form.
            path: to name in errors.
            deadline: how long that may take.
            grant: the connection over which it may go, see `Tap.send`; None for any.

        Raises:
            NotConnected: it was not sent, and will not be.
            OutcomeUnknown: it was sent, and there was no reply: it may have happened.
            NotSent: the connection over which it might go is gone.
            KazooException: the server refused it.
        """
        while True:
            self._wait_for_link(deadline)
            if not deadline.left():
                raise errors.NotConnected(f"{path}: no time is left of {deadline.seconds:g} s", hint=NOT_SENT)
            future: Future[Replied] = Future()
            awaited = self.tap.send(request, partial(_settle_with_zxid, future), grant=grant)
            try:
                return self._result(future, deadline, f"the reply to a write of {path}")
            except wire.NotSent:
                if grant is not None:
                    raise
                deadline.pause()
            except LOST as exc:
                raise errors.OutcomeUnknown(
                    f"the link broke while {path} was being written; it may have happened", hint=LOOK
                ) from exc
            except errors.WaitTimedOut as exc:
                if awaited.withdraw():
                    raise errors.NotConnected(f"{path}: {exc}", hint=NOT_SENT) from exc
                raise errors.OutcomeUnknown(f"{path}: {exc}; it may have been written", hint=LOOK) from exc

    def ask_all(self, requests: Sequence[Any], *, timeout: float | None = None) -> list[Any]:
        """Send requests that no batch takes, all before the first reply is awaited.

        Returns:
            For each its value, or the exception that kazoo gives.
        """
        deadline = Deadline(self.timeout if timeout is None else timeout)
        self._wait_for_link(deadline)
        futures: list[Future[Any]] = []
        for request in requests:
            futures.append(Future())
            self.send(request, partial(settle, futures[-1]))
        found: list[Any] = []
        for future in futures:
            try:
                found.append(self._result(future, deadline, "a reply"))
            except kazoo_errors.KazooException as exc:
                found.append(exc)
        return found

    def _wait_for_link(self, deadline: "Deadline") -> None:
        self.check_usable()
        if not self._ready.wait(deadline.left()):
            raise errors.NotConnected(
                f"no link to {self.hosts} for {deadline.seconds:g} s",
                hint=NOT_SENT,
            )
        self.check_usable()
        self._check_refused()

    def _check_refused(self) -> None:
        if self._refused:
            raise errors.BadAuth(f"{self.hosts} refused the credentials")

    def _result(self, future: "Future[T]", deadline: "Deadline", what: str) -> T:
        try:
            return future.result(max(deadline.left(), 0.001))
        except FutureTimeout:
            # kazoo waits for an answer to SASL for ever.
            sasl = self.client._connection.sasl_options
            raise errors.WaitTimedOut(
                f"{what} did not come from {self.hosts} within {deadline.seconds:g} s",
                hint=SASL_UNANSWERED if sasl else SLOW,
            ) from None

    def check_usable(self) -> None:
        """Raise `Closed` after `close()`."""
        if self._closed:
            raise errors.Closed("this registry is closed")


class Deadline:
    """How long a wait may still take; `seconds` is what it was given."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, at least 0."""
        return max(self._end - time.monotonic(), 0.0)

    def pause(self) -> None:
        """Rest a moment before the next try."""
        threading.Event().wait(min(0.02, self.left()))


def _settle_with_zxid(future: "Future[Replied]", value: Any, error: Exception | None, zxid: int) -> None:
    settle(future, Replied(value, zxid), error)


def settle(future: "Future[Any]", value: Any, error: Exception | None, _zxid: int = 0) -> None:
    """Give a future its outcome."""
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)


def server_version(answer: str) -> tuple[int, ...] | None:
    """Return the version in an answer to `srvr`, or None if there is none in it."""
    found = re.search(r"^Zookeeper version: (\d+(?:\.\d+)*)", answer, re.MULTILINE)
    return tuple(int(number) for number in found[1].split(".")) if found else None


def _ignore(_value: object, _error: Exception | None, _zxid: int) -> None:
    """Whoever waits behind this one hears of a broken link, too."""


def mapped(error: Exception, path: str, permission: str) -> errors.ZkfleetError:
    """Return our error for one of kazoo's."""
    match error:
        case kazoo_errors.NoNodeError():
            return errors.NodeNotFound(path)
        case kazoo_errors.NodeExistsError():
            return errors.NodeExists(f"{path} is there already")
        case kazoo_errors.NotEmptyError():
            return errors.NodeNotEmpty(f"{path} has children")
        case kazoo_errors.NoChildrenForEphemeralsError():
            return errors.BadPath(f"{path}: the node above it is ephemeral, and ephemeral nodes have no children")
        case kazoo_errors.NoAuthError():
            return errors.AccessDenied(path, permission)
        case kazoo_errors.InvalidACLError():
            return errors.BadAcl(f"{path}: the server refuses this ACL")
        case kazoo_errors.AuthFailedError():
            return errors.BadAuth("the ensemble refused the credentials")
        case kazoo_errors.ConnectionClosedError():
            return errors.Closed("the client was closed")
    return errors.NotConnected(f"{path}: {type(error).__name__} from ZooKeeper: {error}")
