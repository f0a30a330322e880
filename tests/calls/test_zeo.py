"""Real ZEO servers, and links to them that are cut where it hurts."""

import gc
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import transaction
from ZEO.ClientStorage import ClientStorage
from ZEO.Exceptions import ClientDisconnected
from ZODB import DB
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage

from tests.calls.conftest import get, put
from tests.calls.things import Counter
from tests.conftest import wait_for
from tests.zeo.asked import Losing, ZeoServer
from tests.zeo.making import a_holder
from zkfleet import calls, zeo
from zkfleet.calls import threads
from zkfleet.calls.pool import pool_of
from zkfleet.errors import Closed, CommitUnknown

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.usefixtures("quiet")]
# ZEO drops coroutines and files of its own, of requests that are under way or come when it is closed.
closing = pytest.mark.filterwarnings(
    "ignore:coroutine 'ClientIO:RuntimeWarning", "ignore:unclosed file:ResourceWarning"
)
PATIENT = calls.Policy(initial_backoff=60)  # so that only the connection can wake it in time


@pytest.fixture
def db(served):
    return served


@pytest.fixture
def collected():
    """What a test drops is gone before the next begins."""
    yield
    gc.collect()


@pytest.fixture
def counter(db):
    connection = db.open(transaction.TransactionManager(explicit=True))
    connection.transaction_manager.begin()
    yield connection.root()["counter"]
    connection.transaction_manager.abort()
    connection.close()


def in_a_thread(function, *args, **keywords):
    pool = ThreadPoolExecutor(1)
    future = pool.submit(function, *args, **keywords)
    pool.shutdown(wait=False)
    return future


def test_a_call_waits_for_a_server_that_is_away_and_is_woken_when_it_is_back(db, counter, server):
    server.kill()
    wait_for(lambda: not db.storage.is_connected())
    before = calls.statistics().disconnect_waits
    result = in_a_thread(threads.run, Counter.add, counter, policy=PATIENT)
    wait_for(lambda: calls.statistics().disconnect_waits > before)
    assert calls.statistics().in_flight == 0
    server.start()
    assert result.result(60) == 1
    assert get(db) == 1


# The server does not reply to tpc_begin and storea.
LOSSES = [(where, "request") for where in ("loadBefore", "tpc_begin", "storea", "vote", "tpc_finish")]
LOSSES += [(where, "reply") for where in ("loadBefore", "vote", "tpc_finish")]


@pytest.mark.parametrize(("where", "request_or_reply"), LOSSES)
def test_wherever_the_connection_is_lost_a_call_is_counted_once(db, link, counter, other, where, request_or_reply):
    done = []

    def work(counter):
        calls.after_commit(done.append, 1)
        return counter.add()

    if where == "loadBefore":
        db.storage._cache.clear()
        db.cacheMinimize()
    link.lose(where, request_or_reply)
    assert in_a_thread(threads.run, Counter.run, counter, work, policy=PATIENT).result(60) == 1
    assert link.lost.is_set()
    assert threads.run(Counter.add, counter) == 2
    wait_for(lambda: get(other) == 2)
    assert done == [1]


@pytest.mark.parametrize("where", ["loadBefore", "vote", "tpc_finish"])
def test_a_server_that_dies_on_a_call_is_waited_for(db, link, counter, server, where):
    if where == "loadBefore":
        db.storage._cache.clear()
        db.cacheMinimize()
    link.lose(where, "late")
    result = in_a_thread(threads.run, Counter.add, counter, policy=PATIENT)
    assert link.lost.wait(60)
    server.kill()
    server.start()
    assert result.result(60) == 1
    assert get(db) == 1


@pytest.fixture
def two(tmp_path):
    """Two databases, the links to them and their servers, by name."""
    with ExitStack() as opened:
        databases, links, servers = {}, {}, {}
        for name in "ab":
            folder = tmp_path / name
            folder.mkdir()
            servers[name] = opened.enter_context(ZeoServer(folder))
            links[name] = opened.enter_context(Losing(servers[name].port))
            storage = ClientStorage(links[name].address, wait_timeout=10)
            db = DB(storage, databases=databases, database_name=name)
            opened.callback(db.close)
            put(db, counter=Counter(10))
        yield databases, links, servers


