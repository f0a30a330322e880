"""Calls from real reactors while a real ZEO server comes and goes."""

import threading

import pytest
import transaction
from twisted.internet.defer import CancelledError, gatherResults

from tests.calls.conftest import get
from tests.calls.things import Counter
from tests.conftest import wait_for
from tests.zeo.making import a_holder
from zkfleet import calls, zeo
from zkfleet.calls.pool import pool_of
from zkfleet.calls.twisted import Partial
from zkfleet.errors import CommitUnknown, WaitTimedOut

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.usefixtures("quiet")]
# So that only the connection can wake it in time.
PATIENT = calls.Policy(max_transaction_errors=None, initial_backoff=60)


@pytest.fixture
def db(served):
    return served


@pytest.fixture
def counter(db):
    """The place of the counter: to load it is up to the calls."""
    connection = db.open(transaction.TransactionManager())
    yield calls.ref(connection.root()["counter"])
    connection.close()


@pytest.fixture(params=["reactor", "threads"])
def partial(request, running):
    def make(function, *args, policy=PATIENT, **options):
        threads = request.param == "threads"
        return Partial(function, *args, policy=policy, reactor=running.reactor, threads=threads, **options)

    return make


def waits():
    return calls.statistics().disconnect_waits


def away(db, server):
    server.kill()
    wait_for(lambda: not db.storage.is_connected())


def is_idle(db):
    return (pool_of(db).in_flight, pool_of(db).queued) == (0, 0)


def test_a_server_is_called_in_threads(db, counter, running):
    seen = running.ask(Partial(Counter.run, counter, lambda _: threading.get_ident(), reactor=running.reactor))
    assert seen != running.thread


def test_all_who_wait_for_a_server_are_woken_when_it_is_back(db, counter, server, running, partial):
    away(db, server)
    before = waits()
    add = partial(Counter.add, counter)
    results = running.begin(lambda: gatherResults([add() for _ in range(20)]))
    wait_for(lambda: waits() >= before + 20)
    assert running.ask(lambda: "here") == "here"
    assert is_idle(db)
    server.start()
    assert sorted(results.result(60)) == list(range(1, 21))


def test_who_does_not_want_to_wait_that_long_is_told(db, counter, server, running, partial):
    away(db, server)
    with pytest.raises(WaitTimedOut, match="the last error was ClientDisconnected"):
        running.ask(partial(Counter.add, counter, policy=calls.Policy(deadline=0.05)))
    assert is_idle(db)


def test_who_is_cancelled_while_it_waits_for_a_server_leaves_the_others_waiting(db, counter, server, running, partial):
    away(db, server)
    before = waits()
    add = partial(Counter.add, counter)
    leaving, staying = running.ask(lambda: [(add(), add())])[0]
    wait_for(lambda: waits() >= before + 2)
    with pytest.raises(CancelledError):
        running.ask(cancelled, leaving)
    server.start()
    assert running.begin(lambda: staying).result(60) == 1
    assert get(db) == 1


def cancelled(deferred):
    deferred.cancel()
    return deferred


@pytest.mark.parametrize(
    ("where", "request_or_reply"),
    [("loadBefore", "request"), ("tpc_begin", "request"), ("vote", "reply"), ("tpc_finish", "reply")],
)
def test_wherever_the_connection_is_lost_a_call_is_counted_once(
    db, link, counter, running, partial, where, request_or_reply
):
    if where == "loadBefore":
        db.storage._cache.clear()
        db.cacheMinimize()
    performed = []

    def work(counter):
        calls.after_commit(lambda: performed.append(threading.get_ident()))
        return counter.add()

    link.lose(where, request_or_reply)
    assert running.begin(partial(Counter.run, counter, work)).result(60) == 1
    assert link.lost.is_set()
    assert get(db) == 1
    assert performed == [running.thread]


