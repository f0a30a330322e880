"""When does a registry's session begin, and when and how does it end?

The part of a `Registry` that lives: the session, the threads, what happens to
both when it is closed, when the process forks, and when it ends.  What can be
asked is in `registry`.
"""

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar

from kazoo.client import KazooClient

from zkfleet.errors import Closed, ForkedSession, ZkfleetError
from zkfleet.registry.callbacks import Callbacks
from zkfleet.registry.following import Following
from zkfleet.registry.hub import Hub
from zkfleet.registry.reads import Reading
from zkfleet.registry.registration import Registration
from zkfleet.registry.session import Deadline, Session, logger
from zkfleet.registry.writing import Writer

T = TypeVar("T")
AfterFork = Literal["error", "reconnect"]
AUDIT_SECONDS = 300.0
SHORTEST_GOODBYE = 0.5
SECONDS_AT_EXIT = 2.0

# A process that ends without closing would leave its addresses in ZooKeeper
# until its session is over.
_open: "weakref.WeakValueDictionary[int, Life]" = weakref.WeakValueDictionary()


@atexit.register
def _close_all() -> None:
    for life in [life for life in _all() if life.is_of_this_process]:
        try:
            life.close(min(life.timeout, SECONDS_AT_EXIT))
        except Exception:  # the others must be closed all the same, and nobody is there to hear of it
            logger.exception("registry_not_closed hosts=%s", life.session.hosts)


def _after_fork() -> None:
    # Other threads may have held them, which are not there in the child.
    for life in _all():
        life.renew_lock()


os.register_at_fork(after_in_child=_after_fork)


def open_registries() -> "list[Life]":
    """Return the registries that this process has open."""
    return [life for life in _all() if life.is_open]


def _all() -> "list[Life]":
    # Taken at once: other threads may open one while we look.
    return [life for reference in _open.valuerefs() if (life := reference()) is not None]


@dataclass(frozen=True, slots=True)
class Followed:
    """How a view that is open stands.

    Attributes:
        path: that was asked for.
        kind: `children`, `providers`, `properties` or `tree`.
        real_path: where that leads, or None.
        stale_since: when we lost sight of it, seconds since 1970, or None.
        age: seconds since it was read; None before the first time.
        watches: znodes that are watched for it.
        subscribers: functions that are called with it.
        problem: why there is nothing to see, or "".
    """

    path: str
    kind: str
    real_path: str | None
    stale_since: float | None
    age: float | None
    watches: int
    subscribers: int
    problem: str


@dataclass(frozen=True, slots=True)
class Statistics:
    """How a registry's session stands.

    Attributes:
        session_id: 0 if there is none.
        negotiated_timeout: seconds that the server granted.
        state: `connected`, `suspended` or `closed`.
        since: seconds since 1970.
        reconnects: connections after the first.
        expiries: sessions that were lost.
        views: that are open.
        registrations: that are open.
        watches: that we have on the server.
    """

    session_id: int
    negotiated_timeout: float
    state: str
    since: float
    reconnects: int
    expiries: int
    views: int
    registrations: int
    watches: int


def _followed(one: "Following[Any]") -> Followed:
    seen = one.snapshot
    problem = one.error or one.problem
    return Followed(
        path=one.path,
        kind=one.kind,
        real_path=seen.real_path if seen else None,
        stale_since=one.stale_since,
        age=time.monotonic() - seen.read_at if seen else None,
        watches=one.hub.watches_of(one),
        subscribers=one.subscribers,
        problem=str(problem or ""),
    )


