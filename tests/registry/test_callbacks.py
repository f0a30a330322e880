import sys
import threading

import pytest

from tests.conftest import wait_for
from zkfleet.registry.callbacks import MOST, Callbacks, Turns


def test_jobs_run_in_order_on_a_thread_of_their_own():
    callbacks, seen, done = Callbacks(), [], threading.Event()
    for number in range(100):
        callbacks.submit(lambda number=number: seen.append((number, threading.current_thread().name)))
    callbacks.submit(done.set)
    assert done.wait(5)
    assert seen == [(number, "zkfleet-callbacks") for number in range(100)]
    callbacks.stop(5)


def test_a_job_that_raises_is_logged_and_the_next_one_runs(caplog):
    callbacks, done = Callbacks(), threading.Event()
    callbacks.submit(lambda: 1 / 0)
    callbacks.submit(done.set)
    assert done.wait(5)
    assert "callback_failed" in caplog.text
    callbacks.stop(5)


def test_a_blocked_thread_is_relieved_and_ends_with_its_job():
    callbacks, blocked, release, done = Callbacks(), threading.Event(), threading.Event(), threading.Event()
    callbacks.submit(lambda: (blocked.set(), release.wait(10)))
    assert blocked.wait(5)
    callbacks.submit(done.set)
    wait_for(lambda: callbacks.relieve() or done.is_set(), what="the relief")
    release.set()
    wait_for(lambda: sum(t.name == "zkfleet-callbacks" for t in threading.enumerate()) <= 1)
    callbacks.stop(5)


def test_there_are_never_more_threads_than_allowed():
    callbacks, release = Callbacks(), threading.Event()
    for _ in range(20):
        callbacks.submit(lambda: release.wait(10))
    for _ in range(40):
        callbacks.relieve()
        release.wait(0.01)
    assert len(callbacks._workers) == 4
    release.set()
    callbacks.stop(5)


def test_stopping_inside_a_job_does_not_wait_for_itself():
    callbacks, done = Callbacks(), threading.Event()
    callbacks.submit(lambda: (callbacks.stop(5), done.set()))
    assert done.wait(2)


def test_callbacks_that_exit_end_no_thread_for_good():
    callbacks, done = Callbacks(), threading.Event()
    for _ in range(2 * MOST):
        callbacks.submit(sys.exit)
    callbacks.submit(done.set)
    assert done.wait(5)
    callbacks.stop(5)


@pytest.mark.parametrize("happened", [["changed"], ["changed", "changed"]])
def test_of_one_view_one_job_is_queued_at_most(happened):
    jobs = []
    turns = Turns(lambda: jobs.append(1))
    for name in happened:
        getattr(turns, name)()
    assert len(jobs) == 1
    turns.begin()
    turns.changed()
    turns.changed()
    assert len(jobs) == 1
    turns.end()
    assert len(jobs) == 2


def test_nobody_takes_a_turn_that_is_another_s():
    turns = Turns(lambda: None)
    assert turns.take()
    assert turns.mine()
    assert not turns.take()
    turns.end()
    turns.changed()
    assert not turns.take()
    assert not turns.mine()


def test_a_thread_that_cannot_be_started_delays_callbacks_and_ends_none(registry, kazoo, monkeypatch, caplog):
    kazoo.create("/service")
    seen, start = [], threading.Thread.start

    def refuse(thread):
        if thread.name == "zkfleet-callbacks":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    view = registry.children("/service")
    view(lambda view: seen.append(tuple(view)))
    kazoo.create("/service/one")
    wait_for(lambda: "callbacks_delayed" in caplog.text)
    monkeypatch.setattr(threading.Thread, "start", start)
    wait_for(lambda: seen and seen[-1] == ("one",))
    kazoo.create("/service/two")
    wait_for(lambda: seen[-1] == ("one", "two"))
    assert caplog.text.count("callbacks_delayed") == 1
