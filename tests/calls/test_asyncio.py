import asyncio
import contextvars
import gc
import logging
import threading

import pytest
import uvloop
from ZODB import DB
from ZODB.POSException import ConflictError

from tests.calls.conftest import get, put
from tests.calls.things import Counter
from tests.conftest import wait_for
from zkfleet import calls
from zkfleet.calls.asyncio import Partial, call
from zkfleet.calls.pool import pool_of
from zkfleet.errors import BadInput, CommittedAlready, CommitUnknown, EscapedObject, WaitTimedOut

FOR_EVER = calls.Policy(max_transaction_errors=None)
# The pause is random, and shorter than a test's patience once in thousands of times.
PAUSING = calls.Policy(max_transaction_errors=None, conflict_delay=1e5, max_conflict_delay=1e5)
name = contextvars.ContextVar("name", default="nobody")


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request):
    """Runs a coroutine on a loop of its own, of either kind."""
    return request.param


@pytest.fixture
def filed(tmp_path):
    """A database in a file, with a counter."""
    db = DB(str(tmp_path / "Data.fs"))
    put(db, counter=Counter())
    yield db
    db.close()


def ref_of(db, name="counter"):
    with db.transaction() as connection:
        return calls.ref(connection.root()[name])


async def until(condition, what="the condition"):
    """Wait for a condition without blocking the loop."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.002)


def is_idle(db):
    return (pool_of(db).in_flight, pool_of(db).queued) == (0, 0)


class Held:
    """A callable for `Counter.run` that adds one, and is held up: in the call, or in its commit."""

    def __init__(self, *, committing=False):
        self.begun, self.go_on, self.done = threading.Event(), threading.Event(), []
        self._committing = committing

    def __call__(self, counter):
        name.set("the call's own")
        calls.after_commit(self._note)
        if self._committing:
            counter._p_jar.transaction_manager.get().addBeforeCommitHook(self._hold)
        else:
            self._hold()
        return counter.add()

    def _hold(self):
        self.begun.set()
        assert self.go_on.wait(60)

    def _note(self):
        self.done.append((threading.get_ident(), name.get()))

    async def entered(self):
        await until(self.begun.is_set)


# -- calls


def test_a_method_is_called_in_a_thread_and_committed(run, db, counter):
    assert run(call(counter.add, 3)) == 3
    assert run(call(counter.run, lambda _: threading.get_ident())) != threading.get_ident()
    assert get(db) == 3
    assert counter.count == 0


def test_a_partial_is_made_once_and_called_often_with_more_arguments_each_time(run, db, root, counter):
    put(db, other=Counter(10))
    root._p_jar.sync()
    take, other = Partial(counter.take_from, number=1), root["other"]

    async def main():
        assert await take(other) == 1
        assert await take(other, number=3) == 4
        assert await take(other) == 5

    run(main())
    assert get(db, "other") == 5


def test_a_partial_outlives_the_connection_that_it_was_made_on(run, db):
    with db.transaction() as connection:
        add = Partial(connection.root()["counter"].add)

    async def main():
        await asyncio.gather(*[add() for _ in range(3)])

    run(main())
    run(main())
    assert get(db) == 6


def test_what_has_nothing_persistent_about_it_is_called_here_and_awaited(run, counter):
    async def double(number):
        await asyncio.sleep(0)
        return 2 * number

    async def main():
        assert await call(sorted, [2, 1], reverse=True) == [2, 1]
        assert await call(threading.get_ident) == threading.get_ident()
        assert await call(double, 4) == 8
        assert await Partial(double)(5) == 10
        assert await Partial(Counter.add)(counter) == 1

    run(main())


def test_errors_of_the_call_are_raised_and_nothing_is_committed(run, db, counter):
    with pytest.raises(KeyError, match="no"):
        run(call(counter.fail, KeyError("no")))
    with pytest.raises(EscapedObject):
        run(call(counter.itself))
    assert get(db) == 0
    assert is_idle(db)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_goes_through_the_loop(db, counter, error):
    with pytest.raises(error):
        asyncio.run(call(counter.fail, error()))
    assert is_idle(db)
    assert get(db) == 0


def test_what_cannot_be_found_again_is_refused_when_a_partial_is_made_or_called(run, counter):
    with pytest.raises(BadInput, match="no transaction has stored"):
        Partial(Counter().add)
    with pytest.raises(BadInput, match=r"argument 0 .*no transaction has stored"):
        run(Partial(counter.take_from)(Counter()))
    with pytest.raises(BadInput, match="no transaction has stored"):
        run(call(Counter().add))


def test_a_call_inside_of_a_call_is_refused(run, counter):
    with pytest.raises(BadInput, match="inside of a call"):
        run(call(counter.run, lambda inner: asyncio.run(call(inner.add))))


def test_conflicts_are_tried_again(run, db, counter):
    errors = [ConflictError(), ConflictError()]

    def work(counter):
        if errors:
            raise errors.pop()
        return counter.add()

    assert run(call(counter.run, work)) == 1


# -- the loop


def test_the_loop_goes_on_while_a_call_blocks(run, counter):
    held = Held()

    async def main():
        calling = asyncio.create_task(call(counter.run, held))
        await held.entered()  # takes turns of this loop
        held.go_on.set()
        return await calling

    assert run(main()) == 1


def test_context_variables_reach_the_call_and_what_happens_after_it(run, counter):
    seen = []

    def work(_counter):
        seen.append(name.get())
        name.set("the call's own")
        calls.after_commit(lambda: seen.append((name.get(), threading.get_ident())))

    async def main(who):
        name.set(who)
        await call(counter.run, work)
        seen.append(name.get())

    run(main("somebody"))
    assert seen == ["somebody", ("somebody", threading.get_ident()), "somebody"]


def test_what_happens_after_the_commit_may_begin_another_call(run, db, counter):
    async def main():
        begun = []

        def work(counter):
            calls.after_commit(lambda: begun.append(asyncio.create_task(call(Counter.add, ref))))
            return counter.add()

        ref = ref_of(db)
        assert await call(counter.run, work) == 1
        assert await begun[0] == 2

    run(main())


def test_several_loops_in_several_threads_share_one_database(filed):
    ref = ref_of(filed)

    async def main():
        await asyncio.gather(*[call(Counter.add, ref, policy=FOR_EVER) for _ in range(10)])

    loops = [threading.Thread(target=kind.run, args=(main(),)) for kind in (asyncio, uvloop, asyncio)]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join(60)
    assert get(filed) == 30
    assert is_idle(filed)


# -- cancelling


async def queued(counter, db):
    calls.limit(db, connections=1)
    held = Held()
    first = asyncio.create_task(call(counter.run, held))
    await held.entered()
    task = asyncio.create_task(call(counter.add))
    await until(lambda: pool_of(db).queued == 1)
    yield task
    held.go_on.set()
    assert await first == 1


async def pausing(counter, db):
    before = sum(calls.statistics().conflicts.values())
    task = asyncio.create_task(call(counter.fail, ConflictError(), policy=PAUSING))
    await until(lambda: sum(calls.statistics().conflicts.values()) > before)
    yield task


async def working(counter, db):
    held = Held()
    task = asyncio.create_task(call(counter.run, held))
    await held.entered()
    yield task
    held.go_on.set()
    await until(lambda: is_idle(db))
    assert get(db) == 0
    assert not held.done


async def committing(counter, db):
    held = Held(committing=True)
    name.set("somebody")
    task = asyncio.create_task(call(counter.run, held))
    await held.entered()
    yield task
    held.go_on.set()
    await until(lambda: held.done)
    assert held.done == [(threading.get_ident(), "somebody")]
    assert get(db) == 1


async def committed_unheard(counter, db):
    held = Held()
    name.set("somebody")
    task = asyncio.create_task(call(counter.run, held))
    await held.entered()
    held.go_on.set()
    pool_of(db).threads.shutdown()  # blocks the loop until the call is over, so that it cannot hear of it
    calls.limit(db, connections=7)  # with threads of its own
    yield task
    await until(lambda: held.done)
    assert held.done == [(threading.get_ident(), "somebody")]
    assert get(db) == 1


@pytest.mark.parametrize(
    ("stage", "cause"),
    [
        (queued, type(None)),
        (pausing, type(None)),
        (working, type(None)),
        (committing, CommitUnknown),
        (committed_unheard, CommittedAlready),
    ],
)
def test_wherever_a_call_is_cancelled_its_task_ends_at_once_tells_and_keeps_no_slot(run, db, counter, stage, cause):
    async def main():
        async for task in stage(counter, db):
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                async with asyncio.timeout(10):
                    await task
            assert type(caught.value.__cause__) is cause
            assert calls.find_commit(caught.value) is caught.value.__cause__
            assert task.cancelled()
        await until(lambda: is_idle(db))
        return await call(counter.run, lambda counter: counter.count)

    assert run(main()) == get(db)


def test_a_call_may_be_made_in_a_timeout(run, db, counter):
    held = Held()

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await call(counter.run, held)
        held.go_on.set()
        await until(lambda: is_idle(db))

    run(main())
    assert get(db) == 0


async def in_a_timeout(doing, scope):
    async with scope:
        await doing


async def in_a_task_in_a_timeout(doing, scope):
    async with scope:
        await asyncio.gather(doing)


@pytest.mark.parametrize("how", [in_a_timeout, in_a_task_in_a_timeout])
def test_a_call_whose_time_is_over_in_its_commit_says_so_in_every_version_of_python(run, db, counter, how):
    held = Held(committing=True)

    async def main():
        scope = asyncio.timeout(30)
        task = asyncio.create_task(how(call(counter.run, held), scope))
        await held.entered()
        scope.reschedule(0)
        with pytest.raises(TimeoutError) as caught:
            await task
        held.go_on.set()
        await until(lambda: is_idle(db))
        return calls.find_commit(caught.value)

    assert isinstance(run(main()), CommitUnknown)
    assert get(db) == 1


def test_a_call_is_left_at_the_deadline_of_its_policy(run, db, counter):
    held = Held()

    async def main():
        with pytest.raises(WaitTimedOut, match="will not be committed"):
            await call(counter.run, held, policy=calls.Policy(deadline=0.05))
        held.go_on.set()
        await until(lambda: is_idle(db))

    run(main())
    assert get(db) == 0


def test_when_the_loop_ends_its_calls_are_cancelled(run, db, counter):
    held = Held()

    async def main():
        keep.append(asyncio.create_task(call(counter.run, held)))
        await held.entered()

    keep = []
    run(main())
    assert keep[0].cancelled()
    held.go_on.set()
    wait_for(lambda: is_idle(db))
    assert get(db) == 0


def test_actions_that_find_their_loop_closed_are_told(run, db, counter, caplog):
    held = Held(committing=True)

    async def main():
        keep.append(asyncio.create_task(call(counter.run, held)))
        await held.entered()

    keep = []
    run(main())
    held.go_on.set()
    wait_for(lambda: is_idle(db))
    wait_for(lambda: "after_commit_lost reason=loop_closed actions=1" in caplog.text)
    assert get(db) == 1
    assert not held.done


@pytest.mark.parametrize("kind", [asyncio, uvloop])
def test_a_loop_that_is_closed_with_calls_under_way_keeps_no_slot(kind, db, counter, caplog):
    """As careless programs do: nobody cancels anything, and the loop forgets its tasks."""
    calls.limit(db, connections=1)
    held = Held()
    loop = kind.new_event_loop()
    tasks = [loop.create_task(call(counter.run, held)), loop.create_task(call(counter.add))]
    loop.run_until_complete(held.entered())
    loop.run_until_complete(until(lambda: pool_of(db).queued == 1))
    with caplog.at_level(logging.CRITICAL, "asyncio"):  # "Task was destroyed but it is pending!"
        loop.close()
        held.go_on.set()
        wait_for(lambda: is_idle(db))  # though nobody collected garbage
        del tasks
        gc.collect()
    assert asyncio.run(call(counter.run, lambda counter: counter.count)) == get(db) == 1


# -- many


@pytest.mark.slow
def test_a_storm_of_16_tasks_on_one_counter_loses_none(run, filed):
    add, before = Partial(Counter.add, ref_of(filed), policy=FOR_EVER), calls.statistics()
    calls.limit(filed, connections=16)

    async def call_often():
        return [await add() for _ in range(10)]

    async def main():
        return await asyncio.gather(*[call_often() for _ in range(16)])

    counts = [count for counts in run(main()) for count in counts]
    assert sorted(counts) == list(range(1, 161))
    assert get(filed) == 160
    assert calls.statistics().calls - before.calls == 160
    assert sum(calls.statistics().conflicts.values()) > sum(before.conflicts.values())


@pytest.mark.slow
def test_a_thousand_calls_at_once_share_eight_connections_in_turn(run, filed):
    calls.limit(filed, connections=8)
    busy, most, order, lock = [], [], [], threading.Lock()

    def work(counter, number):
        with lock:
            busy.append(number)
            order.append(number)
            most.append(len(busy))
        counter.count  # noqa: B018  is loaded
        with lock:
            busy.remove(number)

    async def main():
        await asyncio.gather(*[call(Counter.run, ref, work, number) for number in range(1000)])

    ref = ref_of(filed)
    run(main())
    assert max(most) <= 8
    assert sorted(order) == list(range(1000))
    # In the order of the line. A few may be late, for a thread may be kept from its work; on average nobody is.
    assert sum(abs(place - number) for place, number in enumerate(order)) / 1000 < 64
    assert len(filed.pool.all) <= 9  # with the test's own
    assert is_idle(filed)