def test_a_server_that_is_killed_under_calls_again_and_again_loses_none(db, counter, server, running):
    calls.limit(db, connections=4)
    add = Partial(Counter.add, counter, policy=PATIENT, reactor=running.reactor)

    def one_after_another(number):
        return add().addCallback(lambda _: one_after_another(number - 1) if number > 1 else None)

    results = running.begin(lambda: gatherResults([one_after_another(25) for _ in range(8)]))
    for share in (40, 100, 150):
        wait_for(lambda share=share: results.done() or seen(db) >= share, 30)
        server.kill()
        server.start()
    results.result(60)
    assert get(db) == 200
    assert is_idle(db)


def seen(db):
    """What is committed, or 0 while there is no server."""
    try:
        return get(db)
    except zeo.ClientDisconnected:
        return 0


def test_a_reactor_goes_on_while_it_is_asked_what_became_of_a_commit(db, link, counter, running, partial):
    """The request is held back, and the commit lock with it: until it is delivered nobody can tell."""
    link.lose("tpc_finish", "late")
    result = running.begin(partial(Counter.add, counter))
    assert link.lost.wait(60)
    assert running.ask(lambda: "here") == "here"
    assert not result.done()
    link.deliver()
    assert result.result(60) == 1
    assert get(db) == 1


def test_cancelled_while_it_is_asked_nobody_knows(db, link, counter, running, partial):
    link.lose("tpc_finish", "late")
    deferred = running.ask(lambda: [partial(Counter.add, counter)()])[0]
    assert link.lost.wait(60)
    wait_for(lambda: is_idle(db))
    with pytest.raises(CommitUnknown, match="asked what became") as caught:
        running.ask(cancelled, deferred)
    link.deliver()
    assert zeo.outcome(db, caught.value.marker).outcome is zeo.Outcome.COMMITTED


def test_cancelled_before_it_is_asked_nobody_knows(db, link, counter, running):
    link.lose("tpc_finish", "reply")
    call = Partial(Counter.add, counter, reactor=running.reactor)

    def cancel_unheard():
        deferred = call()
        wait_for(lambda: call._last.run.attempt.failure and is_idle(db))  # the reactor is busy, and has not heard of it
        return cancelled(deferred)

    with pytest.raises(CommitUnknown, match="cancelled when the reply"):
        running.ask(cancel_unheard)
    assert get(db) == 1


def test_cancelled_in_its_commit_nobody_knows_and_its_actions_come(db, counter, server, running):
    performed = []

    def work(counter):
        calls.after_commit(lambda: performed.append(threading.get_ident()))
        return counter.add()

    call = Partial(Counter.run, counter, work, reactor=running.reactor)
    with a_holder(server.address) as (holder, t):
        deferred = running.ask(lambda: [call()])[0]
        wait_for(lambda: call._last.run.attempt and call._last.run.attempt.began_commit)
        with pytest.raises(CommitUnknown, match="cancelled while its commit") as caught:
            running.ask(cancelled, deferred)
        assert not performed
        holder.tpc_abort(t)
    wait_for(lambda: performed)
    assert performed == [running.thread]
    assert zeo.outcome(db, caught.value.marker).outcome is zeo.Outcome.COMMITTED
    assert is_idle(db)


def test_cancelled_while_it_is_repeated_the_first_commit_is_unknown_and_there_is_no_second(
    db, link, counter, other, running
):
    tries, go_on, performed = [], threading.Event(), []

    def work(counter):
        calls.after_commit(performed.append, 1)
        tries.append(counter.add())
        assert len(tries) == 1 or go_on.wait(60)

    policy = calls.Policy(on_unknown="retry", outcome_timeout=0.2)
    call = Partial(Counter.run, counter, work, policy=policy, reactor=running.reactor)
    link.lose("tpc_finish", "late")
    deferred = running.ask(lambda: [call()])[0]
    assert link.lost.wait(60)
    first = call._last.run.attempt.marker
    wait_for(lambda: len(tries) == 2)
    with pytest.raises(CommitUnknown) as caught:
        running.ask(cancelled, deferred)
    assert caught.value.marker == first
    go_on.set()
    wait_for(lambda: is_idle(db))
    link.deliver()
    assert zeo.outcome(db, first).outcome is zeo.Outcome.COMMITTED
    wait_for(lambda: get(other) == 1)
    assert not performed