def reference(db):
    with db.transaction() as connection:
        return calls.ref(connection.root()["counter"])


def test_what_is_in_one_database_and_not_in_the_other_is_unknown(two):
    databases, links, _ = two
    first, last = sorted("ab", key=lambda name: databases[name].storage.sortKey())
    links[last].lose("tpc_finish", "request")
    with pytest.raises(CommitUnknown, match=f"{last}: not committed"):
        threads.run(Counter.take_from, reference(databases["a"]), reference(databases["b"]))
    assert {name: get(databases[name]) != 10 for name in "ab"} == {first: True, last: False}


def test_a_database_that_a_call_does_not_need_may_be_away(two):
    databases, _, servers = two
    refs = {name: reference(databases[name]) for name in "ab"}
    servers["b"].kill()
    wait_for(lambda: not databases["b"].storage.is_connected())
    assert threads.run(Counter.add, refs["a"]) == 11
    before = calls.statistics().disconnect_waits
    both = in_a_thread(threads.run, Counter.take_from, refs["a"], refs["b"], policy=PATIENT)
    wait_for(lambda: calls.statistics().disconnect_waits > before)
    servers["b"].start()
    assert both.result(60) == 12


# A request that is held back keeps the commit lock with it, and as long as that is so nobody can tell.


def test_what_nobody_can_tell_is_not_repeated_and_can_be_asked_for_later(db, link, counter, other):
    before = calls.statistics().outcomes_unknown
    link.lose("tpc_finish", "late")
    with pytest.raises(CommitUnknown, match="commit lock") as caught:
        threads.run(Counter.add, counter, policy=calls.Policy(outcome_timeout=0.3))
    assert calls.statistics().outcomes_unknown == before + 1
    link.deliver()
    assert zeo.outcome(db, caught.value.marker).outcome is zeo.Outcome.COMMITTED
    wait_for(lambda: get(other) == 1)


def test_what_may_happen_twice_is_repeated_if_nobody_can_tell(db, link, counter, other):
    before = calls.statistics().outcomes_unknown
    link.lose("tpc_finish", "late")
    policy = calls.Policy(outcome_timeout=0.3, on_unknown="retry", initial_backoff=60)
    result = in_a_thread(threads.run, Counter.add, counter, policy=policy)
    wait_for(lambda: calls.statistics().outcomes_unknown > before)
    link.deliver()
    assert result.result(60) == 2
    wait_for(lambda: get(other) == 2)


@pytest.mark.parametrize("end", ["deadline", "disconnects", "error"])
def test_what_may_have_happened_is_never_said_not_to_have(db, link, end):
    """Whatever ends a call that was repeated all the same."""
    deadline = 2 if end == "deadline" else None
    limits = {ClientDisconnected: 1} if end == "disconnects" else {}
    policy = calls.Policy(on_unknown="retry", outcome_timeout=0.2, deadline=deadline, max_errors=limits)
    tries, over, before = [], threading.Event(), calls.statistics().outcomes_unknown

    def work(counter):
        if tries:
            assert end != "deadline" or over.wait(60)
            raise KeyError
        tries.append(counter.add())

    link.lose("tpc_finish", "late")
    result = in_a_thread(threads.run, Counter.run, reference(db), work, policy=policy)
    assert link.lost.wait(60)
    wait_for(lambda: calls.statistics().outcomes_unknown > before)
    with pytest.raises(CommitUnknown) as caught:
        result.result(60)
    over.set()
    link.deliver()
    assert zeo.outcome(db, caught.value.marker).outcome is zeo.Outcome.COMMITTED
    wait_for(lambda: not any(thread.name == "zkfleet-outcome" for thread in threading.enumerate()))


