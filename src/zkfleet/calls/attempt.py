"""How is one attempt made?

On a connection and a transaction manager of its own: begin, find the objects, call,
look at the result, commit, close.  On any way out, those of KeyboardInterrupt and
SystemExit included, the transaction is ended, the connection closed and the slot
given back, in this order.

An attempt is run once, on any thread.  Whoever waits for it may abandon it from
another: until its commit begins that keeps it from committing.
"""

import threading
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NoReturn, Self

from transaction import TransactionManager
from transaction.interfaces import TransientError
from ZODB.Connection import Connection

from zkfleet.calls import after, remote, results
from zkfleet.calls.deciding import Failure, Trouble
from zkfleet.calls.policy import Policy
from zkfleet.calls.pool import Slot
from zkfleet.calls.references import Request
from zkfleet.errors import Closed, TransactionEnded
from zkfleet.spelling import get_logger

logger = get_logger(__name__)
# What transactions say of themselves.
COMMITTED, COMMIT_FAILED = "Committed", "Commit failed"


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
    """A manager of the one transaction of an attempt, which the call must leave to it.

    Aborting is not refused: closing a database does that to all transactions on it.
    """

    transaction: Any = None
    _connections: Mapping[str, Any] = {}

    def start(self, connection: Connection) -> None:
        """Begin it, on a connection."""
        # That, and those to other databases that the call opens by it.
        self._connections = connection.connections
        self.transaction = TransactionManager.begin(self)
        # Who got hold of the transaction itself must not commit it either: a reply lost in there would be no
        # concern of ours, and the call be done again.
        self.transaction.commit = _refuse_commit

    def begin(self) -> NoReturn:
        """Refuse."""
        raise _refusal("begin another transaction")

    def commit(self) -> NoReturn:
        """Refuse."""
        _refuse_commit()

    def unregisterSynch(self, synch: Any) -> None:  # noqa: N802  its name in transaction
        """Refuse that the call closes its connection: another one would have it, and this one its objects."""
        # A database that is closed closes them as well, when it has released their storages.
        if any(synch is connection and connection._storage is not None for connection in self._connections.values()):
            raise _refusal("close its connection")
        super().unregisterSynch(synch)

    def finish(self) -> None:
        """Commit it."""
        try:
            type(self.transaction).commit(self.transaction)
        except Exception:  # of synchronizers and the like, which do not undo it
            if self.transaction.status != COMMITTED:
                raise
            logger.exception("after_completion_failed transaction=committed")

    def check(self) -> None:
        """Check that the call has left its transaction as it was.

        Raises:
            TransactionEnded: it is over.
        """
        if self._txn is not self.transaction:
            committed = self.transaction.status == COMMITTED
            raise TransactionEnded(
                f"the call ended its transaction itself, and what it did is {'' if committed else 'not '}committed",
                hint="return to commit, raise to abort",
            )

    def is_retryable(self, error: Exception) -> bool:
        """Whether what takes part in the transaction says that it might go better the next time."""
        return self._txn is not None and bool(self._retryable(type(error), error))

    def end(self) -> None:
        """Abort it, if it is not over; the connection may be closed now."""
        self._connections = {}
        if self._txn is not None:
            self._txn.abort()


def _refusal(what: str) -> TransactionEnded:
    return TransactionEnded(
        f"a call must not {what}: its transaction is committed, and its connection closed, when it returns",
        hint="return to commit, raise to abort, or doom() its transaction to abort and return",
    )


def _refuse_commit() -> NoReturn:
    raise _refusal("commit")


class _Foremost:
    """A key that is sorted before all others, even an empty one and those that are no text."""

    def __lt__(self, _other: object) -> bool:
        return True

    def __gt__(self, _other: object) -> bool:
        return False


