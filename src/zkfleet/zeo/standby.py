"""How do several servers share one storage, so that one serves and another takes over?

The shell around `duty` (what to do) and `lease` (for how long): a lock in
ZooKeeper, three threads, and a server that is told to open, abort and drain.
The lock is not the service's node, where clients look, but beside it:

    /databases/main             what serves; each server registers here itself
    /databases/main.standby     made if it is missing
        primary                 the lock
        HOST-PID                one for every server: `state`, `since`, and by whom it is `locked_by`

    keeper's thread     asks ZooKeeper, again and again, whether the lock is ours
    duty's thread       looks at the facts whenever they may have changed; aborts
    workers             open and drain, which take their time, one at a time

Always: storages are opened under the lock and a lease; when the lease is over
they are closed, whatever ZooKeeper says or does not say; the lock is given
back when nothing is open any more.
"""

import contextlib
import os
import queue
import re
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol, Self

from zc.lockfile import LockError

from zkfleet.clocks import since_boot
from zkfleet.errors import Closed, NodeNotFound, WaitTimedOut, ZkfleetError
from zkfleet.registry import Lock, Registry
from zkfleet.spelling import get_logger
from zkfleet.zeo.duty import Duty, Facts, Order, State, Stop
from zkfleet.zeo.lease import ANSWERED_WITHIN, RENEWED_EVERY, Exchange, Lease

logger = get_logger(__name__)

SUFFIX = ".standby"
PRIMARY = "primary"
LONGEST_WAIT = 60.0
GOODBYE = 2.0
SECONDS_BETWEEN_COMPLAINTS = 30.0


class Served(Protocol):
    """A server that is told when it may; one call at a time, but for `abort`."""

    def open(self) -> None:
        """Open the storages, serve and register; returns when clients are let in.

        Whatever it raises, nothing is open afterwards.

        Raises:
            zc.lockfile.LockError: another process has a storage's file.
        """

    def abort(self) -> None:
        """Break all connections and close the storages at once, and begin to deregister.

        There is a twelfth of the session's timeout for it, and ZooKeeper may be
        silent.  A drain that is under way ends with it.

        Raises:
            WaitTimedOut: a storage is still open.
        """

    def drain(self) -> None:
        """Deregister, let nobody begin a commit, wait for those who are in one, for a while, and close the storages.

        Raises:
            WaitTimedOut: one is still open.
        """