@closing
@pytest.mark.usefixtures("collected")
def test_a_database_that_is_closed_while_a_call_waits_ends_it(db, counter, server):
    server.kill()
    wait_for(lambda: not db.storage.is_connected())
    before = calls.statistics().disconnect_waits
    result = in_a_thread(threads.run, Counter.add, counter, policy=PATIENT)
    wait_for(lambda: calls.statistics().disconnect_waits > before)
    db.storage.close()
    with pytest.raises(Closed):
        result.result(60)


@closing
@pytest.mark.usefixtures("collected")
def test_a_database_that_is_closed_while_it_is_asked_leaves_it_unknown(db, link, other):
    link.lose("tpc_finish", "late")
    result = in_a_thread(threads.run, Counter.add, reference(db))
    assert link.lost.wait(60)
    db.close()
    with pytest.raises(CommitUnknown):
        result.result(60)
    link.deliver()
    wait_for(lambda: get(other) == 1)


class Stopping:
    """Takes part in a transaction, and freezes the server where it is to hang."""

    def __init__(self, manager, where, server):
        self.transaction_manager, self._where, self._server = manager, where, server

    def sortKey(self):
        return "!"  # before the server's

    def tpc_vote(self, _transaction):
        self._freeze("vote")

    def tpc_finish(self, _transaction):
        self._freeze("finish")

    def _freeze(self, where):
        if where == self._where:
            self._server.send(signal.SIGSTOP)

    def _nothing(self, _transaction):
        pass

    abort = tpc_begin = commit = tpc_abort = _nothing


@closing
@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize(("where", "told"), [("load", Closed), ("vote", Closed), ("finish", CommitUnknown)])
def test_a_database_that_is_closed_under_a_call_to_a_frozen_server_gives_back_its_thread_and_slot(
    db, server, where, told
):
    pool, requests = pool_of(db), db.storage._server.client.protocol.futures

    def work(counter):
        manager = counter._p_jar.transaction_manager
        manager.get().join(Stopping(manager, where, server))
        if where == "load":
            server.send(signal.SIGSTOP)
        return counter.add()

    ref = reference(db)
    db.storage._cache.clear()
    db.cacheMinimize()
    result = in_a_thread(threads.run, Counter.run, ref, work)
    try:
        wait_for(lambda: requests and server.is_frozen())
        db.close()
        with pytest.raises(told):
            result.result(60)
        assert pool.in_flight == 0
    finally:
        server.send(signal.SIGCONT)


def test_whoever_limits_disconnects_hears_of_them(db, counter, server):
    server.kill()
    wait_for(lambda: not db.storage.is_connected())
    with pytest.raises(ClientDisconnected):
        threads.run(Counter.add, counter, policy=calls.Policy(max_errors={ClientDisconnected: 1}))


def test_a_storm_of_16_callers_on_one_counter_loses_none(db, counter):
    policy = calls.Policy(max_transaction_errors=None)
    calls.limit(db, connections=8)
    before = calls.statistics()

    def call_often():
        for _ in range(10):
            threads.run(Counter.add, counter, policy=policy)

    with ThreadPoolExecutor(16) as callers:
        for caller in [callers.submit(call_often) for _ in range(16)]:
            caller.result(60)
    assert get(db) == 160
    assert calls.statistics().calls - before.calls == 160
    assert sum(calls.statistics().conflicts.values()) > sum(before.conflicts.values())


def test_under_load_nothing_is_lost_or_counted_twice_however_the_connection_breaks(db, link, counter, other):
    policy = calls.Policy(max_transaction_errors=None, initial_backoff=60)
    over, made, performed = threading.Event(), [], []

    def work(counter):
        calls.after_commit(performed.append, 1)
        return counter.add()

    def call_until_over():
        while not over.is_set():
            made.append(threads.run(Counter.run, counter, work, policy=policy))

    with ThreadPoolExecutor(8) as callers:
        running = [callers.submit(call_until_over) for _ in range(8)]
        for where, what in [
            ("tpc_finish", "reply"),
            ("vote", "reply"),
            ("tpc_finish", "request"),
            ("storea", "request"),
        ]:
            before = len(made)
            link.lose(where, what)
            assert link.lost.wait(60), where
            wait_for(lambda: len(made) > before + 20, 20)  # noqa: B023  called here
        over.set()
        for caller in running:
            caller.result(60)
    assert sorted(made) == list(range(1, len(made) + 1))
    assert len(performed) == len(made)
    wait_for(lambda: get(other) == len(made))


