"""Who may have a connection now, and whose turn is next?

A database has one pool, shared by all doors.  It hands out slots: as many as
there may be connections, to those who wait in the order in which they came.  A
call that tries again goes before those that were never tried.  Connections
themselves are kept by ZODB; who holds a slot opens one.

A slot may be waited for by a thread or by an event loop, and given back from
anywhere, at any time, once: waiting or held, none is lost.
"""

import os
import threading
import weakref
from collections import OrderedDict
from concurrent.futures import Future
from enum import Enum
from typing import Any

from ZODB.DB import DB

from zkfleet.errors import BadInput, QueueFull
from zkfleet.workers import Workers

QUEUE = 10_000


class State(Enum):
    """Where a slot is."""

    WAITING = "waiting"
    HELD = "held"
    RETURNED = "returned"


class Slot:
    """The right to one connection, or a place in the line for it.

    Attributes:
        granted: done as soon as the slot is held, on the thread of whoever gave it back; None if it was
            held at once.  It cannot be cancelled: give the slot back.
    """

    __slots__ = ("_pool", "granted", "state")

    def __init__(self, pool: "Pool", state: State) -> None:
        self._pool, self.state = pool, state
        self.granted: Future[None] | None = None
        if state is State.WAITING:
            self.granted = Future()
            self.granted.set_running_or_notify_cancel()

    def give_back(self) -> None:
        """Leave the line, or make room for the next; twice is fine."""
        self._pool._take_back(self)


class Pool:
    """The slots of one database; safe in threads.

    Args:
        connections: how many may be open at once.
        queue: how many calls may wait for one.
    """

    def __init__(self, connections: int, queue: int = QUEUE) -> None:
        self.begin()
        self.limit(connections=connections, queue=queue)

    def begin(self) -> None:
        """Begin with nobody there; in a forked child, too, which has none of the threads that were."""
        self._lock = threading.Lock()
        self._held = 0
        # Dictionaries, because who stops waiting leaves from the middle.
        self._new: OrderedDict[int, Slot] = OrderedDict()
        self._again: OrderedDict[int, Slot] = OrderedDict()
        self._threads: Workers | None = None

    def limit(self, *, connections: int | None = None, queue: int | None = None) -> None:
        """Change the limits; who holds a slot keeps it.

        Raises:
            BadInput: fewer than one connection, or less than nobody in the line.
        """
        if connections is not None and connections < 1:
            raise BadInput(f"{connections} connections are too few for any call")
        if queue is not None and queue < 0:
            raise BadInput(f"there cannot be {queue} calls in a queue")
        with self._lock:
            if connections is not None:
                self.connections = connections
                self._threads = None  # those there are end with the work that they have
            if queue is not None:
                self.queue = queue
        self._grant()

    @property
    def in_flight(self) -> int:
        """How many slots are held."""
        return self._held

    @property
    def queued(self) -> int:
        """How many calls wait for one."""
        return len(self._new) + len(self._again)

    def ask(self, *, again: bool = False) -> Slot:
        """Get a slot, or a place in the line.

        Args:
            again: for a call that had one before.

        Raises:
            QueueFull: as many wait as may; never for one that had a slot before.
        """
        with self._lock:
            if self._held < self.connections and not (self._new or self._again):
                self._held += 1
                return Slot(self, State.HELD)
            if len(self._new) >= self.queue and not again:
                raise QueueFull(
                    f"{len(self._new):,} calls wait for one of {self.connections} connections",
                    hint="come back later, or raise the limits with zkfleet.calls.limit()",
                )
            slot = Slot(self, State.WAITING)
            (self._again if again else self._new)[id(slot)] = slot
            return slot

    @property
    def threads(self) -> Workers:
        """Threads for attempts, when the one that asks must not wait; they are made as they are needed."""
        with self._lock:
            if self._threads is None:
                # More than there are slots: asking for the outcome of a commit needs a thread and no slot.
                self._threads = Workers(2 * self.connections, "zkfleet-call")
            return self._threads

    def _take_back(self, slot: Slot) -> None:
        with self._lock:
            state, slot.state = slot.state, State.RETURNED
            if state is State.HELD:
                self._held -= 1
            elif state is State.WAITING:
                self._new.pop(id(slot), None)
                self._again.pop(id(slot), None)
        if self._new or self._again:
            self._grant()

    def _grant(self) -> None:
        """Give slots to those who are next; they are told outside of the lock."""
        chosen = []
        with self._lock:
            while self._held < self.connections and (self._new or self._again):
                _, slot = (self._again or self._new).popitem(last=False)
                slot.state = State.HELD
                self._held += 1
                chosen.append(slot)
        for slot in chosen:
            assert slot.granted is not None
            slot.granted.set_result(None)


_pools: "weakref.WeakKeyDictionary[Any, Pool]" = weakref.WeakKeyDictionary()
_making = threading.Lock()


def pool_of(database: Any) -> Pool:
    """Return the pool of a `ZODB.DB`; at first it has as many slots as the database's own pool keeps connections."""
    pool = _pools.get(database)
    if pool is None:
        with _making:
            pool = _pools.setdefault(database, Pool(database.getPoolSize()))
    return pool


def pools() -> list[Pool]:
    """Return the pools of all databases that are there."""
    return list(_pools.values())


def _begin_in_child() -> None:
    global _making
    _making = threading.Lock()
    for pool in pools():
        pool.begin()


os.register_at_fork(after_in_child=_begin_in_child)


def limit(database: Any, *, connections: int | None = None, queue: int | None = None) -> None:
    """Set how many calls to a database run at once, and how many may wait; what is left out stays.

    Raises:
        BadInput: fewer than one connection, less than nobody in the line, or no database.
    """
    if not isinstance(database, DB):
        raise BadInput(
            f"a {type(database).__name__} is no ZODB.DB", hint="pass the database, not its storage or a connection"
        )
    for name, number in (("connections", connections), ("queue", queue)):
        if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
            raise BadInput(f"{name} is {number!r}, and must be a whole number")
    if connections is not None and connections > database.getPoolSize():
        # ZODB warns of more, and throws away their caches.
        database.setPoolSize(connections)
    pool_of(database).limit(connections=connections, queue=queue)
