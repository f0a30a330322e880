"""Calls on loops while a real ZEO server comes and goes."""

import asyncio
import threading

import pytest
import uvloop

from tests.calls.conftest import get
from tests.calls.test_asyncio import is_idle, ref_of, until
from tests.calls.things import Counter
from tests.zeo.making import a_holder
from zkfleet import calls, zeo
from zkfleet.calls.asyncio import Partial, call
from zkfleet.errors import CommitUnknown

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.usefixtures("quiet")]
# So that only the connection can wake it in time.
PATIENT = calls.Policy(max_transaction_errors=None, initial_backoff=60)


@pytest.fixture
def db(served):
    return served


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request):
    """Runs a coroutine on a loop of its own, of either kind."""
    return request.param


async def away(db, server):
    server.kill()
    await until(lambda: not db.storage.is_connected())


async def back(server):
    await asyncio.to_thread(server.start)


def waits():
    return calls.statistics().disconnect_waits


def test_all_who_wait_for_a_server_are_woken_when_it_is_back(run, db, server):
    async def main():
        add = Partial(Counter.add, ref_of(db), policy=PATIENT)
        await away(db, server)
        before = waits()
        tasks = [asyncio.create_task(add()) for _ in range(20)]
        await until(lambda: waits() >= before + 20)
        assert is_idle(db)
        await back(server)
        async with asyncio.timeout(30):
            assert sorted(await asyncio.gather(*tasks)) == list(range(1, 21))

    run(main())


def test_who_is_cancelled_while_it_waits_for_a_server_leaves_the_others_waiting(run, db, server):
    async def main():
        ref = ref_of(db)
        await away(db, server)
        before = waits()
        leaving, staying = [asyncio.create_task(call(Counter.add, ref, policy=PATIENT)) for _ in range(2)]
        await until(lambda: waits() >= before + 2)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        await back(server)
        async with asyncio.timeout(30):
            assert await staying == 1

    run(main())


def test_a_loop_that_is_closed_while_calls_wait_for_a_server_leaves_nothing(run, db, server, caplog):
    async def main():
        ref = ref_of(db)
        await away(db, server)
        before = waits()
        keep.append(asyncio.create_task(call(Counter.add, ref, policy=PATIENT)))
        await until(lambda: waits() > before)

    keep = []
    run(main())
    assert keep[0].cancelled()
    server.start()
    assert asyncio.run(call(Counter.add, ref_of(db), policy=PATIENT)) == 1
    assert "exception calling callback" not in caplog.text


def test_a_server_that_is_killed_again_and_again_loses_no_call_and_counts_none_twice(run, db, server):
    counts = []

    async def call_often(add, over):
        while not over.is_set():
            counts.append(await add())

    async def main():
        add, over = Partial(Counter.add, ref_of(db), policy=PATIENT), asyncio.Event()
        callers = [asyncio.create_task(call_often(add, over)) for _ in range(8)]
        for _ in range(3):
            enough = len(counts) + 20
            await until(lambda enough=enough: len(counts) > enough)
            await away(db, server)
            await back(server)
        over.set()
        async with asyncio.timeout(30):
            await asyncio.gather(*callers)

    run(main())
    assert sorted(counts) == list(range(1, len(counts) + 1))
    assert get(db) == len(counts)
    assert is_idle(db)


def test_a_commit_whose_reply_is_lost_is_counted_once_and_what_follows_is_done_on_the_loop(run, db, link):
    done = []

    def work(counter):
        calls.after_commit(lambda: done.append(threading.get_ident()))
        return counter.add()

    ref = ref_of(db)
    link.lose("tpc_finish", "reply")
    assert run(call(Counter.run, ref, work, policy=PATIENT)) == 1
    assert link.lost.is_set()
    assert get(db) == 1
    assert done == [threading.get_ident()]


async def cancelled_by_hand(doing, moment):
    task = asyncio.create_task(doing)
    await moment
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    return caught.value


async def cancelled_by_a_timeout(doing, moment):
    async def expire():
        await moment
        scope.reschedule(0)

    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(30) as scope:
            await asyncio.gather(doing, expire())
    return caught.value


@pytest.mark.parametrize("how", [cancelled_by_hand, cancelled_by_a_timeout])
def test_who_is_cancelled_in_its_commit_can_find_out_what_became_of_it(run, db, server, how):
    async def main():
        with a_holder(server.address) as (holder, t):
            error = await how(call(Counter.add, ref_of(db)), until(lambda: holder.server_status()["waiting"]))
            holder.tpc_abort(t)
        known = calls.find_commit(error)
        assert isinstance(known, CommitUnknown)
        await until(lambda: is_idle(db))
        return zeo.outcome(db, known.marker)

    assert run(main()).outcome is zeo.Outcome.COMMITTED
    assert get(db) == 1
