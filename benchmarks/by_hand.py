"""What is the loop that one writes by hand, and what does a call cost beside it in a thread?

`python -m benchmarks.by_hand` measures that in a process that has not imported ZEO, on a
database in memory, and writes the seconds of its rounds as JSON.
"""

import json
import sys
import time

import transaction
import ZODB
from persistent import Persistent

from benchmarks.measure import nothing, rounds
from zkfleet import calls
from zkfleet.calls import threads

# Short turns, and many: a machine that is busy for a moment then slows both sides.
ROUNDS, CALLS = 61, 300


class Counter(Persistent):  # type: ignore[misc]  # persistent has no types
    """What is counted with."""

    count = 0

    def add(self, number: int = 1) -> int:
        """Count."""
        self.count += number
        return self.count

    def begun(self) -> float:
        """When the call is under way."""
        return time.perf_counter()


def filled(database: ZODB.DB, number: int) -> list[calls.Ref]:
    """Put so many counters into a database, and return their places."""
    with database.transaction() as connection:
        counters = connection.root()["counters"] = [Counter() for _ in range(number)]
        for counter in counters:
            connection.add(counter)
        return [calls.ref(counter) for counter in counters]


def count(database: ZODB.DB, oid: bytes, number: int) -> None:
    """Count so often: open, begin, call, commit, close."""
    for _ in range(number):
        manager = transaction.TransactionManager(explicit=True)
        connection = database.open(manager)
        manager.begin()
        connection.get(oid).add()
        manager.commit()
        connection.close()


def compare() -> list[list[float]]:
    """Return the seconds of our rounds, and of those by hand."""
    database = ZODB.DB(None)
    [place] = filled(database, 1)
    connection = database.open(transaction.TransactionManager())
    add = connection.get(place.oid).add

    def ours() -> None:
        for _ in range(CALLS):
            threads.run(add)

    found = rounds(ROUNDS, (nothing, ours), (nothing, lambda: count(database, place.oid, CALLS)), warm=3)
    connection.close()
    database.close()
    return found


if __name__ == "__main__":
    json.dump(compare(), sys.stdout)
