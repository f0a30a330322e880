"""Many calls through each door leave nothing behind; for threads it is told in `test_running` as well."""

import asyncio
import contextlib
import gc
import threading

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.calls.things import Counter, Mixed
from tests.conftest import wait_for
from zkfleet import calls
from zkfleet.calls import asyncio as aio
from zkfleet.calls.pool import pool_of
from zkfleet.calls.twisted import Partial

pytestmark = pytest.mark.slow
QUICK = calls.Policy(conflict_delay=0, max_transaction_errors=3)
WAVE = 50
ENDS = {"done", "KeyError", "EscapedObject", "CancelledError"}


@contextlib.contextmanager
def nothing_left(db, connections):
    """Counts objects, threads and connections before and after."""
    counted = objects(db), threading.active_count()
    yield
    wait_for(lambda: (pool_of(db).in_flight, pool_of(db).queued) == (0, 0))
    assert objects(db) - counted[0] < 300
    assert threading.active_count() <= counted[1] + 2 * connections
    assert len(db.pool.all) <= connections + 1  # with the test's own


def objects(db):
    if not hasattr(db.storage, "_server"):
        db.pack()  # that in memory remembers every revision
    gc.collect()
    return len(gc.get_objects())


async def wave(add, number):
    """Make many calls at once, and cancel one in ten, each a few turns of the loop later; return how they ended."""
    tasks = [asyncio.create_task(add()) for _ in range(number)]
    for turn, task in enumerate(tasks[::10]):
        for _ in range(turn):
            await asyncio.sleep(0)
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    return {type(end).__name__ if isinstance(end, BaseException) else "done" for end in ends}


async def many(add, number):
    ends = set()
    for _ in range(number // WAVE):
        ends |= await wave(add, WAVE)
    return ends


def check_asyncio(db, reference, number, connections):
    add = aio.Partial(Counter.run, reference, Mixed(), policy=QUICK)
    with asyncio.Runner() as runner:
        runner.run(many(add, 4 * WAVE))
        with nothing_left(db, connections):
            assert runner.run(many(add, number)) >= ENDS


def test_ten_thousand_calls_of_a_loop_leave_nothing_behind(db, counter):
    check_asyncio(db, calls.ref(counter), 10_000, pool_of(db).connections)


@pytest.mark.faults
@pytest.mark.usefixtures("quiet")
def test_a_thousand_calls_of_a_loop_to_a_server_leave_nothing_behind(served):
    with served.transaction() as connection:
        reference = calls.ref(connection.root()["counter"])
    check_asyncio(served, reference, 1_000, pool_of(served).connections)


def test_ten_thousand_calls_of_a_reactor_in_threads_leave_nothing_behind(db, counter, running):
    add = Partial(counter.run, Mixed(), policy=QUICK, reactor=running.reactor, threads=True)
    running.ask(Waves(running.reactor, add, 4 * WAVE).begin)
    with nothing_left(db, pool_of(db).connections):
        assert running.ask(Waves(running.reactor, add, 10_000).begin) >= ENDS


class Waves:
    """Makes many calls of a reactor, `WAVE` at once, and cancels one in ten, one after another."""

    def __init__(self, reactor, add, number):
        self._reactor, self._add, self._left = reactor, add, number
        self._ends, self._over = set(), Deferred()

    def begin(self):
        self._begin_one_wave()
        return self._over

    def _begin_one_wave(self):
        if not self._left:
            self._over.callback(self._ends)
            return
        self._left -= WAVE
        self._open = WAVE
        deferreds = [self._add().addBoth(self._note) for _ in range(WAVE)]
        for turn, deferred in enumerate(deferreds[::10]):
            self._reactor.callLater(turn / 1e3, deferred.cancel)

    def _note(self, end):
        self._ends.add(end.type.__name__ if isinstance(end, Failure) else "done")
        self._open -= 1
        if not self._open:
            self._reactor.callLater(0, self._begin_one_wave)