def test_a_commit_that_is_under_way_at_the_deadline_is_unknown_until_it_is_known(db, counter, server):
    with a_holder(server.address) as (holder, t):
        with pytest.raises(CommitUnknown, match="deadline") as caught:
            threads.run(Counter.add, counter, policy=calls.Policy(deadline=0.5))
        holder.tpc_abort(t)
    wait_for(lambda: calls.statistics().in_flight == 0)
    assert zeo.outcome(db, caught.value.marker).outcome is zeo.Outcome.COMMITTED
    assert get(db) == 1


def test_the_actions_of_a_call_that_is_committed_after_its_deadline_are_performed(db, counter, server):
    done = threading.Event()

    def work(counter):
        calls.after_commit(done.set)
        return counter.add()

    with a_holder(server.address) as (holder, t):
        with pytest.raises(CommitUnknown):
            threads.run(Counter.run, counter, work, policy=calls.Policy(deadline=0.5))
        assert not done.is_set()
        holder.tpc_abort(t)
    assert done.wait(60)


@pytest.mark.parametrize("where", ["tpc_begin", "storea", "vote"])
def test_a_commit_that_never_finished_needs_no_answer(db, link, counter, server, where):
    before = calls.statistics()
    link.lose(where, "request")
    policy = calls.Policy(outcome_timeout=0.01, initial_backoff=60)
    result = in_a_thread(threads.run, Counter.add, counter, policy=policy)
    assert link.lost.wait(60)
    server.kill()
    # ZEO itself waits for the next connection first, for as long as the `wait_timeout` of the storage: 10 s.
    wait_for(lambda: calls.statistics().disconnect_waits > before.disconnect_waits, 20)
    server.start()
    assert result.result(60) == 1
    assert calls.statistics().outcomes_unknown == before.outcomes_unknown


# -- a server and a storage of the process itself, in one transaction


@pytest.fixture
def local(request, db, tmp_path):
    """A database beside the one on the server; each test says of which kind."""
    place = str(tmp_path / "local.fs") if request.param is FileStorage else "local"
    local = DB(request.param(place), databases=db.databases, database_name="local")
    put(local, counter=Counter())
    yield local
    local.close()


def add_to_both(counter):
    counter._p_jar.get_connection("local").root()["counter"].add()
    return counter.add()


@pytest.mark.parametrize("local", [FileStorage], indirect=True)
def test_a_lost_reply_is_made_good_if_every_database_has_the_transaction(db, local, counter, link):
    link.lose("tpc_finish", "reply")
    assert threads.run(Counter.run, counter, add_to_both, policy=PATIENT) == 1
    assert link.lost.is_set()
    assert (get(db), get(local)) == (1, 1)


@pytest.mark.parametrize("local", [MappingStorage, DemoStorage], indirect=True)
def test_a_database_that_cannot_be_asked_leaves_a_lost_reply_unknown(db, local, counter, link):
    link.lose("tpc_finish", "reply")
    with pytest.raises(CommitUnknown, match=r"local: unknown .*keeps no log"):
        threads.run(Counter.run, counter, add_to_both, policy=PATIENT)
    assert link.lost.is_set()
    assert get(db) == 1


@pytest.mark.parametrize("local", [FileStorage], indirect=True)
def test_a_lost_request_is_unknown_if_another_database_has_the_transaction(db, local, counter, link):
    link.lose("tpc_finish", "request")
    with pytest.raises(CommitUnknown, match=r"local: committed .*not committed"):
        threads.run(Counter.run, counter, add_to_both, policy=PATIENT)
    assert (get(db), get(local)) == (0, 1)
