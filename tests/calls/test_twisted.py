"""The door for Twisted, on real reactors; how it goes on servers is in `test_twisted_zeo`."""

import asyncio
import contextvars
import functools
import gc
import random
import subprocess
import sys
import threading

import pytest
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.python import context
from twisted.python.failure import Failure
from ZODB import DB
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import ConflictError

from tests.calls.conftest import get, put
from tests.calls.reactors import RunningReactor
from tests.calls.things import Counter
from tests.conftest import wait_for
from zkfleet import calls
from zkfleet.calls.pool import pool_of
from zkfleet.calls.twisted import Partial
from zkfleet.errors import BadInput, CommittedAlready, CommitUnknown, EscapedObject, QueueFull, WaitTimedOut


@pytest.fixture(params=["reactor", "threads"])
def threads(request):
    """Whether calls are made in threads: everything holds for both."""
    return request.param == "threads"


@pytest.fixture
def partial(running, threads):
    """Makes one for the reactor that runs."""

    def make(function, *args, **options):
        return Partial(function, *args, reactor=running.reactor, threads=threads, **options)

    return make


def throw(error):
    raise error


def is_idle(db):
    return (pool_of(db).in_flight, pool_of(db).queued) == (0, 0)


# -- results


def test_a_method_is_called_and_committed(db, counter, running, partial):
    assert running.ask(partial(counter.add, 3)) == 3
    assert get(db) == 3
    assert counter.count == 0


def test_deferreds_fire_in_the_reactors_thread(counter, running, partial, threads):
    def call():
        return partial(counter.run, lambda _: threading.get_ident())().addCallback(
            lambda worked: (worked, threading.get_ident())
        )

    worked, fired = running.ask(call)
    assert fired == running.thread
    assert (worked == running.thread) == (not threads)


def test_in_the_reactors_thread_a_call_is_done_when_it_returns(db, counter, running):
    def call():
        deferred = Partial(counter.add, reactor=running.reactor)()
        return deferred.called, get(db)

    assert running.ask(call) == (True, 1)


@pytest.mark.parametrize(
    ("storage", "blocks"),
    [
        (lambda _: MappingStorage(), False),
        (lambda _: DemoStorage(), False),
        (lambda _: DemoStorage(base=DemoStorage()), False),
        (lambda folder: FileStorage(str(folder / "Data.fs")), True),
        (lambda folder: DemoStorage(base=FileStorage(str(folder / "Data.fs"))), True),
    ],
)
def test_what_can_block_is_done_in_threads_unless_one_says_otherwise(tmp_path, running, storage, blocks):
    db = DB(storage(tmp_path))
    put(db, counter=Counter())
    connection = db.open()
    call = Partial(connection.root()["counter"].run, lambda _: threading.get_ident(), reactor=running.reactor)
    assert (running.ask(call) != running.thread) == blocks
    call.threads = not blocks
    assert (running.ask(call) != running.thread) == (not blocks)
    connection.close()
    db.close()


def test_one_database_that_can_block_among_many_is_enough(tmp_path, running):
    databases = {}
    db = DB(None, database_name="memory", databases=databases)
    other = DB(str(tmp_path / "Data.fs"), database_name="file", databases=databases)
    put(db, counter=Counter())
    connection = db.open()
    call = Partial(connection.root()["counter"].run, lambda _: threading.get_ident(), reactor=running.reactor)
    assert running.ask(call) != running.thread
    connection.close()
    other.close()
    db.close()


def test_without_anything_persistent_it_is_simply_called():
    assert Partial(sorted, [2, 1], reverse=True)() == [2, 1]
    with pytest.raises(KeyError):
        Partial(throw)(KeyError("no"))


def test_a_deferred_that_is_returned_is_waited_for_after_the_commit(db, counter, running, partial):
    given = Deferred()

    def work(counter):
        counter.add()
        return given

    result = running.begin(partial(counter.run, work))
    wait_for(lambda: get(db) == 1)
    assert not result.done()
    running.reactor.callFromThread(given.callback, "later")
    assert result.result(60) == "later"
    assert is_idle(db)


def test_a_deferred_that_is_returned_fails_without_frames(counter, running, partial):
    def seen():
        return partial(counter.run, lambda _: given)().addErrback(lambda failure: failure)

    given = Deferred()
    kept = []
    result = running.begin(lambda: seen().addBoth(kept.append))
    running.reactor.callFromThread(lambda: given.errback(failure_of(KeyError("no"))))
    result.result(60)
    assert kept[0].check(KeyError)
    assert kept[0].tb is None
    assert kept[0].value.__traceback__ is None


