"""Who acts when something happens, and on which thread?

One thread per registry owns all that changes: which views and registrations
there are, what they watch, what must be read next.  kazoo's thread and the
callers' threads only post to it.  It sends requests and never waits for one,
so it is idle or about to be.

    kazoo's connection thread --- link, events, replies ---> hub thread
    any caller                --- open, update, close   ---> hub thread
    hub thread                --- requests              ---> kazoo
    hub thread                --- changed views         ---> callbacks

A member of the hub (a view or a claim) is only touched on that thread.
"""

import contextlib
import heapq
import itertools
import queue
import random
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from kazoo.exceptions import ConnectionClosedError, ConnectionLoss, SessionExpiredError

from zkfleet import paths
from zkfleet.registry.callbacks import PATIENCE, Callbacks
from zkfleet.registry.reads import Answer, Batch, Event, Mode, Reading, Watch
from zkfleet.registry.session import Session
from zkfleet.registry.wire import AddWatch, RemoveWatches, rooted
from zkfleet.spelling import get_logger

logger = get_logger(__name__)

T = TypeVar("T")
Message = tuple[Callable[..., None], tuple[Any, ...]]
LINK_ERRORS = (ConnectionLoss, SessionExpiredError, ConnectionClosedError)

# After a reconnection every view reads all it follows again.  A few at a time,
# spread over up to a second when there are many, keeps thousands of clients
# from pressing a recovering ensemble down at once.
READINGS_AT_ONCE = 16
SPREAD_FROM = 50
SPREAD_PER_MEMBER = 0.001
LONGEST_SPREAD = 1.0

# A server decides that a session is over; a client that cannot reach one must
# assume it some time after the timeout (ZOOKEEPER-4508 uses the same factor).
ASSUMED_EXPIRED = 4 / 3


class Member(Protocol):
    """What lives in the hub; all of it is called on the hub's thread.

    Attributes:
        urgent: whether it must come back first when the link does.
    """

    urgent: bool

    def on_connected(self) -> None:
        """A connection is up; the session may be another one than before."""

    def on_suspended(self) -> None:
        """The connection is gone; the session may live on."""

    def on_event(self, event: Event, path: str) -> None:
        """Something happened at a path that this member watches."""

    def on_audit(self) -> None:
        """It is time to look at everything again, told or not."""

    def on_closing(self) -> None:
        """The session ends now."""