class SecondPhase:
    """Takes part in a transaction to see its second phase begin, first of all.

    Before that nothing is committed anywhere, whatever went wrong. From then on everything may be.
    """

    __slots__ = ("_takes_part", "_was_taken_out", "began")

    def __init__(self) -> None:
        self.began = self._takes_part = self._was_taken_out = False

    def may_be_committed(self, transaction: Any) -> bool:
        """Whether something of a transaction that has failed may be committed."""
        return self.began or (self._was_taken_out and transaction.status == COMMIT_FAILED)

    def sortKey(self) -> _Foremost:  # noqa: N802  its name in transaction
        """Go before everybody else."""
        return _Foremost()

    def tpc_begin(self, _transaction: Any) -> None:
        """Note that it takes part."""
        self._takes_part = True

    def abort(self, _transaction: Any) -> None:
        """Note, before the commit, that it was taken out: a hook has rolled back an older savepoint."""
        self._was_taken_out = not self._takes_part

    def tpc_finish(self, _transaction: Any) -> None:
        """Note that it began."""
        self.began = True

    def savepoint(self) -> Self:
        """Be one of those who have savepoints, or nobody could make any."""
        return self

    def _nothing(self, *_transaction: Any) -> None:
        pass

    commit = tpc_vote = tpc_abort = rollback = _nothing


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
        left_at: how far it was when it was abandoned; None if it was not.
    """

    __slots__ = (
        *("_late", "_lock", "_policy", "_request", "_second_phase", "_slot", "_stage"),
        *("actions", "began_commit", "committed", "failure", "left_at", "marker", "value"),
    )

    def __init__(
        self,
        request: Request,
        slot: Slot,
        policy: Policy,
        late: Callable[[after.Actions], object] = after.perform,
    ) -> None:
        self._request, self._slot, self._policy, self._late = request, slot, policy, late
        self._lock = threading.Lock()
        self._stage = Stage.NEW
        self.value: Any = None
        self.actions = after.Actions()
        self.failure: Failure | None = None
        self.marker: Any = None
        self.began_commit = self.committed = False
        self._second_phase = SecondPhase()
        self.left_at: Stage | None = None

    def run(self) -> None:
        """Make the attempt; errors are told in `failure`.

        Raises:
            BaseException: what is no `Exception`, such as `SystemExit`, goes through.
        """
        try:
            if self._move(Stage.RUNNING):
                self._open()
        except Exception as exc:  # whatever it is, the policy judges it
            self._fail(exc)
        except BaseException as exc:
            if not self.committed:
                raise
            self._end_later(exc)
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
            before = self.left_at = self._stage
            if before is not Stage.OVER:
                self._stage = Stage.ABANDONED
        if before is Stage.NEW:
            self._slot.give_back()
        return before

    @property
    def stage(self) -> Stage:
        """How far it is; of one that was abandoned, how far it was then."""
        return self.left_at or self._stage

    def _move(self, stage: Stage) -> bool:
        """Go on, unless it was abandoned; return whether."""
        with self._lock:
            if self._stage is Stage.ABANDONED:
                return False
            self._stage = stage
            return True

    def _open(self) -> None:
        database = self._request.open_database()
        if remote.is_used():
            remote.refuse_if_disconnected(self._request.databases)
        manager = OneTransaction(explicit=True)
        connection = database.open(manager)
        try:
            # Now, and not before: what fails here must not cost us the connection with its cache.
            manager.start(connection)
            self._call(connection, manager)
        except Exception as exc:
            self._fail(exc, manager)
        finally:
            try:
                manager.end()
            finally:
                connection.close()

    def _fail(self, error: Exception, manager: "OneTransaction | None" = None) -> None:
        if self.committed:
            logger.error("close_failed transaction=committed", exc_info=error)
            return
        if self.failure is not None:
            return  # what came after the first error came of it
        committing = manager is not None and self._second_phase.may_be_committed(manager.transaction)
        if self._request.is_closed and not committing and not isinstance(error, Closed):
            closed = self._request.closed()
            closed.__cause__, error = error, closed
        self.failure = Failure(
            error, trouble_of(error, manager), sending=self.began_commit, committing=committing, marker=self.marker
        )

    def _end_later(self, error: BaseException) -> None:
        """Let an error that ends the program come after the actions: what they come after has happened."""
        logger.error("commit_followed_by_exit error=%s", type(error).__name__, exc_info=error)
        self.actions.append(after.Action(_raise, (error.with_traceback(None),), {}))

    def _call(self, connection: Connection, manager: OneTransaction) -> None:
        function, args, keywords = self._request.on(connection)
        token = after.enter(self.actions)
        try:
            value = function(*args, **keywords)
        except Exception:
            manager.check()
            raise
        finally:
            after.leave(self.actions, token)
        manager.check()
        self.value = results.checked(value, connection, as_reference=self._policy.results == "reference")
        transaction = manager.transaction
        if transaction.isDoomed():
            self.actions.clear()
            return
        # Not before: hooks of the call that fail would take the mark's own with them.
        if remote.is_used() and remote.clients(connection.db().databases.values()):
            self.marker = remote.mark(transaction)
        if not self._move(Stage.COMMITTING):
            raise Abandoned
        self.began_commit = True
        # In a hook, the last of them: one before it may roll back savepoints, and what joined after these is dropped.
        transaction.addBeforeCommitHook(transaction.join, (self._second_phase,))
        try:
            manager.finish()
        finally:
            self.committed = transaction.status == COMMITTED


def _raise(error: BaseException) -> NoReturn:
    raise error


def trouble_of(error: Exception, manager: OneTransaction | None) -> Trouble:
    """Say what kind of error it is."""
    if remote.is_disconnection(error):
        return Trouble.DISCONNECTED
    if isinstance(error, TransientError) or (manager is not None and manager.is_retryable(error)):
        return Trouble.CONFLICT
    return Trouble.OTHER
