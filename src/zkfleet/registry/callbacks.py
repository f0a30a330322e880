"""Who runs the users' callbacks, and what if one of them blocks?

One thread of the registry's own runs them all, a view at a time.  If a
callback keeps it longer than `PATIENCE` while others wait, a relief thread
takes the queue over, and the blocked one ends with its callback: a slow
callback delays its own view and no other.  At most `MOST` threads at once.

A view that changed while its callbacks run is queued again behind the others,
so intermediate states may be left out and the last one never is.  `Turns` says
whose turn it is: of one view there is one job at the most, queued or running.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from enum import Enum

from zkfleet.spelling import get_logger

logger = get_logger(__name__)

PATIENCE = 0.05
MOST = 4
Job = Callable[[], None]


class Turn(Enum):
    """How it stands with the callbacks of one view."""

    IDLE = "idle"
    QUEUED = "queued"
    RUNNING = "running"
    AGAIN = "running, and to be queued again"


class Turns:
    """Keeps the callbacks of one view from running twice at a time; for any thread.

    Args:
        submit: queues the job that runs them.
    """

    def __init__(self, submit: Callable[[], object]) -> None:
        self.turn = Turn.IDLE
        self._submit = submit
        self._lock = threading.Lock()
        self._runner: int | None = None

    def changed(self) -> None:
        """There is something that callbacks have not seen."""
        with self._lock:
            submits = self.turn is Turn.IDLE
            self.turn = {Turn.IDLE: Turn.QUEUED, Turn.RUNNING: Turn.AGAIN}.get(self.turn, self.turn)
        if submits:
            self._submit()

    def begin(self) -> None:
        """The job begins, on this thread."""
        with self._lock:
            self.turn, self._runner = Turn.RUNNING, threading.get_ident()

    def end(self) -> None:
        """The job is done."""
        with self._lock:
            submits = self.turn is Turn.AGAIN
            self.turn, self._runner = (Turn.QUEUED if submits else Turn.IDLE), None
        if submits:
            self._submit()

    def take(self) -> bool:
        """Begin out of turn, on this thread, if nothing runs; tell whether that worked."""
        with self._lock:
            if self.turn is not Turn.IDLE:
                return False
            self.turn, self._runner = Turn.RUNNING, threading.get_ident()
            return True

    def mine(self) -> bool:
        """Tell whether the job runs on this very thread."""
        return self._runner == threading.get_ident()


class Callbacks:
    """Runs jobs in order, on a thread that is replaced when a job blocks it."""

    def __init__(self) -> None:
        self._queue: deque[Job] = deque()
        self._condition = threading.Condition()
        self._workers: dict[threading.Thread, float | None] = {}
        self._stopped = self._told = self._lacks_thread = False

    def submit(self, job: Job) -> None:
        """Queue a job, from any thread; if no thread can be started for it, `relieve` tries again."""
        with self._condition:
            if self._stopped:
                return
            self._queue.append(job)
            if not self._workers:
                self._add_worker()
            self._condition.notify()

    def on_this_thread(self) -> bool:
        """Tell whether the caller is one of our threads, that is, a callback."""
        return threading.current_thread() in self._workers

    def relieve(self) -> None:
        """Add a thread if jobs wait and every thread has been busy for too long.

        Called by the hub's timer while there are jobs.
        """
        with self._condition:
            late = time.monotonic() - PATIENCE
            blocked = all(since is not None and since < late for since in self._workers.values())
            if self._queue and blocked and len(self._workers) < MOST and not self._stopped:
                if self._workers and not self._told:
                    logger.warning("callback_blocks threads=%d waiting=%d", len(self._workers), len(self._queue))
                self._told = True
                self._add_worker()

    @property
    def waiting(self) -> bool:
        """Whether jobs are queued."""
        return bool(self._queue)

    def stop(self, timeout: float) -> None:
        """Drop what is queued and end the threads; our own is not waited for."""
        with self._condition:
            self._stopped = True
            self._queue.clear()
            self._condition.notify_all()
            workers = list(self._workers)
        deadline = time.monotonic() + timeout
        for worker in workers:
            if worker is not threading.current_thread():
                worker.join(max(deadline - time.monotonic(), 0))

    def _add_worker(self) -> None:
        worker = threading.Thread(target=self._run, name="zkfleet-callbacks", daemon=True)
        self._workers[worker] = None
        try:
            worker.start()
        except RuntimeError as exc:  # the machine has no more threads for this process, or it ends
            del self._workers[worker]
            if not self._workers and not self._lacks_thread:
                self._lacks_thread = True
                logger.error("callbacks_delayed waiting=%d reason=%s: tried again", len(self._queue), exc)
            return
        if self._lacks_thread:
            self._lacks_thread = False
            logger.info("callbacks_resumed waiting=%d", len(self._queue))

    def _run(self) -> None:
        me = threading.current_thread()
        while job := self._next(me):
            try:
                job()
            except BaseException:  # a user's callback may raise anything, SystemExit too, and the rest go on
                logger.exception("callback_failed")
            del job

    def _next(self, me: threading.Thread) -> Job | None:
        """Wait for a job; None if there is none for this thread any more."""
        with self._condition:
            self._workers[me] = None
            while not (self._queue or self._stopped or self._spare()):
                self._told = False
                self._condition.wait()
            if self._queue and not self._stopped:
                self._workers[me] = time.monotonic()
                return self._queue.popleft()
            del self._workers[me]
            return None

    def _spare(self) -> bool:
        """Tell whether more than one thread has nothing to do."""
        return sum(since is None for since in self._workers.values()) > 1
