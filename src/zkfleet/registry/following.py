"""How does a view stay true, and who hears of it?

A `Following` keeps one snapshot of one path current.  The hub's thread reads
and replaces the snapshot; any thread may look at it, wait for it, subscribe
to it.  The classes that users see (`views`) are faces on this.

Always: the snapshot is replaced as a whole, and shows one moment; it stays
while the link is down, and `stale_since` says so; subscribers of one view are
called one after the other, never with a state older than one they saw, and
always with the last.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, TypeVar

from zkfleet.errors import ZkfleetError
from zkfleet.registry.agenda import Agenda, Work
from zkfleet.registry.callbacks import Turns
from zkfleet.registry.hub import Hub
from zkfleet.registry.readings import Snapshot
from zkfleet.registry.reads import Event, Reading
from zkfleet.spelling import get_logger

logger = get_logger(__name__)

T = TypeVar("T")
RETRY_AFTER = 1.0


class Following(Generic[T]):
    """One path, followed.

    Args:
        hub: the thread that this lives on.
        path: what to follow, links and all.
        read: makes the reading of everything.
        reread: makes the reading of some children, if the view is of that
            kind; then events of children are told apart by their names.
        kind: what sort of view it is of, for those who look at it.
    """

    urgent = False

    def __init__(
        self,
        hub: Hub,
        path: str,
        read: Callable[[str], Reading[Snapshot[T]]],
        reread: Callable[[Snapshot[T], frozenset[str]], Reading[Snapshot[T]]] | None = None,
        kind: str = "",
    ) -> None:
        self.hub, self.path, self.kind = hub, path, kind
        self._read, self._reread = read, reread
        self.snapshot: Snapshot[T] | None = None
        self._newest: Snapshot[T] | None = None  # what was read last; it may not be shown yet
        self.error: Exception | None = None
        self.stale_since: float | None = time.time()
        self.closed = False
        self._set_up()
        self._subscribers: list[Subscriber[T]] = []

    def _set_up(self) -> None:
        self._agenda = Agenda()
        self._retrying = False
        self._turns = Turns(lambda: self.hub.deliver(self._deliver))
        self._changed, self._changes = threading.Condition(), 0

    # -- on the hub's thread

    def on_connected(self) -> None:
        """Read everything again."""
        self._agenda.connected()
        self._go_on()

    def on_suspended(self) -> None:
        """Keep what we know and say that it is stale."""
        self._agenda.suspended()
        with self._told():
            self.stale_since = self.stale_since or time.time()

    def on_event(self, event: Event, path: str) -> None:
        """Read what the event may have changed."""
        if self._is_for_us(path):
            self._agenda.note(self._child(path))
            self._go_on()

    def on_audit(self) -> None:
        """Read everything again."""
        self._agenda.note()
        self._go_on()

    def on_closing(self) -> None:
        """The session ends: stop following."""
        self.close()

    # What was read last tells which event is about what; while everything is
    # read, perhaps at another place, no event can be told from another.

    def _is_for_us(self, path: str) -> bool:
        if self._any_path() or self._newest is None or self._newest.real_path is None:
            return True
        below = path.removeprefix(self._newest.real_path.rstrip("/"))
        return path in self._newest.consulted or below.count("/") <= 1

    def _child(self, path: str) -> str | None:
        """Return the name of the child that an event is about, None if it is about more."""
        if self._any_path() or self._newest is None or path in self._newest.consulted:
            return None
        return path.rpartition("/")[2]

    def _any_path(self) -> bool:
        newest = self._newest
        return self._reread is None or newest is None or newest.real_path is None or self._agenda.reads_everything

    def _go_on(self) -> None:
        if not self.closed and (work := self._agenda.begin()):
            self.hub.read(self, self._reading(work), partial(self._done, work))

    def _reading(self, work: Work) -> Reading[Snapshot[T]]:
        if work.everything or self._reread is None or self._newest is None:
            return self._read(self.path)
        return self._reread(self._newest, work.names)

    def _done(self, work: Work, snapshot: Snapshot[T] | None, error: Exception | None) -> None:
        if not self._agenda.end(work, read=snapshot is not None):
            if error is not None:
                self._fail(error)
            return
        assert snapshot is not None
        self.error, self._newest = None, snapshot
        if work.everything:
            self.hub.keep_only(self, snapshot.consulted | ({snapshot.real_path} if snapshot.real_path else set()))
        if self._agenda.shows(whole=snapshot.whole, first=self.snapshot is None):
            self._replace(snapshot)
        self._go_on()

    def _fail(self, error: Exception) -> None:
        # We may not read it, or the server answered nonsense: keep what we
        # have, say so once, and look again in a while.
        if repr(error) != repr(self.error):
            logger.warning("view_unreadable path=%s error=%r", self.path, error)
        with self._told():
            self.error = error
            self.stale_since = self.stale_since or time.time()
        if not self._retrying:
            self._retrying = True
            self.hub.later(RETRY_AFTER, self._retry)

    def _retry(self) -> None:
        self._retrying = False
        self._go_on()

    def _replace(self, snapshot: Snapshot[T]) -> None:
        old = self.snapshot
        with self._told():
            if self.closed:
                return  # what was shown last stays
            self.snapshot = snapshot
            if self._agenda.current:
                self.stale_since = None
        if old is None or not snapshot.says_the_same(old):
            if old is not None and snapshot.problem is not None:
                logger.warning("view_emptied path=%s reason=%s", self.path, snapshot.problem)
            if self._subscribers:
                self._turns.changed()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Have waiting threads look again after this."""
        with self._changed:
            yield
            self._changes += 1
            self._changed.notify_all()

    # -- on any thread

    def snapshot_zxid(self) -> int:
        """Return the zxid up to which the snapshot is true, -1 before the first."""
        return self.snapshot.zxid if self.snapshot else -1

    def wait_until(self, happened: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until `happened()`, asked again whenever something changed, or until we are closed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            seen = self._changes
            # It is the caller's, and may take its time or ask us: no lock is held.
            if self.closed or happened():
                return True
            with self._changed:
                left = None if deadline is None else max(deadline - time.monotonic(), 0)
                if not self._changed.wait_for(partial(self._changed_since, seen), left):
                    return False

    def _changed_since(self, seen: int) -> bool:
        return self._changes != seen

    def _deliver(self) -> None:
        self._turns.begin()
        try:
            for subscriber in list(self._subscribers):
                if not self.closed:
                    subscriber.call(self.snapshot)
        finally:
            self._turns.end()

    def subscribe(self, subscriber: "Subscriber[T]", *, here: bool) -> None:
        """Add a subscriber and have it called on the callbacks' thread.

        Args:
            subscriber: is called with what there is, and with every change.
            here: we are on that thread.  It is called before this returns,
                unless callbacks of this view run on another thread just now.
        """
        self._subscribers.append(subscriber)
        if self.closed:
            subscriber.end()
        elif here and self._turns.mine():
            subscriber.call(self.snapshot)
        elif here and self._turns.take():
            try:
                subscriber.call(self.snapshot)
            finally:
                self._turns.end()
        else:
            self._turns.changed()

    def unsubscribe(self, subscriber: "Subscriber[T]") -> None:
        """Drop a subscriber, if it is still there."""
        if subscriber in self._subscribers:
            self._subscribers.remove(subscriber)

    def move_to(self, hub: Hub) -> None:
        """Live on in a forked child, on a hub of its own; nothing of the parent's threads is kept."""
        self.hub = hub
        self._set_up()
        self.stale_since = self.stale_since or time.time()
        hub.post(hub.join, self)

    def close(self) -> None:
        """Stop following; waiting threads wake up."""
        with self._told():
            self.closed = True
        for subscriber in list(self._subscribers):
            subscriber.end()
        self._subscribers.clear()
        self.hub.post(self.hub.leave, self)

    @property
    def subscribers(self) -> int:
        """How many there are."""
        return len(self._subscribers)

    @property
    def problem(self) -> ZkfleetError | None:
        """Why the path leads nowhere at the moment, or None."""
        return self.snapshot.problem if self.snapshot else None


class Subscriber(Generic[T]):
    """A callback, the view that it is called with, and what it saw last.

    Args:
        function: the callback.
        view: what it is called with.
        ended: called once, on any thread, when the view is closed.
    """

    def __init__(
        self, function: Callable[[Any], object], view: Any, ended: Callable[[], object] = lambda: None
    ) -> None:
        self._function, self._view, self._ended = function, view, ended
        self._seen: Snapshot[T] | None = None
        self.called = threading.Event()

    def call(self, snapshot: Snapshot[T] | None) -> None:
        """Call the callback unless it saw this state; what it raises is logged."""
        if snapshot is None or (self._seen is not None and snapshot.says_the_same(self._seen)):
            return
        self._seen = snapshot
        try:
            self._function(self._view)
        except Exception:  # one user's callback must not keep another's from being called
            logger.exception("callback_failed path=%s callback=%r", self._view.path, self._function)
        finally:
            self.called.set()

    def end(self) -> None:
        """There is nothing more to come: the view was closed."""
        self.called.set()
        self._ended()
