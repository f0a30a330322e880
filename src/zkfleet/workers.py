"""Which threads do what blocks, and what becomes of it when the program ends?

`Workers` are like a `ThreadPoolExecutor` but for the end: that one keeps a
program alive until the last of its threads has ended, which a thread that is
stuck never does.  These are given `GRACE` seconds when the program ends; what is
still under way then is logged, and ends with the process.

The threads end when their `Workers` are shut down, or dropped.  A forked child
has none of its parent's.
"""

import atexit
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, NamedTuple, TypeVar

from zkfleet.spelling import get_logger

logger = get_logger(__name__)
R = TypeVar("R")
# Seconds that a program waits at its end for what is under way.
GRACE = 5.0


class Task(NamedTuple):
    """What a thread is to do.

    Attributes:
        future: of its result.
        do: called without arguments.
        describe: says in a few words what it is.
        since: when it was asked for, on the monotonic clock.
    """

    future: "Future[Any]"
    do: Callable[[], Any]
    describe: Callable[[], str]
    since: float


class _State:
    """What the threads share; they must not keep their `Workers`, which end them when they are dropped."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self.idle = threading.Semaphore(0)
        self.tasks: dict[int, Task] = {}


_states: "weakref.WeakSet[_State]" = weakref.WeakSet()


class Workers:
    """Up to so many threads; safe in threads.

    Args:
        most: how many.
        name: what the names of the threads begin with.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._lock = threading.Lock()
        self._state = _State()
        self._threads: list[threading.Thread] = []
        self._over = False
        _states.add(self._state)
        weakref.finalize(self, self._state.queue.put, None).atexit = False

    def submit(self, do: Callable[[], R], describe: Callable[[], str] | None = None) -> "Future[R]":
        """Have something done on one of the threads.

        Args:
            do: called without arguments.
            describe: says in a few words what it is; asked only if it is left behind when the program ends. None for
                the name of the function.

        Raises:
            RuntimeError: the threads were shut down, or there can be none, because the program ends.
        """
        task = Task(Future(), do, describe or partial(_name_of, do), time.monotonic())
        with self._lock:
            if self._over:
                raise RuntimeError("these threads take no work after their shutdown")
            self._state.tasks[id(task)] = task
            self._state.queue.put(task)
            if not self._state.idle.acquire(blocking=False) and len(self._threads) < self._most:
                self._start_thread()
        return task.future

    def _start_thread(self) -> None:
        name = f"{self._name}_{len(self._threads)}"
        thread = threading.Thread(target=_work, args=(self._state,), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the machine has no more threads for this process, or it ends
            if not self._threads:
                del self._state.tasks[id(self._state.queue.get())]
                raise
            return  # those that there are do it
        self._threads.append(thread)

    def shutdown(self, *, wait: bool = True) -> None:
        """Take no more work, and end the threads when they have done what they have.

        Args:
            wait: whether to return only then.
        """
        with self._lock:
            self._over = True
            self._state.queue.put(None)
        if wait:
            for thread in self._threads:
                thread.join()


def _work(state: _State) -> None:
    while True:
        try:
            task = state.queue.get_nowait()
        except queue.Empty:
            state.idle.release()
            task = state.queue.get()
        if task is None:
            state.queue.put(None)  # for the next thread
            return
        _do(task)
        del state.tasks[id(task)]
        del task  # and with it what it holds, before the next one comes


def _do(task: Task) -> None:
    if not task.future.set_running_or_notify_cancel():
        return
    try:
        result = task.do()
    except BaseException as exc:  # whoever waits for it gets it
        task.future.set_exception(exc)
        del task  # a circle of the error, its frames and the future would keep all that they know
    else:
        task.future.set_result(result)


def _name_of(do: Any) -> str:
    function = do.func if isinstance(do, partial) else do
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _under_way() -> list[Task]:
    return [task for state in list(_states) for task in list(state.tasks.values())]


@atexit.register
def _leave_behind() -> None:
    """Wait for what is under way when the program ends, but not for ever, and say what is left."""
    try:
        wait([task.future for task in _under_way()], GRACE)
    except KeyboardInterrupt:
        logger.info("thread_wait_ended reason=interrupt")
    for task in _under_way():
        if not task.future.done():
            logger.warning("thread_left_behind doing=%r seconds=%.1f", task.describe(), time.monotonic() - task.since)


os.register_at_fork(after_in_child=_states.clear)
