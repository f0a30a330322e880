"""How does the monitor hear of a database's transactions?

ZODB tells every connection when a transaction begins and is over, and asks a
database which class its connections are of: `DB.klass`.  A connection of ours
does what one of that class does, and tells a `History`.

`databases` imports this when the first database is put in, and not before: it
needs ZODB.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

from ZODB.Connection import Connection, className
from ZODB.POSException import ConflictError
from ZODB.utils import oid_repr

from zkfleet.monitor.history import Conflict, History, Slow

MOST_SAID = 1000
"""Characters that are kept of what a transaction says."""
_ENDS: dict[str, Any] = {"Committed": "committed", "Committing": "failed"}
"""How a transaction ended, by its status when its synchronizers are told; whatever else it says, it was aborted."""


class Heard(Connection):  # type: ignore[misc]  # ZODB has no types
    """A connection that tells of its transactions; `hear` makes a class of it for each database."""

    history: ClassVar[History]
    clock: ClassVar["staticmethod[[], float]"]
    _begun: tuple[float, int, int] | None = None

    def newTransaction(self, transaction: Any, sync: bool = True) -> None:  # noqa: N802  the names are ZODB's
        """Note when it begins: before the storage is asked for news, which may take long itself."""
        self._begun = (self.clock(), *self.getTransferCounts())
        super().newTransaction(transaction, sync)

    def afterCompletion(self, transaction: Any) -> None:  # noqa: N802
        """Tell of it if it took long."""
        begun, self._begun = self._begun, None
        if begun is not None:
            seconds = self.clock() - begun[0]
            if seconds > self.history.slow_after:
                self._tell(transaction, seconds, *begun[1:])
        super().afterCompletion(transaction)

    def commit(self, transaction: Any) -> None:
        """Tell of a conflict that a storage finds at once."""
        try:
            super().commit(transaction)
        except ConflictError as exc:
            self._tell_conflict(exc, transaction)
            raise

    def tpc_vote(self, transaction: Any) -> None:
        """Tell of a conflict that a storage finds when all is stored, as ZEO does."""
        try:
            super().tpc_vote(transaction)
        except ConflictError as exc:
            self._tell_conflict(exc, transaction)
            raise

    def _tell(self, transaction: Any, seconds: float, loads_before: int, stores_before: int) -> None:
        loads, stores = self.getTransferCounts()
        ended = _ENDS.get(transaction.status, "aborted")
        self.history.add_slow(
            Slow(time.time(), seconds, loads - loads_before, stores - stores_before, *_said(transaction), ended)
        )

    def _tell_conflict(self, error: ConflictError, transaction: Any) -> None:
        kind = (type(error).__name__, error.class_name or self._class_of(error.oid))
        oid = oid_repr(error.oid) if error.oid else ""
        self.history.add_conflict(Conflict(time.time(), kind, oid, *_said(transaction)))

    def _class_of(self, oid: bytes | None) -> str:
        there = None if oid is None else self._cache.get(oid)
        return "" if there is None else className(there)


def _said(transaction: Any) -> tuple[str, str, str]:
    return transaction.user[:MOST_SAID], transaction.description[:MOST_SAID], threading.current_thread().name


def history_of(database: Any) -> History:
    """Return what a database's connections tell, or will."""
    found: History = database.klass.history if issubclass(database.klass, Heard) else History()
    return found


def hear(database: Any, history: History, clock: Callable[[], float] = time.monotonic) -> None:
    """Have a database's connections tell a history of their transactions from now on; nothing if they do already.

    Connections that wait in its pool are dropped, as ZODB does with those that
    nobody has used for long.  Those in use tell nothing, as long as they last.
    """
    if issubclass(database.klass, Heard):
        return
    klass = type(database.klass.__name__, (Heard, database.klass), {"history": history, "clock": staticmethod(clock)})
    with database._lock:  # nobody opens or closes one meanwhile
        database.klass = klass
        size = database.pool.getSize()
        database.pool.setSize(0)
        database.pool.setSize(size)