def failure_of(error):
    try:
        raise error
    except Exception:
        return Failure()


def test_what_a_deferred_gives_must_not_be_persistent_either(db, counter, running, partial):
    given = []

    def work(counter):
        given.append(counter)
        return deferLater(running.reactor, 0, lambda: {"it": given[0]})

    with pytest.raises(EscapedObject) as caught:
        running.ask(partial(counter.run, work))
    assert caught.value.place == "result['it']"


def test_a_reactor_that_a_deferred_leads_to_is_not_looked_into(counter, running, partial):
    """It knows everything: this counter, too."""
    delayed = running.reactor.callLater(100, print, counter)
    try:
        work = partial(counter.run, lambda _: deferLater(running.reactor, 0, lambda: 1))
        assert running.ask(work) == 1
    finally:
        running.reactor.callFromThread(delayed.cancel)


def test_a_failure_that_is_returned_is_committed_and_fails(db, counter, running, partial):
    def work(counter):
        counter.add()
        return failure_of(KeyError("no"))

    with pytest.raises(KeyError):
        running.ask(partial(counter.run, work))
    assert get(db) == 1


def test_errors_come_without_frames(db, counter, running, partial):
    kept = []
    running.ask(lambda: partial(counter.fail, KeyError("no"))().addBoth(kept.append))
    assert kept[0].check(KeyError)
    assert kept[0].tb is None
    assert kept[0].value.__traceback__ is None
    assert "in fail" in kept[0].getTraceback()
    assert get(db) == 0


def test_a_persistent_result_is_refused_or_becomes_a_reference(db, counter, running, partial):
    with pytest.raises(EscapedObject):
        running.ask(partial(counter.itself))
    ref = running.ask(partial(counter.itself, policy=calls.Policy(results="reference")))
    assert running.ask(partial(Counter.add, ref, 5)) == 5


def test_what_is_wrong_with_arguments_is_told_at_once(counter, partial):
    with pytest.raises(BadInput, match="no transaction has stored"):
        partial(Counter().add)
    with pytest.raises(BadInput, match=r"argument 0 is .*no transaction has stored"):
        partial(counter.add)(Counter())


# -- trying again


@pytest.mark.slow
def test_a_storm_of_16_callers_on_one_counter_loses_none(tmp_path, running, threads):
    db = DB(str(tmp_path / "Data.fs"), pool_size=8)
    put(db, counter=Counter())
    connection = db.open()
    counter = connection.root()["counter"]
    callers = [Partial(counter.add, reactor=running.reactor, threads=threads) for _ in range(16)]
    for caller in callers:
        caller.max_transaction_errors = None

    def ten_times(caller, number=0):
        return caller().addCallback(lambda _: ten_times(caller, number + 1) if number < 9 else None)

    running.ask(lambda: gatherResults([ten_times(caller) for caller in callers]))
    assert get(db) == 160
    assert is_idle(db)
    connection.close()
    db.close()


def test_the_reactor_goes_on_while_a_call_pauses(db, counter, running, partial):
    before = calls.statistics().conflicts.get("ConflictError", 0)
    tries = []

    def work(counter):
        tries.append(1)
        if len(tries) == 1:
            raise ConflictError
        return counter.add()

    call = partial(counter.run, work, policy=calls.Policy(conflict_delay=0.3, max_conflict_delay=0.3))
    result = running.begin(call)
    wait_for(lambda: calls.statistics().conflicts.get("ConflictError", 0) > before)
    assert running.ask(lambda: "here") == "here"
    assert result.result(60) == 1
    assert call.attempt_count == 2


def test_who_waits_for_a_connection_is_called_when_there_is_one(db, counter, running, partial):
    calls.limit(db, connections=1)
    slot = pool_of(db).ask()
    result = running.begin(partial(counter.add))
    wait_for(lambda: pool_of(db).queued == 1)
    assert running.ask(lambda: "here") == "here"
    assert not result.done()
    slot.give_back()
    assert result.result(60) == 1


def test_too_many_calls_are_refused_by_their_deferreds(db, counter, running, partial):
    calls.limit(db, connections=1, queue=0)
    slot = pool_of(db).ask()
    with pytest.raises(QueueFull):
        running.ask(partial(counter.add))
    slot.give_back()


def test_who_waits_too_long_is_told(db, counter, running, partial):
    calls.limit(db, connections=1)
    slot = pool_of(db).ask()
    with pytest.raises(WaitTimedOut, match="waited for one of 1 connections"):
        running.ask(partial(counter.add, policy=calls.Policy(deadline=0.02)))
    slot.give_back()
    assert is_idle(db)


