"""Was it committed, when the reply to a commit was lost?

A commit whose reply is lost raises `ClientDisconnected`, although it may have
happened; done again, it happens twice.  A mark travels with the transaction
into the storage's log, and is looked for there afterwards.

That it is not there proves nothing while the lost request may yet arrive.  But
a client asks to finish only after its vote was answered, and from the vote on
the server holds the commit lock for it.  So whoever has got that lock since
knows: what was voted before is finished, or never will be.  This rests on one
server at a time writing to a storage.
"""

import itertools
import os
import threading
import time
import uuid
import weakref
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ZEO.Exceptions import ClientDisconnected
from ZODB.Connection import Connection, TransactionMetaData
from ZODB.DB import TransactionalUndo
from ZODB.POSException import POSError, ReadOnlyError
from ZODB.utils import z64

from zkfleet.errors import BadInput
from zkfleet.zeo.connected import client_storage

KEY = "zkfleet.call"
PACKED = ("p", b"p")
RETRY_AFTER = 0.05
NO_LOG = "the storage keeps no log of transactions"


class Outcome(Enum):
    """What became of a commit."""

    COMMITTED = "committed"
    NOT_COMMITTED = "not committed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a commit, and how that is known.

    Attributes:
        outcome: final, unless it is unknown: then asking again may tell.
        reason: one clause.
        tid: of the transaction, if it was committed; in the last one of several databases.
    """

    outcome: Outcome
    reason: str
    tid: bytes | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A database that took part in a transaction.

    Attributes:
        database: its name.
        since: the last transaction of it that was known before, to its client.
    """

    database: str
    since: bytes


@dataclass(slots=True)
class Marker:
    """What a transaction is recognised by.

    Attributes:
        id: what its extension data says under `zkfleet.call`.
        places: what took part; None until its commit began.
    """

    id: str
    places: tuple[Place, ...] | None = None


_process, _marked = "", itertools.count()


def _name_process() -> None:
    """Choose the half of a mark that no other process has; to choose all of it anew each time costs a system call."""
    global _process
    _process = uuid.uuid4().hex


_name_process()
os.register_at_fork(after_in_child=_name_process)


# What a transaction keeps its marker under.
_MARKER = object()


def mark(transaction: Any) -> Marker:
    """Mark a transaction, so that its outcome can be asked for; costs nothing until the commit.

    Args:
        transaction: one that has begun; every attempt is one of its own.

    Returns:
        Its marker: the one that it has, if it is marked already.  The log takes one mark
        for a transaction, and each layer of an application may ask for the outcome.
    """
    try:
        marker: Marker = transaction.data(_MARKER)
    except KeyError:
        marker = Marker(f"{_process}-{next(_marked):x}")
        transaction.set_data(_MARKER, marker)
    transaction.setExtendedInfo(KEY, marker.id)
    # Each time, since a hook that fails takes all others with it.
    # Twice, so that the second time comes after all other hooks: these may
    # change objects, and by that bring in databases.
    transaction.addBeforeCommitHook(transaction.addBeforeCommitHook, (_began, (marker, transaction)))
    return marker


def _began(marker: Marker, transaction: Any) -> None:
    databases = {id(database): database for database in map(_database, transaction._resources) if database is not None}
    marker.places = tuple(Place(db.database_name, db.lastTransaction() or z64) for db in databases.values())


def _database(resource: Any) -> Any:
    if isinstance(resource, Connection):
        return resource.db()
    return resource._db if isinstance(resource, TransactionalUndo) else None


