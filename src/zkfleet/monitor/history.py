"""Which transactions of a database took long, and which met a conflict?

What its connections tell (`hearing`) is kept here, as texts and numbers: the
last hundred of either kind, and counts for ever.  Any thread may tell, and any
may read.
"""

import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import ClassVar, Literal

from zkfleet.monitor.forking import renew_in_children

KEPT = 100
MOST_KINDS = 1000
"""Kinds of conflicts that are counted apart; no process has as many classes that conflict."""
Kind = tuple[str, str]
"""The class of an error, and that of the object, "" if the error does not say."""
OTHERS: Kind = ("others", "")


@dataclass(frozen=True, slots=True)
class Slow:
    """A transaction that took long.

    Attributes:
        at: when it was over, in seconds since the epoch.
        seconds: from its begin until it was over.
        loads, stores: objects loaded and stored meanwhile.
        user, description: as it says.
        thread: the name of the thread that ended it.
        ended: how.
    """

    at: float
    seconds: float
    loads: int
    stores: int
    user: str
    description: str
    thread: str
    ended: Literal["committed", "aborted", "failed"]


@dataclass(frozen=True, slots=True)
class Conflict:
    """A commit that met a conflict.

    Attributes:
        at: when, in seconds since the epoch.
        kind: of which kind.
        oid: of the object, in hex digits; "" if the error does not say.
        user, description: as its transaction says.
        thread: the name of the thread.
    """

    at: float
    kind: Kind
    oid: str
    user: str
    description: str
    thread: str


class History:
    """What is known of the transactions of a database since it is watched.

    Attributes:
        slow_after: seconds; what took no longer is not kept.  Set it here for all databases.
    """

    slow_after: ClassVar[float] = 1.0

    def __init__(self) -> None:
        self._slow: deque[Slow] = deque(maxlen=KEPT)
        self._conflicts: deque[Conflict] = deque(maxlen=KEPT)
        self._slow_ones = 0
        self._by_kind: Counter[Kind] = Counter()
        self.begin_anew()
        renew_in_children(self)

    def begin_anew(self) -> None:
        """In a forked child: have a lock that nobody holds."""
        self._lock = threading.Lock()

    def add_slow(self, one: Slow) -> None:
        """Keep one that took long."""
        with self._lock:
            self._slow_ones += 1
            self._slow.append(one)

    def add_conflict(self, one: Conflict) -> None:
        """Keep a conflict."""
        with self._lock:
            is_room = one.kind in self._by_kind or len(self._by_kind) < MOST_KINDS
            self._by_kind[one.kind if is_room else OTHERS] += 1
            self._conflicts.append(one)

    @property
    def slow_ones(self) -> int:
        """How many took long."""
        return self._slow_ones

    def slow(self) -> list[Slow]:
        """Return the last ones that took long, the newest first."""
        with self._lock:
            return list(reversed(self._slow))

    def conflicts(self) -> list[Conflict]:
        """Return the last conflicts, the newest first."""
        with self._lock:
            return list(reversed(self._conflicts))

    def by_kind(self) -> dict[Kind, int]:
        """Return how many conflicts there were of each kind."""
        with self._lock:
            return dict(self._by_kind)
