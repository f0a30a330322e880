"""How are calls doing?

Counts since the program started, of all doors and databases together, and what is
under way at the moment.
"""

import os
import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

from zkfleet.calls.pool import pools

SAMPLE = 1000


@dataclass(frozen=True, slots=True)
class Latencies:
    """How long calls took, from when they were asked for until their result; in seconds.

    Attributes:
        count, total, longest: of all.
        median, p95, p99: of the last thousand; 0 if there was none.
    """

    count: int
    total: float
    longest: float
    median: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Statistics:
    """How calls are doing.

    Attributes:
        in_flight, queued: calls that have a connection now, and that wait for one.
        calls: how many are over, well or not.
        failed: how many of these ended with an error.
        attempts: how many tries these needed.
        conflicts: errors that were worth another try, by the name of their class.
        disconnect_waits: how often a call waited for its database to be connected again.
        outcomes_unknown: of how many commits it could not be found out whether they happened.
        latencies: of calls that are over.
    """

    in_flight: int
    queued: int
    calls: int
    failed: int
    attempts: int
    conflicts: Mapping[str, int]
    disconnect_waits: int
    outcomes_unknown: int
    latencies: Latencies


class Tally:
    """Counts, from any thread."""

    def __init__(self) -> None:
        self.renew_lock()
        self._calls = self._failed = self._attempts = self._waits = self._unknown = 0
        self._conflicts: Counter[str] = Counter()
        self._total = self._longest = 0.0
        self._sample: deque[float] = deque(maxlen=SAMPLE)

    def renew_lock(self) -> None:
        """Have a lock that nobody holds; a forked child may have got one that is held for ever."""
        self._lock = threading.Lock()

    def over(self, seconds: float, attempts: int, *, failed: bool) -> None:
        """A call is over."""
        with self._lock:
            self._calls += 1
            self._failed += failed
            self._attempts += attempts
            self._total += seconds
            if seconds > self._longest:
                self._longest = seconds
            self._sample.append(seconds)

    def conflict(self, error: BaseException) -> None:
        """An attempt failed in a way that may be worth another try."""
        with self._lock:
            self._conflicts[type(error).__name__] += 1

    def disconnected(self) -> None:
        """A call waits for a connection."""
        with self._lock:
            self._waits += 1

    def unknown(self) -> None:
        """The outcome of a commit could not be found out."""
        with self._lock:
            self._unknown += 1

    def read(self) -> Statistics:
        """Return what was counted."""
        with self._lock:
            sample = sorted(self._sample)
            there = pools()
            return Statistics(
                in_flight=sum(pool.in_flight for pool in there),
                queued=sum(pool.queued for pool in there),
                calls=self._calls,
                failed=self._failed,
                attempts=self._attempts,
                conflicts=dict(self._conflicts),
                disconnect_waits=self._waits,
                outcomes_unknown=self._unknown,
                latencies=Latencies(
                    self._calls, self._total, self._longest, *(_quantile(sample, part) for part in (0.5, 0.95, 0.99))
                ),
            )


def _quantile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


tally = Tally()
os.register_at_fork(after_in_child=tally.renew_lock)


def statistics() -> Statistics:
    """Return how calls are doing, in this process since it started."""
    return tally.read()