def outcome(database: Any, marker: Marker, *, timeout: float = 30.0) -> Verdict:
    """Find out whether a marked transaction was committed.

    It waits for the storage to be connected, looks through what was committed
    since, gets the commit lock once and gives it back, and looks again: two
    round trips for each transaction since, and two more.  Others who commit
    through this storage wait meanwhile, as they do for any commit.

    Call it on any thread, after `commit()` has raised; if time runs out, a
    daemon thread goes on until the storage answers or is closed.

    Args:
        database: the `DB`, or its storage if no other database took part.
        marker: from `mark`.
        timeout: seconds.

    Returns:
        Committed; or not, and that it never will be; or that it cannot be
        known, for the reason that is given: no connection, somebody holds the
        commit lock, only a read-only server is left, the storage was packed
        meanwhile or keeps no log, or some databases have it and others not.

    Raises:
        BadInput: another database than the one that is given took part.
    """
    if marker.places is None:
        return Verdict(Outcome.NOT_COMMITTED, "its commit did not begin")
    if not marker.places:
        return Verdict(Outcome.NOT_COMMITTED, "no database took part")
    deadline = time.monotonic() + timeout
    questions = [_Question(_storage(database, marker, place), place, marker.id, deadline) for place in marker.places]
    answered: Future[list[Verdict]] = Future()

    def ask() -> None:
        try:
            answered.set_result([question.answer() for question in questions])
        except BaseException as exc:  # whatever it is, the caller gets it
            answered.set_exception(exc)

    # Calls to a server have no timeout, so they are left to a thread that can be left alone.
    threading.Thread(target=ask, name="zkfleet-outcome", daemon=True).start()
    try:
        return together(marker.places, answered.result(timeout))
    except TimeoutError:
        waiting = next((question for question in questions if not question.answered), None)
        if waiting is None:  # the last answer came this very moment
            return together(marker.places, answered.result())
        where = f"{waiting.place.database}: " if len(questions) > 1 else ""
        return Verdict(Outcome.UNKNOWN, f"{where}{waiting.doing} for {timeout:g} s")


def _storage(database: Any, marker: Marker, place: Place) -> Any:
    assert marker.places is not None
    names = [place.database for place in marker.places]
    if len(set(names)) < len(names):
        raise BadInput(f"databases of the same name took part: {', '.join(names)}", hint="give them names")
    if not hasattr(database, "databases"):
        if len(names) > 1:
            raise BadInput(f"these databases took part: {', '.join(names)}", hint="give the DB, not its storage")
        return database
    try:
        return database.databases[place.database].storage
    except KeyError:
        raise BadInput(
            f"the database {place.database!r} took part, and is not known to this one", hint="give the DB that it was"
        ) from None


_locks: "weakref.WeakKeyDictionary[Any, threading.Lock]" = weakref.WeakKeyDictionary()
_making = threading.Lock()


def _renew_locks() -> None:
    # Other threads may have held them, which are not there in the child.
    global _making
    _making = threading.Lock()
    _locks.clear()


os.register_at_fork(after_in_child=_renew_locks)


def _lock_of(client: Any) -> threading.Lock:
    with _making:
        return _locks.setdefault(client, threading.Lock())