class Hub:
    """The thread that a registry lives on.

    Args:
        audit: seconds between two looks at everything, which find what a lost
            watch hid (ZOOKEEPER-4466, nodes that we could not read, ...).
    """

    def __init__(self, callbacks: Callbacks, *, audit: float) -> None:
        self.session: Session
        self._callbacks, self._relief_due = callbacks, False
        self.audit = audit
        self.connected = False
        self.session_id = 0
        self.former_sessions: set[int] = set()
        self.epoch = self.grant = self._given_up_in = 0
        self._closing = False
        self.since = time.time()
        self.members: dict[Member, None] = {}
        self._interests: dict[str, dict[Member, Mode]] = defaultdict(dict)
        self._watched: dict[Member, set[str]] = defaultdict(set)
        self._waiting: deque[tuple[Member, Callable[[], None]]] = deque()
        self._under_way = 0
        self._inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._over = False
        self._timers: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()
        self._thread = threading.Thread(target=self._run, name="zkfleet-registry", daemon=True)

    # -- the thread

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()
        self.post(self.later, self._audit_pause(), self._audit)

    def stop(self, timeout: float) -> None:
        """End the thread after what was posted before; from the thread itself, later."""
        self._inbox.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def post(self, function: Callable[..., None], *arguments: Any) -> None:
        """Run a function on the hub's thread, after all that was posted before.

        When the thread has ended there is nothing left to keep apart: it runs here.
        """
        self._inbox.put((function, arguments))
        if self._over:
            self._finish()

    def later(self, seconds: float, function: Callable[..., None], *arguments: Any) -> None:
        """Run a function on the hub's thread after a time.  Hub thread only."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), function, arguments))

    def _run(self) -> None:
        while message := self._next():
            self._do(*message)
            del message
        self._over = True
        self._finish()

    def _finish(self) -> None:
        """Do what was posted too late, on whichever thread finds it."""
        with contextlib.suppress(queue.Empty):
            while True:
                if message := self._inbox.get_nowait():
                    self._do(*message)

    @staticmethod
    def _do(function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        try:
            function(*arguments)
        except Exception:  # the thread must outlive any one member's fault
            logger.exception("registry_fault in=%s", getattr(function, "__qualname__", function))

    def _next(self) -> Message | None:
        """Wait for what is to be done next; what is due goes first, however much is posted."""
        while True:
            wait = self._timers[0][0] - time.monotonic() if self._timers else None
            if wait is not None and wait <= 0:
                _, _, function, arguments = heapq.heappop(self._timers)
                return function, arguments
            try:
                return self._inbox.get(timeout=wait)
            except queue.Empty:
                continue

    # -- what kazoo's connection thread posts

    def on_link(self, connected: bool, session_id: int, grant: int) -> None:
        """Take the news that the link came up or went down, on kazoo's thread."""
        self.post(self._linked if connected else self._suspended, session_id, grant)

    def on_event(self, event: Event, path: str) -> None:
        """Take a watch event, on kazoo's thread."""
        self.post(self._happened, event, path)

    def _linked(self, session_id: int, grant: int) -> None:
        self.grant = grant
        if self.epoch:
            logger.info("link_restored hosts=%s after_seconds=%.1f", self.session.hosts, time.time() - self.since)
        self.connected, self.since = True, time.time()
        self.epoch += 1
        if session_id != self.session_id:
            if self.session_id:
                self.former_sessions.add(self.session_id)
                logger.warning("session_replaced old=0x%x new=0x%x", self.session_id, session_id)
            self.session_id = session_id
        self._waiting.clear()
        self._under_way = 0
        for member in list(self.members):
            if member.urgent:
                member.on_connected()
            else:
                self._spread(member.on_connected)

    def _suspended(self, _session_id: int, _grant: int) -> None:
        if not self.connected:
            return
        self.connected, self.since = False, time.time()
        logger.warning("link_lost hosts=%s", self.session.hosts)
        self._assume_expired_later()
        for member in list(self.members):
            member.on_suspended()

    def _assume_expired(self, epoch: int) -> None:
        # The session of a client that we were given is its owner's to give up.
        if not self.connected and epoch == self.epoch and self.session.owned:
            if self._given_up_in != epoch:
                self._given_up_in = epoch
                logger.warning("session_assumed_expired id=0x%x", self.session_id)
            self.session.forget()
            self._assume_expired_later()

    def _assume_expired_later(self) -> None:
        self.later(self.session.negotiated_timeout * ASSUMED_EXPIRED, self._assume_expired, self.epoch)

    def _happened(self, event: Event, path: str) -> None:
        for member, mode in list(self._interests.get(path, {}).items()):
            # A recursive watcher also hears of children's lists when somebody
            # on its connection has a standard child watch (ZOOKEEPER-4475).
            if event is not Event.CHILDREN or mode is Mode.PERSISTENT:
                member.on_event(event, path)
        if event is not Event.CHILDREN:
            for above in paths.ancestors(path):
                for member, mode in list(self._interests.get(above, {}).items()):
                    if mode is Mode.RECURSIVE:
                        member.on_event(event, path)
        if event in (Event.CREATED, Event.DELETED) and path != "/":
            self._children_changed(paths.split(path)[0])

    def _children_changed(self, path: str) -> None:
        # A connection has one watch a path.  If it is a recursive one, because
        # some member wants that, the server tells of no lists of children.
        if self.session.tap.watches.is_recursive(path):
            for member, mode in list(self._interests.get(path, {}).items()):
                if mode is Mode.PERSISTENT:
                    member.on_event(Event.CHILDREN, path)

    # -- members

    def join(self, member: Member) -> None:
        """Take a member in; if we are closing, tell it that it is over."""
        if self._closing:
            member.on_closing()
            return
        self.members[member] = None
        if self.connected:
            member.on_connected()

    def close_members(self) -> None:
        """Tell all members that it is over, and whoever still wants to join."""
        self._closing = True
        for member in list(self.members):
            member.on_closing()

    def leave(self, member: Member) -> None:
        """Let a member go, and stop watching for it."""
        self.members.pop(member, None)
        self.keep_only(member, ())
        self._watched.pop(member, None)

    def keep_only(self, member: Member, wanted: Iterable[str]) -> None:
        """Forget what a member watched, but for these paths."""
        for path in self._watched[member].difference(wanted):
            self._watched[member].discard(path)
            del self._interests[path][member]
            self._unwatch(path)

    def _unwatch(self, path: str) -> None:
        if self._interests[path]:
            return
        del self._interests[path]
        # The watch of a client that we were given may be its owner's, too.
        if self.session.owned and self.session.tap.watches.drop(path) and self.connected:
            self.session.send(RemoveWatches(rooted(self.session.client.chroot, path)), _ignore)

    def watch(self, member: Member, watch: Watch) -> None:
        """See to it that the server watches a path for a member, before all that is sent from now on."""
        known = self._interests[watch.path].get(member, watch.mode)
        self._interests[watch.path][member] = max(known, watch.mode)
        self._watched[member].add(watch.path)
        mode = max(self._interests[watch.path].values())
        if self.session.tap.watches.place(watch.path, mode):
            self.session.send(AddWatch(rooted(self.session.client.chroot, watch.path), mode), _log_refusal)

    @property
    def watches(self) -> int:
        """How many watches we have on the server."""
        return len(self.session.tap.watches)

    def watches_of(self, member: Member) -> int:
        """How many znodes are watched for a member; may be called on any thread."""
        return len(self._watched.get(member, ()))

    # -- readings

    def write(self, request: Any, then: Callable[[Any, Exception | None, int], None]) -> None:
        """Send a write that rests on what was read in this epoch: over this epoch's connection, or not at all."""
        self.session.send(request, then, grant=self.grant)

    def read(self, member: Member, reading: Reading[T], then: Callable[[T | None, Exception | None], None]) -> None:
        """Run a reading for a member, with its watches; `then(result, error)` ends it.

        It begins at once unless too many are under way; those that the link
        breaks off are not ended: `on_connected` tells that all is to be done again.
        """
        self._waiting.append((member, lambda: self._advance(member, reading, None, self.epoch, then)))
        self._begin_readings()

    def _spread(self, begin: Callable[[], None]) -> None:
        """Call `begin` at once, or a little later when there are many members, if still connected."""
        if len(self.members) < SPREAD_FROM:
            begin()
        else:
            widest = min(len(self.members) * SPREAD_PER_MEMBER, LONGEST_SPREAD)
            self.later(random.uniform(0, widest), self._in_epoch, self.epoch, begin)

    def _in_epoch(self, epoch: int, begin: Callable[[], None]) -> None:
        if self.connected and epoch == self.epoch:
            begin()

    def _begin_readings(self) -> None:
        while self.connected and self._waiting and self._under_way < READINGS_AT_ONCE:
            member, begin = self._waiting.popleft()
            if member in self.members:
                self._under_way += 1
                begin()

    def _advance(
        self,
        member: Member,
        reading: Reading[T],
        answer: Answer | None,
        epoch: int,
        then: Callable[[T | None, Exception | None], None],
        error: Exception | None = None,
    ) -> None:
        if epoch != self.epoch or member not in self.members:
            self._ended(epoch)
            return
        try:
            if error is not None:
                raise error
            batch = next(reading) if answer is None else reading.send(answer)
        except StopIteration as end:
            self._ended(epoch)
            then(end.value, None)
        except LINK_ERRORS:
            self._ended(epoch)
        except Exception as exc:  # a reading's own errors, and the server's, are its caller's to judge
            self._ended(epoch)
            then(None, exc)
        else:
            self._ask(member, batch, lambda got, fault: self._advance(member, reading, got, epoch, then, fault))

    def _ask(self, member: Member, batch: Batch, then: Callable[[Answer | None, Exception | None], None]) -> None:
        for watch in batch.watch:
            self.watch(member, watch)
        self.session.ask(batch, lambda answer, error: self.post(then, answer, error))

    def _ended(self, epoch: int) -> None:
        if epoch == self.epoch:
            self._under_way -= 1
            self._begin_readings()

    # -- callbacks

    def deliver(self, job: Callable[[], None]) -> None:
        """Have a callback job run, from any thread, and see that no blocked callback holds it up."""
        self._callbacks.submit(job)
        if not self._relief_due:
            self._relief_due = True
            self.post(self.later, PATIENCE, self._relieve)

    def _relieve(self) -> None:
        self._relief_due = False
        self._callbacks.relieve()
        if self._callbacks.waiting:
            self._relief_due = True
            self.later(PATIENCE, self._relieve)

    # -- the slow audit

    def _audit_pause(self) -> float:
        return self.audit * random.uniform(0.8, 1.2)

    def _audit(self) -> None:
        self.later(self._audit_pause(), self._audit)
        if self.connected:
            self.session.tap.watches.doubt()
            for member in list(self.members):
                self._spread(member.on_audit)


def _ignore(_value: object, _error: Exception | None, _zxid: int) -> None:
    """A watch that is not there any more need not be removed."""


def _log_refusal(_value: object, error: Exception | None, _zxid: int) -> None:
    if error is not None and not isinstance(error, LINK_ERRORS):
        logger.error("watch_refused error=%r: views are refreshed by the slow audit alone", error)