def test_a_call_that_blocks_is_left_at_its_deadline_and_never_committed(db, counter, running):
    go_on = threading.Event()

    def block(counter):
        counter.add()
        go_on.wait(60)

    call = Partial(counter.run, block, reactor=running.reactor, threads=True, policy=calls.Policy(deadline=0.05))
    with pytest.raises(WaitTimedOut, match="will not be committed"):
        running.ask(call)
    assert pool_of(db).in_flight == 1
    go_on.set()
    wait_for(lambda: is_idle(db))
    assert get(db) == 0


@pytest.mark.slow
def test_a_thousand_calls_at_once_arrive(db, counter, running, partial, threads):
    calls.limit(db, connections=8)
    call = partial(counter.add, policy=calls.Policy(max_transaction_errors=None))
    results = running.ask(lambda: gatherResults([call() for _ in range(1000)]))
    assert sorted(results) == list(range(1, 1001))
    assert get(db) == 1000
    assert is_idle(db)


def test_when_threads_cannot_be_had_any_more_a_call_fails_and_keeps_nothing(db, counter, running):
    pool_of(db).threads.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        running.ask(Partial(counter.add, reactor=running.reactor, threads=True))
    assert is_idle(db)


# -- after the commit, and in whose context


def test_actions_are_performed_in_the_reactor_before_the_deferred_fires(db, counter, running, partial):
    seen = []

    def work(counter):
        calls.after_commit(lambda: seen.append((threading.get_ident(), get(db))))
        return counter.add()

    assert running.ask(lambda: partial(counter.run, work)().addCallback(lambda _: list(seen))) == [(running.thread, 1)]


@pytest.mark.parametrize("waits", [False, True])
def test_the_callers_context_is_everywhere(db, counter, running, partial, waits):
    variable = contextvars.ContextVar("variable", default="nobody's")
    calls.limit(db, connections=1)
    slot = pool_of(db).ask() if waits else None
    seen = []

    def look(*_args):
        seen.append(variable.get())

    def work(_counter):
        look()
        calls.after_commit(look)

    def call():
        variable.set("caller's")
        return partial(counter.run, work)().addCallback(look)

    result = running.begin(contextvars.copy_context().run, call)
    if slot:
        wait_for(lambda: pool_of(db).queued == 1)
        slot.give_back()
    result.result(60)
    assert seen == ["caller's"] * 3


def test_twisteds_own_context_goes_along(counter, running, partial):
    call = partial(counter.run, lambda _: context.get("who"))
    assert running.ask(context.call, {"who": "caller"}, call) == "caller"
    assert running.ask(call) is None


def test_a_call_inside_of_a_call_is_refused(counter, running, partial):
    with pytest.raises(BadInput, match="inside of a call"):
        running.ask(partial(counter.run, lambda inner: Partial(inner.add)()))


def test_what_a_call_has_called_later_may_make_calls(db, counter, running):
    """A reactor on asyncio calls it in the context of the call."""
    later, ref = [], calls.ref(counter)

    def work(_counter):
        call = Partial(Counter.add, ref, reactor=running.reactor)
        running.reactor.callLater(0, lambda: later.append(call()))

    running.ask(Partial(counter.run, work, reactor=running.reactor))
    wait_for(lambda: later)
    assert get(db) == 1


# -- ends


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_ends_a_program_goes_to_who_asked(db, counter, running, partial, threads, error):
    def call():
        try:
            deferred = partial(counter.fail, error())()
        except error:
            return "raised"
        return deferred.addErrback(lambda failure: failure.trap(error) and "failed")

    assert running.ask(call) == ("failed" if threads else "raised")
    assert is_idle(db)
    assert get(db) == 0


def test_what_ends_a_program_later_is_a_failure(db, counter, running, partial):
    errors = [SystemExit(), ConflictError()]
    call = partial(counter.run, lambda _: throw(errors.pop()), policy=calls.Policy(conflict_delay=0.01))
    assert running.ask(lambda: call().addErrback(lambda failure: failure.type)) is SystemExit
    assert is_idle(db)


class Holding:
    """Takes part in a transaction, and holds it up in its commit."""

    transaction_manager = None

    def __init__(self, stage="tpc_vote"):
        self._stage = stage
        self.reached, self.go_on = threading.Event(), threading.Event()

    def _at(self, stage):
        if stage == self._stage:
            self.reached.set()
            assert self.go_on.wait(60)

    def sortKey(self):
        return "~"

    def tpc_begin(self, _transaction):
        pass

    commit = tpc_finish = tpc_abort = abort = tpc_begin

    def tpc_vote(self, _transaction):
        self._at("tpc_vote")


