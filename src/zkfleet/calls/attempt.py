"""How is one attempt made?

On a connection and a transaction manager of its own: begin, find the objects, call,
look at the result, commit, close.  On any way out, those of KeyboardInterrupt and
SystemExit included, the transaction is ended, the connection closed and the slot
given back, in this order.

An attempt is run once, on any thread.  Whoever waits for it may abandon it from
another: until its commit begins that keeps it from committing.
"""

import threading
from collections.abc import Callable
from enum import Enum
from typing import Any

from transaction import TransactionManager
from transaction.interfaces import TransientError
from ZODB.Connection import Connection

from zkfleet.calls import after, remote, results
from zkfleet.calls.deciding import Failure, Trouble
from zkfleet.calls.policy import Policy
from zkfleet.calls.pool import Slot
from zkfleet.calls.references import Request
from zkfleet.errors import TransactionEnded


class Abandoned(Exception):
    """Nobody waits for this attempt any more, so it does not commit; nobody sees this either."""


class Stage(Enum):
    """How far an attempt is."""

    NEW = "new"
    RUNNING = "running"
    COMMITTING = "committing"
    ABANDONED = "abandoned"
    OVER = "over"


class OneTransaction(TransactionManager):  # type: ignore[misc]  # transaction has no types
    """A manager of the one transaction of an attempt, which the call itself must not end."""

    def __init__(self) -> None:
        super().__init__(explicit=True)

    def begin(self) -> Any:
        """Begin, the first time.

        Raises:
            TransactionEnded: there is one.
        """
        if self._txn is not None:
            raise self._refusal("begin another transaction")
        return super().begin()

    def commit(self) -> None:
        """Refuse."""
        raise self._refusal("commit")

    def abort(self) -> None:
        """Refuse."""
        raise self._refusal("abort")

    def _refusal(self, what: str) -> TransactionEnded:
        return TransactionEnded(
            f"a call must not {what}: its transaction is committed when it returns",
            hint="return to commit, raise to abort, or doom() its transaction to abort and return",
        )

    def check(self, transaction: Any) -> None:
        """Check that the call has left its transaction as it was.

        Raises:
            TransactionEnded: it is over, or another one has begun.
        """
        if self._txn is not transaction:
            raise TransactionEnded(
                "the call ended its transaction itself: what it did before may be committed",
                hint="return to commit, raise to abort",
            )


class Attempt:
    """One attempt at a call; `run` is what a thread is given.

    Args:
        request: what to call.
        slot: held; it is given back at the end.
        policy: how.
        late: what to do with the actions of a call that was committed when nobody waited for it any more.

    Attributes:
        value: what the call returned, if it did.
        actions: what to do after the commit.
        failure: what went wrong, or None.
        marker: what its transaction is recognised by, if it is.
        began_commit, committed: how far it got with that.
    """

    __slots__ = (
        *("_late", "_lock", "_policy", "_request", "_slot", "_stage"),
        *("actions", "began_commit", "committed", "failure", "marker", "value"),
    )

    def __init__(
        self,
        request: Request,
        slot: Slot,
        policy: Policy,
        late: Callable[[list[after.Action]], object] = after.perform,
    ) -> None:
        self._request, self._slot, self._policy, self._late = request, slot, policy, late
        self._lock = threading.Lock()
        self._stage = Stage.NEW
        self.value: Any = None
        self.actions: list[after.Action] = []
        self.failure: Failure | None = None
        self.marker: Any = None
        self.began_commit = self.committed = False

    def run(self) -> None:
        """Make the attempt; errors are told in `failure`.

        Raises:
            BaseException: what is no `Exception`, such as `SystemExit`, goes through.
        """
        try:
            if self._move(Stage.RUNNING):
                self._open()
        except Exception as exc:  # whatever the call raises is for the policy to judge
            if self.failure is None:
                self.failure = Failure(exc, trouble_of(exc))
        finally:
            self._slot.give_back()
            awaited = self._move(Stage.OVER)
        if not awaited and self.committed:
            self._late(self.actions)

    def abandon(self) -> Stage:
        """Stop waiting for it; return how far it was.

        It was new or running: it will not be committed. It was committing: it may be. It was
        over: what came out is there to be read.
        """
        with self._lock:
            before = self._stage
            if before is not Stage.OVER:
                self._stage = Stage.ABANDONED
        if before is Stage.NEW:
            self._slot.give_back()
        return before

    def _move(self, stage: Stage) -> bool:
        """Go on, unless it was abandoned; return whether."""
        with self._lock:
            if self._stage is Stage.ABANDONED:
                return False
            self._stage = stage
            return True

    def _open(self) -> None:
        database = self._request.open_database()
        storages = remote.storages(database)
        remote.refuse_if_disconnected(storages)
        manager = OneTransaction()
        connection = database.open(manager)
        try:
            transaction = manager.begin()
            try:
                self._call(connection, manager, transaction, may_be_marked=bool(storages))
            except Exception as exc:
                self.failure = Failure(exc, trouble_of(exc, transaction), self.began_commit, self.marker)
                raise
            finally:
                _end(manager)
        finally:
            connection.close()

    def _call(self, connection: Connection, manager: OneTransaction, transaction: Any, *, may_be_marked: bool) -> None:
        function, args, keywords = self._request.on(connection)
        token = after.current.set(self.actions)
        try:
            value = function(*args, **keywords)
        finally:
            after.current.reset(token)
            manager.check(transaction)
        self.value = results.checked(value, connection, as_reference=self._policy.results == "reference")
        if transaction.isDoomed():
            self.actions = []
            return
        # Not before: hooks of the call that fail would take the mark's own with them.
        if may_be_marked:
            self.marker = remote.mark(transaction)
        if not self._move(Stage.COMMITTING):
            raise Abandoned
        self.began_commit = True
        transaction.commit()
        self.committed = True


def _end(manager: OneTransaction) -> None:
    """Abort what is still under way, whatever it is."""
    transaction = manager._txn
    if transaction is not None:
        transaction.abort()


def trouble_of(error: BaseException, transaction: Any = None) -> Trouble:
    """Say what kind of error it is.

    Args:
        error: what was raised.
        transaction: it can be asked too, as long as it has not been ended.
    """
    if remote.is_disconnection(error):
        return Trouble.DISCONNECTED
    if isinstance(error, TransientError):
        return Trouble.CONFLICT
    if transaction is not None and transaction._manager is not None and transaction.isRetryableError(error):
        return Trouble.CONFLICT
    return Trouble.OTHER
