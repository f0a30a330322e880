"""What is said of a call that is committed, or may be, whatever goes wrong after that; through all doors."""

import asyncio
import logging
import threading

import pytest
import transaction
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from ZODB import DB
from ZODB.POSException import ConflictError

from tests.calls.conftest import get, put
from tests.calls.test_lost_commits import make  # noqa: F401  all doors
from tests.calls.things import Counter
from zkfleet import calls
from zkfleet.calls import asyncio as aio
from zkfleet.calls import threads
from zkfleet.calls.pool import pool_of
from zkfleet.calls.twisted import Partial
from zkfleet.errors import Closed, CommittedAlready, CommitUnknown, TransactionEnded

AGAIN = calls.Policy(conflict_delay=0)


@pytest.fixture
def silent():
    """What transactions log of managers that fail is expected."""
    logging.getLogger("txn").setLevel(logging.CRITICAL + 1)
    yield
    logging.getLogger("txn").setLevel(logging.NOTSET)


def transaction_of(counter):
    return counter._p_jar.transaction_manager.get()


# -- managers of data that fail in the second phase


class Failing:
    """Takes part in a transaction, and fails in its second phase, after it has done something."""

    def __init__(self, key, error, done):
        self._key, self._error, self._done = key, error, done

    def sortKey(self):
        return self._key

    def tpc_finish(self, _transaction):
        self._done.append(1)
        raise self._error

    def savepoint(self):
        return self

    def _nothing(self, *_transaction):
        pass

    abort = tpc_begin = commit = tpc_vote = tpc_abort = rollback = _nothing


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("key", ["", "~", "\0"])
@pytest.mark.parametrize("error", [ConflictError(), KeyError("x")])
def test_one_that_fails_when_others_may_be_committed_is_never_called_again(make, counter, key, error):  # noqa: F811
    done = []

    def work(counter):
        counter.add()
        transaction_of(counter).join(Failing(key, error, done))

    with pytest.raises(CommitUnknown):
        make(counter.run, work, policy=AGAIN)
    assert done == [1]


@pytest.mark.usefixtures("silent")
def test_one_whose_key_is_no_text_may_be_there(make, counter):  # noqa: F811
    done = []
    with pytest.raises(CommitUnknown):
        make(
            counter.run, lambda counter: transaction_of(counter).join(Failing((), ConflictError(), done)), policy=AGAIN
        )
    assert done == [1]


@pytest.mark.usefixtures("silent")
def test_a_last_hook_that_rolls_back_a_savepoint_hides_no_second_phase(make, counter):  # noqa: F811
    done = []

    def work(counter):
        transaction = transaction_of(counter)

        def before_commit():
            savepoint = transaction.savepoint()
            transaction.addBeforeCommitHook(transaction.addBeforeCommitHook, (roll_back, (savepoint,)))

        def roll_back(savepoint):
            savepoint.rollback()
            transaction.join(Failing("", ConflictError(), done))

        transaction.addBeforeCommitHook(before_commit)

    with pytest.raises(CommitUnknown):
        make(counter.run, work, policy=AGAIN)
    assert done == [1]


# -- an exit after the commit


class Exiting:
    """A synchronizer that ends the program once a transaction is committed."""

    def __init__(self, error):
        self._error = error

    def beforeCompletion(self, _transaction):
        pass

    def newTransaction(self, _transaction):
        pass

    def afterCompletion(self, transaction):
        if transaction.status == "Committed":
            raise self._error


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=["SystemExit", "KeyboardInterrupt"])
@pytest.mark.parametrize("deadline", [None, 60])
def test_an_exit_after_the_commit_comes_after_the_actions_and_is_logged(db, counter, error, deadline, caplog):
    synchronizer, done = Exiting(error), []

    def work(counter):
        counter._p_jar.transaction_manager.registerSynch(synchronizer)
        calls.after_commit(lambda: done.append(threading.get_ident()))
        return counter.add()

    with pytest.raises(type(error)) as caught:
        threads.run(counter.run, work, policy=calls.Policy(deadline=deadline))
    assert caught.value is error
    assert done == [threading.get_ident()]
    assert get(db) == 1
    assert pool_of(db).in_flight == 0
    assert f"commit_followed_by_exit error={type(error).__name__}" in caplog.text


@pytest.mark.parametrize("in_threads", [True, False])
def test_an_exit_after_the_commit_comes_after_the_actions_on_a_reactor(db, counter, running, in_threads):
    synchronizer, done = Exiting(SystemExit(3)), []

    def work(counter):
        counter._p_jar.transaction_manager.registerSynch(synchronizer)
        calls.after_commit(lambda: done.append(threading.get_ident()))
        return counter.add()

    call = Partial(counter.run, work, reactor=running.reactor, threads=in_threads)

    def begin():
        with pytest.raises(SystemExit):  # there is who called it
            call()

    if in_threads:
        with pytest.raises(SystemExit):
            running.ask(call)
    else:
        running.ask(begin)
    assert done == [running.thread]
    assert get(db) == 1


def test_an_exit_after_the_commit_comes_after_the_actions_on_a_loop(db, counter):
    synchronizer, done = Exiting(SystemExit(3)), []

    def work(counter):
        counter._p_jar.transaction_manager.registerSynch(synchronizer)
        calls.after_commit(lambda: done.append(threading.get_ident()))
        return counter.add()

    with pytest.raises(SystemExit):
        asyncio.run(aio.call(counter.run, work))
    assert done == [threading.get_ident()]
    assert get(db) == 1


