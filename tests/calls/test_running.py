"""The orders of a run, carried out by hand: what a door may do at each of them."""

import contextlib
import gc
import subprocess
import sys
import threading
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ZODB import DB
from ZODB.POSException import ConflictError

from tests.calls.conftest import get, put
from tests.calls.things import Counter, Mixed
from tests.conftest import wait_for
from zkfleet import calls
from zkfleet.calls import threads
from zkfleet.calls.attempt import Stage
from zkfleet.calls.pool import pool_of
from zkfleet.calls.references import Request
from zkfleet.calls.running import Reply, Run, Wait, Work
from zkfleet.errors import QueueFull, WaitTimedOut


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def a_run(function, *args, policy=None, **options):
    policy = policy or calls.Policy()
    return Run(Request(function, args, allow_containers=False), policy, **options)


def result(steps, reply=None):
    """Send a last reply and return the result."""
    with pytest.raises(StopIteration) as over:
        steps.send(reply)
    return over.value.value


def test_a_call_that_meets_nothing_is_one_piece_of_work(db, counter):
    steps = a_run(counter.add).steps()
    order = steps.send(None)
    assert isinstance(order, Work)
    assert order.seconds is None
    order.do()
    assert result(steps) == 1


def test_a_conflict_is_a_pause_and_another_piece_of_work(counter):
    errors = [ConflictError(), ConflictError()]
    steps = a_run(
        counter.run,
        lambda _: throw(errors.pop()) if errors else "done",
        policy=calls.Policy(conflict_delay=1, max_conflict_delay=1.5),
        chance=lambda: 1.0,
    ).steps()
    for seconds in (1, 1.5):
        steps.send(None).do()
        assert steps.send(None) == Wait(None, seconds)
    steps.send(None).do()
    assert result(steps) == "done"


def throw(error):
    raise error


def test_a_conflict_whose_pause_would_pass_the_deadline_is_told_at_once(counter):
    clock = Clock()
    policy = calls.Policy(deadline=10, conflict_delay=20, max_conflict_delay=20)
    steps = a_run(counter.fail, ConflictError(), policy=policy, clock=clock, chance=lambda: 1.0).steps()
    steps.send(None).do()
    with pytest.raises(WaitTimedOut, match="tried 1 times; the last error was ConflictError") as caught:
        steps.send(None)
    assert isinstance(caught.value.__cause__, ConflictError)


def test_who_waits_in_the_line_has_a_deadline(db, counter):
    calls.limit(db, connections=1)
    first = pool_of(db).ask()
    clock = Clock()
    steps = a_run(counter.add, policy=calls.Policy(deadline=10), clock=clock).steps()
    order = steps.send(None)
    assert order.seconds == 10
    assert not order.until.done()
    clock.now = 10
    with pytest.raises(WaitTimedOut, match="waited for one of 1 connections"):
        steps.send(None)
    first.give_back()
    assert (pool_of(db).in_flight, pool_of(db).queued) == (0, 0)


def test_what_remains_of_the_deadline_is_for_the_work(db, counter):
    calls.limit(db, connections=1)
    first = pool_of(db).ask()
    clock = Clock()
    steps = a_run(counter.add, policy=calls.Policy(deadline=10), clock=clock).steps()
    waiting = steps.send(None)
    clock.now = 4
    first.give_back()
    assert waiting.until.done()
    order = steps.send(None)
    assert order.seconds == 6
    order.do()
    assert result(steps) == 1


def test_a_call_that_is_done_just_when_its_driver_says_late_has_its_result(db, counter):
    steps = a_run(counter.add).steps()
    steps.send(None).do()
    assert result(steps, Reply.LATE) == 1


def test_a_call_that_is_late_does_not_commit(db, counter):
    steps = a_run(counter.add, policy=calls.Policy(deadline=10)).steps()
    work = steps.send(None)
    with pytest.raises(WaitTimedOut):
        steps.send(Reply.LATE)
    work.do()
    assert get(db) == 0
    assert pool_of(db).in_flight == 0


def test_beyond_the_queue_calls_are_refused(db, counter):
    calls.limit(db, connections=1, queue=2)
    slots = [pool_of(db).ask() for _ in range(3)]
    with pytest.raises(QueueFull, match="2 calls wait for one of 1 connections"):
        threads.run(counter.add)
    for slot in slots:
        slot.give_back()
    assert threads.run(counter.add) == 1


def test_a_call_that_tries_again_goes_before_those_that_never_did(db, counter):
    calls.limit(db, connections=1)
    steps = a_run(counter.fail, ConflictError()).steps()
    steps.send(None).do()
    held = pool_of(db).ask()
    new = pool_of(db).ask()
    order = steps.send(None)
    order = steps.send(None) if order.until is None else order
    held.give_back()
    assert order.until.done()
    assert not new.granted.done()
    new.give_back()
    steps.close()
    assert (pool_of(db).in_flight, pool_of(db).queued) == (0, 0)


class Cancelled(BaseException):
    pass