def committing(counter, holding):
    counter._p_jar.transaction_manager.get().join(holding)
    return counter.add()


@pytest.mark.parametrize("stage", ["queued", "pausing"])
def test_cancelled_while_it_waits_a_call_is_gone(db, counter, running, partial, stage):
    calls.limit(db, connections=1)
    tries = []
    slot = pool_of(db).ask() if stage == "queued" else None

    def work(_counter):
        tries.append(1)
        raise ConflictError

    before = calls.statistics().conflicts.get("ConflictError", 0)
    policy = calls.Policy(conflict_delay=1000, max_conflict_delay=1000)
    deferred = running.ask(lambda: [partial(counter.run, work, policy=policy)()])[0]
    if slot:
        wait_for(lambda: pool_of(db).queued == 1)
    else:
        wait_for(lambda: calls.statistics().conflicts.get("ConflictError", 0) > before)
        timers = len(running.ask(running.reactor.getDelayedCalls))
    with pytest.raises(CancelledError):
        running.ask(cancelled, deferred)
    if slot:
        slot.give_back()
    else:
        assert len(running.ask(running.reactor.getDelayedCalls)) == timers - 1
    assert is_idle(db)
    assert running.ask(partial(counter.add)) == 1
    assert len(tries) == (0 if slot else 1)


def cancelled(deferred):
    deferred.cancel()
    return deferred


def test_cancelled_while_it_runs_a_call_is_not_committed(db, counter, running):
    begun, go_on = threading.Event(), threading.Event()

    def work(counter):
        counter.add()
        begun.set()
        assert go_on.wait(60)

    deferred = running.ask(lambda: [Partial(counter.run, work, reactor=running.reactor, threads=True)()])[0]
    assert begun.wait(60)
    with pytest.raises(CancelledError):
        running.ask(cancelled, deferred)
    go_on.set()
    wait_for(lambda: is_idle(db))
    assert get(db) == 0


def test_cancelled_while_it_commits_nobody_knows_and_its_actions_come(db, counter, running):
    holding, performed = Holding(), []

    def work(counter):
        calls.after_commit(lambda: performed.append(threading.get_ident()))
        return committing(counter, holding)

    deferred = running.ask(lambda: [Partial(counter.run, work, reactor=running.reactor, threads=True)()])[0]
    assert holding.reached.wait(60)
    with pytest.raises(CommitUnknown, match="cancelled while its commit"):
        running.ask(cancelled, deferred)
    holding.go_on.set()
    wait_for(lambda: performed)
    assert performed == [running.thread]
    assert get(db) == 1
    assert is_idle(db)


def test_cancelled_just_after_its_commit_a_call_has_its_result(db, counter, running):
    performed = []

    def work(counter):
        calls.after_commit(performed.append, 1)
        return counter.add()

    def call():
        deferred = Partial(counter.run, work, reactor=running.reactor, threads=True)()
        pool_of(db).threads.shutdown()  # the reactor is busy until the call is over, and has not heard of it
        return cancelled(deferred)

    assert running.ask(call) == 1
    wait_for(lambda: performed == [1])


def test_cancelled_by_itself_a_call_is_not_committed(db, counter, running):
    errors, deferreds = [ConflictError()], []

    def work(counter):
        if errors:
            raise errors.pop()
        counter.add()
        deferreds[0].cancel()

    call = Partial(counter.run, work, reactor=running.reactor, policy=calls.Policy(conflict_delay=0.01))
    with pytest.raises(CancelledError):
        running.ask(lambda: deferreds.append(call()) or deferreds[0])
    wait_for(lambda: is_idle(db))
    assert get(db) == 0


def test_cancelled_by_an_action_after_its_commit_a_call_has_its_result(db, counter, running, caplog):
    deferreds = []

    def work(counter):
        calls.after_commit(lambda: deferreds[0].cancel())
        return counter.add()

    call = Partial(counter.run, work, reactor=running.reactor, threads=True)
    assert running.ask(lambda: deferreds.append(call()) or deferreds[0]) == 1
    assert not caplog.records


def test_cancelled_after_the_call_the_deferred_that_it_returned_is_cancelled(counter, running, partial):
    inner = Deferred(lambda _: seen.append(1))
    seen = []
    deferred = running.ask(lambda: [partial(counter.run, lambda _: inner)()])[0]
    with pytest.raises(CommittedAlready):
        running.ask(lambda: wait_a_moment(running.reactor).addCallback(lambda _: cancelled(deferred)))
    assert seen == [1]