class Life:
    """A session with the ensemble, and everything that lives on it."""

    def __init__(
        self,
        make_client: Callable[[], KazooClient],
        *,
        owned: bool,
        timeout: float,
        after_fork: AfterFork,
        packet_limit: int,
    ) -> None:
        self.timeout, self._packet_limit = timeout, packet_limit
        self._make_client, self._owned, self._after_fork = make_client, owned, after_fork
        self._lock = threading.RLock()
        self._closed = False
        self._registrations: dict[Registration, None] = {}
        self._set_up()

    def _set_up(self) -> None:
        self._callbacks = Callbacks()
        self.hub = Hub(self._callbacks, audit=AUDIT_SECONDS)
        client = self._make_client()
        self.session = self.hub.session = Session(
            client, owned=self._owned, listener=self.hub, timeout=self.timeout, packet_limit=self._packet_limit
        )
        self._authenticated = self.session.authenticated
        self.writer = Writer(self.session)
        # Last: other threads of a forked child take it for a sign that all of this is theirs.
        self._pid = os.getpid()

    def open(self, *, wait: bool) -> None:
        """Connect; called once by `connect`."""
        try:
            self._begin(wait=wait)
        except BaseException:
            self._closed = True
            raise
        _open[id(self)] = self

    def _begin(self, *, wait: bool) -> None:
        self.hub.start()
        try:
            self.session.open(wait=wait)
        except BaseException:
            self._tear_down(Deadline(SHORTEST_GOODBYE))
            raise

    # -- the session

    def close(self, timeout: float | None = None) -> None:
        """Take our registrations out and end the session.  Twice is fine, and so is a callback.

        Views are closed first: they keep what they showed, and no callback of
        theirs begins any more.

        Args:
            timeout: seconds in all that ZooKeeper may take; None for the registry's.

        Raises:
            WaitTimedOut, AccessDenied: a registration is left in the session of
                a client that was given to us; our own session takes all with it.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if not self.is_of_this_process:
            self.session.abandon()
            return
        deadline = Deadline(self.timeout if timeout is None else timeout)
        self._close_views()
        # Again on the hub's thread, before our registrations go: one may be on its way to it.
        self.hub.post(self._close_views)
        try:
            self._close_registrations(deadline)
        finally:
            self._tear_down(deadline)

    def _close_views(self) -> None:
        for member in list(self.hub.members):
            if isinstance(member, Following):
                member.close()

    def _close_registrations(self, deadline: Deadline) -> None:
        registrations, left = list(self._registrations), None
        for registration in registrations:
            registration.begin_close()
        if self.hub.connected or not self.session.owned:
            for registration in registrations:
                try:
                    registration.close(deadline.left())
                except ZkfleetError as exc:
                    logger.warning("registration_left_to_the_session path=%s reason=%s", registration.path, exc)
                    left = exc
        for registration in registrations:
            registration.give_up()
        if left is not None and not self.session.owned:
            raise left

    def _tear_down(self, deadline: Deadline) -> None:
        self.hub.post(self.hub.close_members)
        self.writer.marks.remove_all()
        self.session.close(max(deadline.left(), SHORTEST_GOODBYE))
        self.hub.stop(max(deadline.left(), SHORTEST_GOODBYE))
        self._callbacks.stop(max(deadline.left(), SHORTEST_GOODBYE))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def renew_lock(self) -> None:
        """In a forked child: have a lock that nobody holds."""
        self._lock = threading.RLock()

    def check_fork(self) -> None:
        """See to it that a child process does not use its parent's session.

        Raises:
            ForkedSession: it would, and was not told to reconnect.
        """
        if self.is_of_this_process:
            return
        if self._after_fork != "reconnect" or not self._owned:
            raise ForkedSession(
                f"this registry was opened by process {self._pid}, and this is its child {os.getpid()}",
                hint="connect again in the child, or open it with after_fork='reconnect'",
            )
        with self._lock:
            if not self.is_of_this_process:
                self._start_anew()

    def _start_anew(self) -> None:
        if self._closed:
            raise Closed("this registry was closed", hint="open another with zkfleet.connect()")
        followed = [member for member in self.hub.members if isinstance(member, Following)]
        former = (self._pid, self.hub, self.session, self.writer, self._callbacks)
        self._set_up()
        try:
            self._begin(wait=False)
        except BaseException:
            # Still a child without a session: the next use tries again.
            self._pid, self.hub, self.session, self.writer, self._callbacks = former
            raise
        self._registrations = {}
        _open[id(self)] = self
        for following in followed:
            following.move_to(self.hub)

    @property
    def is_of_this_process(self) -> bool:
        """Whether this is not a child of the process that opened it."""
        return os.getpid() == self._pid

    def in_callback(self) -> bool:
        """Tell whether the caller runs inside one of our callbacks."""
        return self._callbacks.on_this_thread()

    def statistics(self) -> Statistics:
        """Say how the session stands."""
        hub = self.hub
        closed = self._closed or not self.is_of_this_process
        return Statistics(
            session_id=0 if closed else self.session.session_id,
            negotiated_timeout=self.session.negotiated_timeout,
            state="closed" if closed else "connected" if hub.connected else "suspended",
            since=hub.since,
            reconnects=max(hub.epoch - 1, 0),
            expiries=len(hub.former_sessions),
            views=sum(isinstance(member, Following) for member in list(hub.members)),
            registrations=len(self._registrations),
            watches=hub.watches,
        )

    @property
    def is_open(self) -> bool:
        """Whether it was opened by this process, and was not closed."""
        return self.is_of_this_process and not self._closed

    @property
    def registrations(self) -> tuple[Registration, ...]:
        """Those that are open."""
        return tuple(self._registrations)

    def followed(self) -> list[Followed]:
        """Say how each view stands that is open."""
        return [_followed(member) for member in list(self.hub.members) if isinstance(member, Following)]

    def read(self, reading: Callable[[], Reading[T]], *, timeout: float | None = None) -> T:
        """Run a reading (see `registry.reads`) and return its result."""
        self.check_fork()
        return self.session.read(reading, timeout=timeout)

    def check_open(self) -> None:
        """Raise `Closed` after `close()`, and `ForkedSession` as `check_fork`."""
        self.check_fork()
        if self._closed:
            raise Closed("this registry is closed", hint="open another with zkfleet.connect()")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.session.hosts}: {self.statistics().state}>"