# -- actions that cancel who asked


def cancel(task):
    task.cancel()


def throw(_task):
    raise asyncio.CancelledError


@pytest.mark.parametrize("action", [cancel, throw])
@pytest.mark.parametrize("connections", [7, 1])
def test_a_task_that_is_cancelled_by_its_own_action_hears_that_it_is_committed(db, counter, action, connections):
    calls.limit(db, connections=connections)
    tasks, done = [], []

    def work(counter):
        calls.after_commit(lambda: action(tasks[0]))
        calls.after_commit(done.append, 1)
        return counter.add()

    async def main():
        held = pool_of(db).ask()
        tasks.append(asyncio.create_task(aio.call(counter.run, work)))
        await asyncio.sleep(0)
        held.give_back()
        return await tasks[0]

    with pytest.raises(asyncio.CancelledError) as caught:
        asyncio.run(main())
    assert isinstance(calls.find_commit(caught.value), CommittedAlready)
    assert done == [1]
    assert get(db) == 1


def test_a_task_that_was_cancelled_before_and_goes_on_has_its_result(counter):
    async def main():
        asyncio.current_task().cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)
        return await aio.call(counter.add)

    assert asyncio.run(main()) == 1


# -- a Deferred that the call returned


def never_fires():
    return Deferred()


def ignores_it():
    inner = Deferred()
    inner.addErrback(lambda _: Deferred())
    return inner


def has_a_result():
    return Deferred(lambda inner: inner.callback("in time"))


def fails_otherwise():
    return Deferred(lambda inner: inner.errback(KeyError("x")))


@pytest.mark.parametrize("in_threads", [True, False])
@pytest.mark.parametrize(
    ("make_inner", "error"),
    [
        (never_fires, CommittedAlready),
        (ignores_it, CommittedAlready),
        (has_a_result, None),
        (fails_otherwise, KeyError),
    ],
)
@pytest.mark.parametrize("by", ["who asked", "an action"])
def test_cancelled_while_its_deferred_is_waited_for_it_is_committed(
    db, counter, running, in_threads, make_inner, error, by
):
    deferreds = []

    def work(counter):
        if by == "an action" and in_threads:
            calls.after_commit(lambda: deferreds[0].cancel())
        counter.add()
        return make_inner()

    def begin():
        deferreds.append(Partial(counter.run, work, reactor=running.reactor, threads=in_threads)())
        if by == "who asked":
            later = deferLater(running.reactor, 0, int) if not in_threads else until_committed()
            later.addCallback(lambda _: deferreds[0].cancel())
        elif not in_threads:
            deferreds[0].cancel()
        return deferreds[0]

    def until_committed():
        if get(db) and not pool_of(db).in_flight:
            return succeed(None)
        return deferLater(running.reactor, 0.01, until_committed)

    if error is None:
        assert running.ask(begin) == "in time"
    else:
        with pytest.raises(error):
            running.ask(begin)
    assert get(db) == 1


def test_a_deferred_of_the_call_that_is_cancelled_by_itself_is_the_errors_owner(counter, running):
    def work(_counter):
        inner = Deferred()
        running.reactor.callLater(0.01, inner.cancel)
        return inner

    with pytest.raises(CancelledError):
        running.ask(Partial(counter.run, work, reactor=running.reactor, threads=False))


# -- a call that closes its connection


@pytest.fixture
def two():
    """Two databases that reach each other."""
    databases = {}
    for name in "ab":
        DB(None, database_name=name, databases=databases)
        put(databases[name], counter=Counter())
    yield databases
    for database in databases.values():
        database.close()


@pytest.mark.parametrize("which", ["a", "b"])
@pytest.mark.parametrize("aborted", [True, False])
def test_a_call_that_closes_its_connection_is_refused_and_breaks_no_other(make, two, which, aborted):  # noqa: F811
    reference = calls.ref(two["a"].open(transaction.TransactionManager()).root()["counter"])
    counts = []

    def closing(counter):
        connection = counter._p_jar.get_connection(which)
        if aborted:
            connection.transaction_manager.abort()
        try:
            connection.close()
        finally:
            counts.append(count_beside())
            assert counter._p_jar.opened

    def count_beside():
        manager = transaction.TransactionManager()
        beside = two["a"].open(manager)
        try:
            assert beside.transaction_manager is manager
            return beside.root()["counter"].count
        finally:
            manager.abort()
            beside.close()

    with pytest.raises(TransactionEnded):
        make(Counter.run, reference, closing, policy=AGAIN)
    assert counts == [0]
    assert pool_of(two["a"]).in_flight == 0
    opened = [each for database in two.values() for each in database.connectionDebugInfo() if each["opened"]]
    assert len(opened) <= 1  # the test's own
    assert make(Counter.add, reference) == 1


def test_a_call_may_close_a_connection_of_its_own_making(counter, make):  # noqa: F811
    def work(counter):
        manager = counter._p_jar.transaction_manager
        counter._p_jar.db().open(manager).close()
        return counter.add()

    assert make(counter.run, work) == 1


def test_a_database_may_be_closed_while_a_call_has_its_connection(two):
    closed = []
    with two["a"].transaction() as connection:
        reference = calls.ref(connection.root()["counter"])

    def work(counter):
        counter._p_jar.db().close()
        closed.append(1)

    with pytest.raises(Closed):
        threads.run(Counter.run, reference, work)
    assert closed == [1]
