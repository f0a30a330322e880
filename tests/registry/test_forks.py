"""A fork while other threads are in the middle of something: what they hold is never given back in the child."""

import os
import signal
import threading
from contextlib import ExitStack

import pytest

import zkfleet
from zkfleet.monitor import loading, memory
from zkfleet.registry.tap import Tap
from zkfleet.zeo import outcomes, sessions

SHARED = [(Tap, "_lock_of_all"), (loading, "_lock"), (memory, "_lock"), (outcomes, "_making"), (sessions, "_lock")]


def ends_well(function):
    """Run a function in a forked child; tell whether it returned."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            function()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_needs_no_lock_that_a_thread_of_its_parent_holds(hosts):
    with zkfleet.connect(hosts, after_fork="reconnect") as registry:
        locks = [registry._lock, *(getattr(owner, name) for owner, name in SHARED)]
        held, over = threading.Event(), threading.Event()

        def hold():
            with ExitStack() as stack:
                for lock in locks:
                    stack.enter_context(lock)
                held.set()
                over.wait(60)

        def child():
            # Its own session, and one more: both join a tap, and leave it.
            assert registry.get_properties("/") == {}
            zkfleet.connect(hosts).close()
            registry.close()
            assert all(getattr(owner, name).acquire(blocking=False) for owner, name in SHARED)

        thread = threading.Thread(target=hold)
        thread.start()
        try:
            assert held.wait(5)
            assert ends_well(child)
        finally:
            over.set()
            thread.join()
        assert registry.get_properties("/") == {}