@pytest.mark.slow
@given(st.data())
def test_wherever_runs_are_cancelled_no_slot_is_lost(data):
    """Ten runs on two slots, in any order of steps; work is done by hand, before or after its run is cancelled."""
    db = DB(None, pool_size=2)
    put(db, counter=Counter())
    connection = db.open()
    counter = connection.root()["counter"]
    pool, runs, forgotten = pool_of(db), {}, []
    for number in range(data.draw(st.integers(1, 8))):
        error = data.draw(st.sampled_from([None, ConflictError(), KeyError("no")]))
        run = a_run(counter.fail, error) if error else a_run(counter.add)
        runs[number] = [run.steps(), None]
    while runs:
        number = data.draw(st.sampled_from(sorted(runs)))
        steps, order = runs[number]
        if order is not None and data.draw(st.booleans()):
            del runs[number]
            if data.draw(st.booleans()):
                with pytest.raises(Cancelled):
                    steps.throw(Cancelled())
            else:
                steps.close()
            if isinstance(order, Work):
                forgotten.append(order)
            continue
        if isinstance(order, Wait) and order.until is not None and not order.until.done():
            continue
        if isinstance(order, Work):
            order.do()
        try:
            runs[number][1] = steps.send(None)
        except (StopIteration, KeyError, ConflictError):
            del runs[number]
        assert pool.in_flight <= 2
    for order in forgotten:  # threads that were left, and get there late
        order.do()
    assert (pool.in_flight, pool.queued) == (0, 0)
    connection.close()
    db.close()


def test_cancelled_before_its_work_begins_a_call_is_not_made(counter):
    steps = a_run(counter.run, lambda _: pytest.fail("called")).steps()
    order = steps.send(None)
    steps.close()
    order.do()


def test_cancelled_in_another_thread_a_call_never_commits(db, counter):
    begun, go_on = threading.Event(), threading.Event()

    def work(counter):
        counter.add()
        begun.set()
        assert go_on.wait(60)

    steps = a_run(counter.run, work).steps()
    order = steps.send(None)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(order.do)
        assert begun.wait(60)
        with pytest.raises(Cancelled):
            steps.throw(Cancelled())
        go_on.set()
        future.result(60)
    assert get(db) == 0
    assert pool_of(db).in_flight == 0


def test_who_cancels_can_see_how_far_it_was(counter):
    run = a_run(counter.add)
    steps = run.steps()
    assert run.attempt is None
    order = steps.send(None)
    assert order.is_attempt
    assert run.attempt.left_at is None
    order.do()
    steps.close()
    assert run.attempt.left_at is Stage.OVER
    assert run.attempt.committed


def test_cancelled_just_after_its_commit_a_call_has_its_actions_performed(db, counter):
    done = []

    def late(actions):
        done.append("late")
        calls.after.perform(actions)

    def work(counter):
        calls.after_commit(done.append, counter.add())

    steps = a_run(counter.run, work, late=late).steps()
    steps.send(None).do()
    with pytest.raises(Cancelled):
        steps.throw(Cancelled())
    assert get(db) == 1
    assert done == ["late", 1]


@pytest.mark.slow
def test_the_numbers_are_of_all_calls_of_a_process():
    """In one of its own: calls that other tests have left behind would count."""
    done = subprocess.run([sys.executable, "-m", "tests.calls.numbers"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_call_that_waits_is_small(db, counter):
    calls.limit(db, connections=1)
    slot = pool_of(db).ask()
    tracemalloc.start()
    waiting = [a_run(counter.add, number).steps() for number in range(1000)]
    for steps in waiting:
        steps.send(None)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for steps in waiting:
        steps.close()
    slot.give_back()
    assert size / len(waiting) < 5 * 1024


class Mishap(Exception):
    pass


@pytest.mark.parametrize("policy", [calls.Policy(), calls.Policy(max_errors={Mishap: 3}, conflict_delay=0)])
def test_an_error_that_was_dealt_with_is_gone_with_all_that_it_held(counter, policy):
    met = []

    def work(counter):
        error = Mishap()
        met.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(Mishap):
            threads.run(counter.run, work, policy=policy)
        assert [one() for one in met] == [None] * (3 if policy.max_errors else 1)
    finally:
        gc.enable()


@pytest.mark.slow
def test_ten_thousand_calls_leave_nothing_behind(db, counter):
    work = Mixed()

    def call(deadline=None):
        try:
            threads.run(counter.run, work, policy=calls.Policy(conflict_delay=0, deadline=deadline))
        except Exception as exc:
            return type(exc).__name__

    for number in range(200):
        call(60 if number % 10 == 0 else None)
    db.pack()  # this storage remembers every revision
    gc.collect()
    objects, there, connections = len(gc.get_objects()), threading.active_count(), len(db.pool.all)
    outcomes = {call(60 if number % 10 == 0 else None) for number in range(10_000)}
    assert outcomes >= {None, "KeyError", "EscapedObject"}
    db.pack()
    gc.collect()
    assert len(gc.get_objects()) - objects < 200
    assert threading.active_count() <= max(there, 2 * pool_of(db).connections)
    assert len(db.pool.all) == connections
    assert pool_of(db).in_flight == 0
    wait_for(lambda: calls.statistics().queued == 0)