class Standby:
    """A server among others for the same path, of which one serves.

    Args:
        registry: on whose session the lock is held.
        path: of the service; links are followed once, at the start.
        server: what is opened, aborted and drained.
        name: of our own node; `HOST-PID` if it is empty, which nobody takes for an address.

    Attributes:
        problem: why it stopped, if `open` or `abort` failed, else None.
    """

    def __init__(self, registry: Registry, path: str, server: Served, *, name: str = "") -> None:
        self._registry, self._path, self._server = registry, path, server
        self._name = name or f"{socket.gethostname()}-{os.getpid()}"
        self._duty, self._lease, self._stop = Duty(), Lease(), Stop.NO
        self._shown: State | None = None
        self._locked_by = ""
        self._complained_at = 0.0
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._ask_now, self._over = threading.Event(), threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="zkfleet-standby-keeper", daemon=True)
        self._thread = threading.Thread(target=self._run, name="zkfleet-standby", daemon=True)
        self.problem: Exception | None = None

    # -- for whoever has it

    def start(self) -> Self:
        """Begin to wait for the lock.

        Raises:
            NodeNotFound, LinkLoop: the path leads nowhere.
            AccessDenied, NotConnected, OutcomeUnknown: what is needed beside it could not be made.
        """
        self._home = self._registry.resolve(self._path) + SUFFIX
        self._registry.make_node(self._home)
        self._lock = self._registry.lock(self._home, PRIMARY)
        self._node = self._registry.lock(self._home, self._name, state=State.WAITING.value, since=time.time())
        try:
            self._lock.subscribe(self._changed)
            self._keeper.start()
            self._thread.start()
        except BaseException:  # the machine has no more threads, perhaps: somebody else is to serve
            self._release()
            raise
        return self

    @property
    def state(self) -> State:
        """How we stand."""
        return self._duty.state

    def may_commit(self) -> bool:
        """Tell whether the storages may be changed at this very moment; for any thread, and costs next to nothing.

        To be asked before each vote and each finish: a process that was stopped
        for longer than its session goes on in the middle of what it was doing.
        """
        return self._facts().allow(self._duty.token)

    def stop(self, how: Stop = Stop.DRAIN) -> None:
        """Begin to drain, or to abort, and then to give the lock back; returns at once."""
        self._stop = how
        self._wake()

    def wait_until_stopped(self, timeout: float | None = None) -> None:
        """Wait until nothing is open and the lock is given back.

        Args:
            timeout: seconds; None to wait for ever.

        Raises:
            WaitTimedOut: it was not in all that time.
        """
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise WaitTimedOut(f"{self._path}: the server is still {self.state.value} after {timeout:g} s")

    # -- facts

    def _facts(self) -> Facts:
        return Facts(since_boot(), self._lock.token, self._lease, self._stop)

    def _wake(self) -> None:
        self._inbox.put(lambda: None)

    def _changed(self, _lock: Lock) -> None:
        self._ask_now.set()
        self._wake()

    def _keep(self) -> None:
        """Renew the lease until it is all over."""
        while not self._over.is_set():
            timeout = self._registry.statistics().negotiated_timeout
            self._ask_now.clear()
            try:
                self._ask(timeout)
            except ZkfleetError as exc:  # the lease runs on, and runs out
                logger.debug("standby_unconfirmed path=%s reason=%s", self._path, exc)
            self._ask_now.wait(RENEWED_EVERY * timeout)

    def _ask(self, timeout: float) -> None:
        if isinstance(self._lock.problem, NodeNotFound):
            self._registry.make_node(self._home)
        if not self._lock.token:
            self._lock.look_again()
        asked = since_boot()
        standing = self._lock.confirm(ANSWERED_WITHIN * timeout)
        exchange = Exchange(asked, since_boot())
        self._lease = self._lease.confirmed(standing, exchange, timeout=timeout)
        self._wake()

    # -- duty

    def _run(self) -> None:
        try:
            while self._duty.state is not State.STOPPED:
                facts = self._facts()
                if order := self._duty.look(facts):
                    self._carry_out(order)
                else:
                    self._show()
                    self._take_news(self._duty.wake_at(facts) - facts.now)
        finally:
            self._over.set()  # nobody is left to look: let the lease run out, whatever happened

    def _take_news(self, seconds: float) -> None:
        """Wait for what happens next, and take note of it and of all that came with it."""
        try:
            self._inbox.get(timeout=min(max(seconds, 0), LONGEST_WAIT))()
            while True:
                self._inbox.get_nowait()()
        except queue.Empty:
            return

    def _carry_out(self, order: Order) -> None:
        match order:
            case Order.OPEN:
                self._work(self._server.open, self._opened)
            case Order.DRAIN:
                self._show()
                self._work(self._server.drain, self._drained)
            case Order.ABORT:
                # At once and here: the margin of the lease is short.
                self._abort()
            case Order.RELEASE:
                self._release()

    def _work(self, task: Callable[[], None], then: Callable[[Exception | None], None]) -> None:
        def work() -> None:
            problem: Exception | None = None
            try:
                task()
            except Exception as exc:  # whatever a storage raises: the duty's thread judges it
                problem = exc
            self._inbox.put(lambda: then(problem))

        try:
            threading.Thread(target=work, name="zkfleet-standby-work", daemon=True).start()
        except RuntimeError as exc:  # the machine has no more threads for this process
            self._inbox.put(partial(then, exc))

    def _opened(self, problem: Exception | None) -> None:
        self._locked_by = locked_by(problem) if isinstance(problem, LockError) else ""
        if problem is None:
            self._duty.opened()
        elif isinstance(problem, LockError):
            self._duty.locked(since_boot())
            self._complain(problem)
        else:
            self._fail("opened", problem)

    def _drained(self, problem: Exception | None) -> None:
        if problem is not None:
            logger.error("standby_not_drained path=%s", self._path, exc_info=problem)
            self._abort()
        self._duty.drained()

    def _abort(self) -> None:
        began = time.monotonic()
        try:
            self._abort_until_nothing_is_open()
        except Exception as exc:  # whatever a storage raises: `may_commit` is False, and we are off
            self._fail("aborted", exc)
        logger.warning("standby_aborted path=%s after_seconds=%.3f", self._path, time.monotonic() - began)

    def _abort_until_nothing_is_open(self) -> None:
        # Until then nobody else may open it: the lock is kept, if it is still ours.
        while True:
            try:
                self._server.abort()
            except WaitTimedOut as exc:
                logger.error("standby_does_not_end path=%s reason=%s", self._path, exc)
            else:
                return

    def _fail(self, what: str, problem: Exception) -> None:
        self.problem = problem
        self._duty.failed()
        foreseen = isinstance(problem, ZkfleetError | OSError)
        logger.error(
            "standby_not_%s path=%s reason=%s: the lock is given back",
            what,
            self._path,
            problem,
            exc_info=None if foreseen else problem,
        )

    def _complain(self, problem: LockError) -> None:
        now = time.monotonic()
        if self._shown is not State.BLOCKED or now >= self._complained_at + SECONDS_BETWEEN_COMPLAINTS:
            self._complained_at = now
            logger.warning(
                "storage_locked path=%s by_pid=%s state=%s reason=%s: no client is served until that process ends;"
                " see what it does, and end it if it answers nobody",
                self._path,
                self._locked_by,
                state_of(self._locked_by),
                problem,
            )

    def _release(self) -> None:
        self._over.set()
        self._ask_now.set()
        for held in (self._lock, self._node):
            try:
                held.close(GOODBYE)
            except ZkfleetError as exc:
                logger.warning("standby_left_to_the_session path=%s name=%s reason=%s", self._home, held.name, exc)
        self._show()

    def _show(self) -> None:
        """Tell the log and our node how we stand, when that has changed; not of every try while blocked."""
        state = self._duty.state
        if state is self._shown or (state is State.OPENING and self._shown is State.BLOCKED):
            return
        logger.info("standby_%s path=%s name=%s token=0x%x", state.value, self._path, self._name, self._duty.token)
        self._shown = state
        with contextlib.suppress(Closed):
            self._node.begin_update(state=state.value, since=time.time(), locked_by=self._locked_by)


def locked_by(problem: LockError) -> str:
    """Return the id of the process that has a storage's file, as its lock file says, or `unknown`."""
    named = re.search(r"lock '(.+)'", str(problem))
    try:
        return Path(named[1]).read_text().strip() if named else "unknown"
    except (OSError, ValueError):
        return "unknown"


def state_of(pid: str) -> str:
    """Return how a process of this machine stands, in a word or a few; `runs` if nothing keeps it from that."""
    try:
        # The name, in parentheses, may have anything in it.
        sign = Path(f"/proc/{int(pid)}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "not on this machine"
    except (OSError, ValueError, IndexError):
        return "unknown"
    return {"T": "stopped", "t": "stopped", "D": "waits for a disk", "Z": "ended"}.get(sign, "runs")