class _Question:
    """What became of a transaction in one storage?"""

    def __init__(self, storage: Any, place: Place, marker: str, deadline: float) -> None:
        self._storage, self.place, self._marker, self._deadline = storage, place, marker, deadline
        self.doing, self.answered = "not asked", False

    def answer(self) -> Verdict:
        """Return the verdict, however long it takes."""
        verdict = self._try()
        while verdict is None:
            time.sleep(RETRY_AFTER)
            verdict = self._try()
        self.answered = True
        return verdict

    def _try(self) -> Verdict | None:
        try:
            return self._found()
        except ClientDisconnected as exc:
            self.doing = "no connection"
            over = time.monotonic() > self._deadline or str(exc) == "closed"
            return Verdict(Outcome.UNKNOWN, f"no connection: {exc}") if over else None
        except ReadOnlyError:
            return Verdict(Outcome.UNKNOWN, "not there, but only a server that can be written to could be sure of it")
        except POSError as exc:
            return Verdict(Outcome.UNKNOWN, f"the storage cannot say: {type(exc).__name__}: {exc}")

    def _found(self) -> Verdict:
        self.doing = "no answer from the storage"
        verdict = self._look(self._connection())
        if verdict.outcome is Outcome.COMMITTED:
            return verdict
        self.doing = "the commit lock was not to be had"
        connection = self._get_commit_lock()
        self.doing = "no answer from the storage"
        return self._look(connection)

    def _connection(self) -> int:
        """Return a number that is another one when the storage is connected anew, perhaps to another server."""
        client = client_storage(self._storage)
        return 0 if client is None else client._connection_generation

    def _look(self, connection: int) -> Verdict:
        if not hasattr(self._storage, "iterator"):
            return Verdict(Outcome.UNKNOWN, NO_LOG)
        with self._alone(connection), closing(self._log()) as log:
            verdict = search(log, self.place.since, self._marker)
        # Storages in memory do not even have the method.
        keeps_log = getattr(self._storage, "supportsUndo", bool)()
        if verdict.outcome is Outcome.NOT_COMMITTED and not keeps_log:
            return Verdict(Outcome.UNKNOWN, NO_LOG)
        return verdict

    @contextmanager
    def _alone(self, connection: int) -> Iterator[None]:
        """Look through the log alone, and over the connection of that number, to its end.

        The server numbers iterators, anew for each connection. A request that waited for
        the connection to be back has the number of one that is gone, or of another one
        that lives: both would then miss what the other one got.

        Raises:
            ClientDisconnected: it was not one connection, or somebody else looks all the time.
        """
        client = client_storage(self._storage)
        if client is None:
            yield
            return
        lock = _lock_of(client)
        if not lock.acquire(timeout=max(0.0, self._deadline - time.monotonic())):
            raise ClientDisconnected("others look through the log all the time")
        try:
            error = None
            try:
                yield
            except KeyError as exc:  # what the server says to a number that it does not know
                error = exc
            if self._connection() != connection:
                raise ClientDisconnected("the connection was lost in the middle of the question") from error
            if error is not None:
                raise error
        finally:
            lock.release()

    def _log(self) -> Generator[Any, None, None]:
        log = self._storage.iterator(self.place.since)
        try:
            for transaction in log:
                if time.monotonic() > self._deadline:
                    raise ClientDisconnected("too much was committed since to look through it in time")
                yield transaction
        finally:
            if hasattr(log, "close"):  # that of a FileStorage keeps its file open
                log.close()

    # The vote is refused if the connection is another one by then.  Afterwards it may be:
    # a lock of one server says nothing of what another one, which lags, has in its log.
    def _get_commit_lock(self) -> int:
        """Vote on a transaction without content, and give it up; returns the connection that it was over."""
        empty = TransactionMetaData()
        self._storage.tpc_begin(empty)
        connection = self._connection()
        try:
            self._storage.tpc_vote(empty)
        finally:
            self._storage.tpc_abort(empty)
        return connection


def search(log: Iterable[Any], since: bytes, marker: str) -> Verdict:
    """Look for a mark in a log of transactions; pure.

    Args:
        log: all transactions from `since` on, that one included, oldest first.
        since: the last one that was known before the marked one.
        marker: the id.

    Returns:
        Not committed only if the log is whole.  Packing takes transactions out
        of it, and leaves its sign on those that stay of the same time.  (It
        leaves none if the marked one wrote nothing but garbage.)
    """
    whole = since == z64
    for transaction in log:
        if transaction.extension.get(KEY) == marker:
            return Verdict(Outcome.COMMITTED, "its mark is in the log", transaction.tid)
        if transaction.tid == since:
            whole = True
        elif transaction.status in PACKED:
            whole = False
    if whole:
        return Verdict(Outcome.NOT_COMMITTED, "its mark is not in the log")
    return Verdict(Outcome.UNKNOWN, "the storage was packed meanwhile, or is not the one that it was")


def together(places: Iterable[Place], verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict on a transaction of one or several databases; pure.

    ZODB finishes one database after the other, so it can be in some only. One
    that cannot say leaves it unknown, whatever the others say, and is named.
    """
    found = list(zip(places, verdicts, strict=True))
    outcomes = {verdict.outcome for _, verdict in found}
    if len(found) == 1 or outcomes in ({Outcome.COMMITTED}, {Outcome.NOT_COMMITTED}):
        return found[-1][1]
    said = (f"{place.database}: {verdict.outcome.value} ({verdict.reason})" for place, verdict in found)
    return Verdict(Outcome.UNKNOWN, "; ".join(said))
