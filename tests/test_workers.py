import gc
import subprocess
import sys
import threading
import weakref

import pytest

from tests.conftest import wait_for
from zkfleet.workers import Workers


@pytest.fixture
def workers():
    workers = Workers(2, "test")
    yield workers
    workers.shutdown()


def test_work_is_done_on_as_many_threads_as_there_may_be(workers):
    both = threading.Barrier(3)
    futures = [workers.submit(lambda: (both.wait(10), threading.current_thread())[1]) for _ in range(2)]
    both.wait(10)
    threads = {future.result(10) for future in futures}
    assert {thread.name for thread in threads} == {"test_0", "test_1"}
    assert {workers.submit(threading.current_thread).result(10) for _ in range(50)} <= threads


def test_a_thread_that_is_free_is_used_again(workers):
    for _ in range(20):
        assert workers.submit(threading.current_thread).result(10).name == "test_0"
        wait_for(lambda: workers._state.idle._value == 1)


def test_nothing_waits_behind_what_blocks_while_a_thread_may_be_begun():
    for _ in range(50):
        workers, go_on = Workers(2, "test"), threading.Event()
        workers.submit(go_on.wait)
        assert workers.submit(lambda: "free").result(10) == "free"
        go_on.set()
        workers.shutdown()


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_errors_go_to_who_asked_and_the_thread_goes_on(workers, error):
    def fail():
        raise error

    assert workers.submit(fail).exception(10) is error
    assert workers.submit(lambda: 1).result(10) == 1


def test_after_a_shutdown_what_was_asked_for_is_done_and_nothing_more_is_taken(workers):
    go_on = threading.Event()
    futures = [workers.submit(lambda: go_on.wait(10)) for _ in range(5)]
    workers.shutdown(wait=False)
    go_on.set()
    assert all(future.result(10) for future in futures)
    with pytest.raises(RuntimeError, match="shutdown"):
        workers.submit(print)


def test_nothing_is_kept_of_what_was_done(workers):
    class Kept:
        pass

    def fail(kept):
        raise ValueError

    kept = Kept()
    seen, failing = weakref.ref(kept), lambda kept=kept: fail(kept)
    gc.disable()
    try:
        workers.submit(failing).exception(10)
        workers.submit(lambda: 1).result(10)
        del kept, failing
        wait_for(lambda: seen() is None)
    finally:
        gc.enable()


def test_threads_end_when_their_workers_are_dropped():
    workers = Workers(2, "test")
    thread = workers.submit(threading.current_thread).result(10)
    del workers
    thread.join(10)
    assert not thread.is_alive()


PROGRAM = """
import logging, sys, threading, time
import zkfleet.workers
from zkfleet.workers import Workers

logging.basicConfig(format="%(message)s")
zkfleet.workers.GRACE = {grace}
workers, begun = Workers(2, "test"), threading.Event()

def stuck():
    begun.set()
    time.sleep({seconds})
    print("done", flush=True)

workers.submit(stuck)
begun.wait()
"""


def program(text):
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)


@pytest.mark.slow
def test_a_program_that_ends_leaves_behind_what_is_stuck_and_says_so():
    ended = program(PROGRAM.format(grace=0.2, seconds=1000) + "raise SystemExit(3)")
    assert ended.returncode == 3
    assert ended.stdout == ""
    assert ended.stderr.startswith("thread_left_behind doing='stuck' seconds=")


@pytest.mark.slow
def test_a_program_that_ends_waits_for_what_is_soon_done():
    ended = program(PROGRAM.format(grace=30, seconds=0.3))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


@pytest.mark.slow
def test_a_forked_child_waits_for_nothing_of_its_parents():
    text = PROGRAM.format(grace=30, seconds=0.3) + "import os\npid = os.fork()\n"
    ended = program(
        text
        + "if pid:\n    began = time.monotonic()\n    os.waitpid(pid, 0)\n    assert time.monotonic() - began < 20\n"
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")
