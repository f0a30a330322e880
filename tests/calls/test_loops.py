"""What a loop or a reactor that is busy keeps from others, and what must not block it."""

import asyncio
import functools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvloop
from twisted.internet.defer import gatherResults

from tests.calls.conftest import get
from tests.calls.reactors import RunningReactor
from tests.calls.things import Counter
from zkfleet import calls
from zkfleet.calls import asyncio as aio
from zkfleet.calls import threads
from zkfleet.calls.pool import pool_of
from zkfleet.calls.twisted import Partial
from zkfleet.errors import BadInput

PATIENT = calls.Policy(deadline=60, max_transaction_errors=None)


class Blocking:
    """A callable for `Counter.run` that adds one, and then blocks who asked until another thread has made a call."""

    def __init__(self, reference):
        self._reference, self.seen = reference, []

    def __call__(self, counter):
        calls.after_commit(self._block)
        return counter.add()

    def _block(self):
        with ThreadPoolExecutor(1) as pool:
            call = functools.partial(threads.run, Counter.sum_of, self._reference, [], policy=PATIENT)
            self.seen.append(pool.submit(call).result(60))


def check_that_all_are_done(db, blocking, number):
    assert blocking.seen == [0] * number
    assert get(db) == number
    assert (pool_of(db).in_flight, pool_of(db).queued) == (0, 0)


@pytest.mark.parametrize("policy", [calls.Policy(max_transaction_errors=None), PATIENT], ids=["for ever", "deadline"])
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_loop_that_is_blocked_keeps_no_slot_from_others(run, policy, db, counter):
    calls.limit(db, connections=2)
    blocking = Blocking(calls.ref(counter))
    add = aio.Partial(counter.run, blocking, policy=policy)

    async def main():
        await asyncio.gather(*[add() for _ in range(8)])

    run(main())
    check_that_all_are_done(db, blocking, 8)


@pytest.mark.parametrize("policy", [calls.Policy(max_transaction_errors=None), PATIENT], ids=["for ever", "deadline"])
def test_a_reactor_that_is_blocked_keeps_no_slot_from_others(running, policy, db, counter):
    calls.limit(db, connections=2)
    blocking = Blocking(calls.ref(counter))
    add = Partial(counter.run, blocking, policy=policy, reactor=running.reactor, threads=True)
    running.ask(lambda: gatherResults([add() for _ in range(8)]))
    check_that_all_are_done(db, blocking, 8)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_call_for_threads_is_refused_on_a_loop(run, db, counter):
    refused, reference = [], calls.ref(counter)

    def action():
        with pytest.raises(BadInput, match="block the thread of an event loop") as caught:
            threads.run(Counter.add, reference)
        refused.append(caught.value.hint)

    def work(counter):
        calls.after_commit(action)
        return counter.add()

    async def main():
        action()
        threads.run(len, "without anything persistent it is simply called")
        await aio.call(counter.run, work)
        return await asyncio.to_thread(threads.run, counter.add)

    assert run(main()) == 2
    assert len(refused) == 2
    assert "await zkfleet.calls.asyncio.call()" in refused[0]
    assert get(db) == 2


@pytest.mark.parametrize("in_threads", [True, False])
@pytest.mark.parametrize("kind", ["select", "epoll"])
def test_a_call_for_threads_is_refused_in_a_reactor_until_that_has_stopped(kind, in_threads, db, counter):
    @threads.transactional()
    def add(counter):
        return counter.add()

    def work(counter):
        calls.after_commit(functools.partial(outcomes.append, action))
        return add(counter)

    def action():
        with pytest.raises(BadInput, match="block the thread of a reactor") as caught:
            add(reference)
        return caught.value.hint

    outcomes, reference = [], calls.ref(counter)
    with RunningReactor(kind) as running:
        call = Partial(counter.run, work, reactor=running.reactor, threads=in_threads)
        assert running.ask(call) == 1
        assert "twisted.Partial" in running.ask(outcomes.pop())
    assert add(counter) == 2


def test_twisteds_own_reactor_is_known_without_any_call_in_it():
    program = """
import transaction
from twisted.internet import reactor
from ZODB import DB
from tests.calls.things import Counter
from zkfleet.calls import threads
from zkfleet.errors import BadInput

connection = DB(None).open(transaction.TransactionManager())
counter = connection.root()["counter"] = Counter()
connection.transaction_manager.commit()

def call():
    try:
        threads.run(counter.add)
    except BadInput as error:
        print(error)
    reactor.stop()

print(threads.run(counter.add))
reactor.callWhenRunning(call)
reactor.run()
print(threads.run(counter.add))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    lines = done.stdout.splitlines()
    assert (lines[0], lines[2:], done.returncode) == ("1", ["2"], 0), done.stderr
    assert "block the thread of a reactor" in lines[1]