def wait_a_moment(reactor):
    return deferLater(reactor, 0.1, lambda: None)


@pytest.mark.parametrize("kind", ["epoll", "select", "asyncio"])
def test_a_reactor_that_stops_leaves_its_calls(db, counter, caplog, kind):
    calls.limit(db, connections=2)
    holding, begun, go_on, ends = Holding(), threading.Event(), threading.Event(), {}

    def work(counter):
        counter.add()
        begun.set()
        assert go_on.wait(60)

    def commit(counter):
        calls.after_commit(print)
        return committing(counter, holding)

    with RunningReactor(kind) as own:

        def call(name, function):
            Partial(counter.run, function, reactor=own.reactor, threads=True)().addErrback(
                lambda failure: ends.update({name: failure.type})
            )

        for name, function in [("committing", commit), ("running", work), ("queued", work)]:
            own.reactor.callFromThread(call, name, function)
        assert holding.reached.wait(60)
        assert begun.wait(60)
        wait_for(lambda: pool_of(db).queued == 1)
    assert ends == {"committing": CommitUnknown, "running": CancelledError, "queued": CancelledError}
    go_on.set()
    holding.go_on.set()
    wait_for(lambda: is_idle(db))
    wait_for(lambda: caplog.messages == ["after_commit_lost reason='the reactor was stopped' actions=1"])
    assert get(db) == 1


@pytest.mark.parametrize("kind", ["epoll", "asyncio"])
def test_a_reactor_that_stops_waits_for_what_services_save_then(db, counter, kind):
    with RunningReactor(kind) as own:
        add = Partial(Counter.add, calls.ref(counter), reactor=own.reactor, threads=True)
        own.reactor.addSystemEventTrigger("before", "shutdown", add, 100)
        assert own.ask(add, 1) == 1
    assert get(db) == 101


def test_an_event_loop_that_is_closed_takes_no_connection_with_it(db, counter):
    """A reactor on a loop that somebody else runs is never told that it ends."""
    calls.limit(db, connections=1)
    slot = pool_of(db).ask()
    loop = asyncio.SelectorEventLoop()
    reactor = AsyncioSelectorReactor(loop)

    async def ask():
        Partial(counter.add, reactor=reactor)()

    loop.run_until_complete(ask())
    assert pool_of(db).queued == 1
    loop.close()
    slot.give_back()
    assert is_idle(db)
    assert get(db) == 0


# -- the reactor, and the library


@pytest.mark.slow
def test_without_a_reactor_of_its_own_it_uses_twisteds():
    program = """
import sys, threading
import transaction
from ZODB import DB
from tests.calls.things import Counter
from zkfleet.calls.twisted import Partial
assert "twisted.internet.reactor" not in sys.modules

db = DB(None)
connection = db.open(transaction.TransactionManager())
counter = connection.root()["counter"] = Counter()
connection.transaction_manager.commit()
call = Partial(counter.add)
call.threads = True

from twisted.internet import reactor
assert call.getReactor() is reactor
reactor.callWhenRunning(lambda: call(5).addCallback(print).addCallback(lambda _: reactor.stop()))
reactor.run()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.returncode) == ("5\n", 0), done.stderr


@pytest.mark.slow
def test_without_twisted_the_remedy_is_told():
    program = "import sys; sys.modules['twisted'] = None\nimport zkfleet.calls.twisted"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert "MissingDependency: zkfleet.calls.twisted stands on Twisted" in done.stderr


@pytest.mark.slow
def test_thousands_of_calls_leave_nothing_behind(db, counter, running, partial):
    number = functools.partial(random.Random(1).randrange, 4)

    def work(counter):
        calls.after_commit(int)
        match number():
            case 0:
                raise ConflictError
            case 1:
                raise KeyError("no")
            case 2:
                return deferLater(running.reactor, 0, lambda: 1)
        return counter.add()

    call = partial(counter.run, work, policy=calls.Policy(conflict_delay=0, max_transaction_errors=2))

    def many(number):
        return gatherResults([call().addErrback(lambda failure: failure.type) for _ in range(number)])

    def count():
        db.pack()
        gc.collect()
        return len(gc.get_objects()), len(db.pool.all)

    running.ask(many, 300)
    objects, connections = count()
    for _ in range(10):
        running.ask(many, 200)
    now, connections_now = count()
    assert now - objects < 300
    assert connections_now <= max(connections, pool_of(db).connections + 1)  # with the test's own
    assert is_idle(db)
