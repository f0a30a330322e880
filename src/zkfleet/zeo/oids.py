"""Which object ids may a client still give to new objects?

A ZEO server gives object ids away by the hundred and keeps no record of them:
its successor counts on from the last committed object, and gives the same ids
to others.  So ids are good for as long as the server that gave them is in use.
`storage` is the only caller.
Invariant: an id is handed out once, and never after the server has changed.
"""

import threading
from collections.abc import Iterable

# Runs of ids that are remembered; the server refuses ids that are older, if they are in use.
REMEMBERED = 1000


class Oids:
    """The object ids that a client got from its server.

    May be used from any thread.

    Attributes:
        server: another number for every server, or connection to one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spare: list[bytes] = []
        self._given: list[range] = []
        self._former: list[range] = []
        self.server = 0

    def take(self) -> bytes | None:
        """Return an id for a new object, None if there are no more."""
        with self._lock:
            return self._spare.pop() if self._spare else None

    def add(self, fresh: Iterable[bytes], server: int) -> None:
        """Take in ids, unless the server has changed since `server` was looked at, before they were asked for."""
        fresh = list(fresh)
        with self._lock:
            if server == self.server:
                self._spare[:0] = reversed(fresh)
                for oid in fresh:
                    _append(self._given, int.from_bytes(oid, "big"))
                del self._given[:-REMEMBERED]

    def drop(self) -> None:
        """Hand out none of those that are spare."""
        with self._lock:
            self._spare.clear()

    def change_server(self) -> None:
        """Take note that another server is in use from now on."""
        with self._lock:
            self.server += 1
            self._spare.clear()
            self._former = (self._former + self._given)[-REMEMBERED:]
            self._given = []

    def is_former(self, oid: bytes) -> bool:
        """Return whether an id came from a server that is no longer in use."""
        number = int.from_bytes(oid, "big")
        with self._lock:
            return _has(self._former, number) and not _has(self._given, number)


def _append(runs: list[range], number: int) -> None:
    if runs and runs[-1].stop == number:
        runs[-1] = range(runs[-1].start, number + 1)
    else:
        runs.append(range(number, number + 1))


# The newest first: what is stored was given a moment ago, most of the time.
def _has(runs: list[range], number: int) -> bool:
    return any(number in run for run in reversed(runs))
