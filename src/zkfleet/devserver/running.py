"""How does the dev server run beside the program that started it?

One run, from when it listens until it ends: a thread of its own with asyncio's
loop, the ticking of the clock, and what becomes of faults that nobody expects.
Whoever tells the loop something does so under the lock under which the loop is
told to stop: what was told before that is done, what comes later is refused.
"""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar, cast

from zkfleet.devserver.connections import Connection, Connections
from zkfleet.devserver.dispatch import Server
from zkfleet.errors import Closed, WaitTimedOut
from zkfleet.spelling import get_logger

logger = get_logger(__name__)

T = TypeVar("T")
LOOPBACK = "127.0.0.1"
CANNOT_LISTEN = (OSError, OverflowError, ValueError)
BACKLOG = 1024
PATIENCE = 10.0
SECONDS_BETWEEN_COMPLAINTS = 60.0


class Run:
    """One run of a server; its methods may be called from any thread.

    Args:
        core: what is served.
        clock: seconds, on a clock that only goes forward.
        pause: seconds between two ticks.
        also: is called at each tick, with the time.

    Attributes:
        connections: those that are open, for the loop's thread alone.
        side_door: the port of loopback that is open until `open` is called, or 0.
    """

    def __init__(
        self, core: Server, *, clock: Callable[[], float], pause: float, also: Callable[[float], None]
    ) -> None:
        self.connections, self.side_door = Connections(core, clock), 0
        self._core, self._now, self._pause, self._also = core, clock, pause, also
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None  # set by the thread, and to None under the lock
        self._thread: threading.Thread | None = None
        self._goes_on = threading.Event()
        self._goes_on.set()
        self._complaints: dict[str, float] = {}
        self._listeners: list[asyncio.Server] = []

    def start(self, host: str, port: int, *, aside: bool = False) -> int:
        """Listen, and return the port; clients are answered from now on.

        Args:
            host: where to listen.
            port: 0 for any that is free.
            aside: take the port, and let clients in by a side door until `open` is called.

        Raises:
            OSError, OverflowError, ValueError: it cannot listen there.
            WaitTimedOut: it is not known in time whether it can.
        """
        ready: Future[int] = Future()
        self._thread = threading.Thread(
            target=self._run, args=[host, port, aside, ready], name="zkfleet-devserver", daemon=True
        )
        self._thread.start()
        try:
            return ready.result(PATIENCE)
        except TimeoutError:
            if ready.cancel():  # the thread sees it, and ends
                raise WaitTimedOut(f"{host}: it is not known after {PATIENCE:g} s what address that is") from None
            return ready.result()
        except CANNOT_LISTEN:
            self._thread.join(PATIENCE)
            raise

    def open(self) -> None:
        """Listen at the port that was taken, and shut the side door.

        Raises:
            OSError: it cannot listen there, or it was not known in time.
            Closed: the run has ended.
        """
        opened: Future[None] = Future()
        with self._lock:
            self._tell(lambda: asyncio.ensure_future(self._open(opened)))
        opened.result(PATIENCE)

    def end(self) -> None:
        """Break all connections and stop listening; returns when that is done.

        Raises:
            WaitTimedOut: it is still busy; it ends when it is not, and may be waited for again.
        """
        with self._lock:
            loop, self._loop = self._loop, None
            if loop is not None:
                loop.call_soon_threadsafe(loop.stop)
        self.resume()
        if self._thread is not None:
            self._thread.join(PATIENCE)
            if self._thread.is_alive():
                raise WaitTimedOut(f"a dev server is still busy after {PATIENCE:g} s", hint="stop() it again")

    def pause(self) -> None:
        """Do nothing any more, with all connections open and silent, until `resume`.

        Raises:
            Closed: the run has ended.
        """
        with self._lock:
            if self._goes_on.is_set():
                goes_on = threading.Event()
                self._tell(goes_on.wait)
                self._goes_on = goes_on

    def resume(self) -> None:
        """Go on after `pause`."""
        self._goes_on.set()

    def call(self, function: Callable[[], T]) -> T:
        """Run a function on the loop's thread and return what it returns.

        Raises:
            Closed: the run has ended.
            TimeoutError: it was not run in time.
        """
        done = Future[T]()
        with self._lock:
            self._tell(lambda: _settle(done, function))
        return done.result(PATIENCE)

    def _tell(self, function: Callable[[], object]) -> None:
        if self._loop is None:
            raise Closed("this run of a dev server has ended")
        self._loop.call_soon_threadsafe(function)

    # -- on the thread

    def _run(self, host: str, port: int, aside: bool, ready: "Future[int]") -> None:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(self._log_fault)
        try:
            self._listeners.append(loop.run_until_complete(self._listen(host, port, serving=not aside)))
            if aside:
                self._listeners.append(loop.run_until_complete(self._listen(LOOPBACK, 0)))
                self.side_door = _port(self._listeners[-1])
        except CANNOT_LISTEN as exc:
            if ready.set_running_or_notify_cancel():
                ready.set_exception(exc)
            self._stop_listening()
            _close(loop)
            return
        if ready.set_running_or_notify_cancel():
            self._loop = loop
            loop.call_soon(self._tick_and_again, loop)
            ready.set_result(_port(self._listeners[0]))
            loop.run_forever()
        for listener in self._listeners:
            _let_nobody_in(listener)
        loop.run_until_complete(_who_came_is_in())
        self._stop_listening()
        self.connections.abort()
        # Whatever was closed or aborted is told so in the next round.
        loop.run_until_complete(asyncio.sleep(0))
        _close(loop)

    def _stop_listening(self) -> None:
        while self._listeners:
            self._listeners.pop().close()

    async def _open(self, opened: "Future[None]") -> None:
        door, side_door = self._listeners
        try:
            await door.start_serving()
        except OSError as exc:
            opened.set_exception(exc)
            return
        _let_nobody_in(side_door)
        side_door.close()
        self.side_door = 0
        opened.set_result(None)

    async def _listen(self, host: str, port: int, *, serving: bool = True) -> asyncio.Server:
        loop = asyncio.get_running_loop()

        def listen(at: int) -> Coroutine[Any, Any, asyncio.Server]:
            connected = partial(Connection, self.connections)
            return loop.create_server(connected, host, at, backlog=BACKLOG, start_serving=serving)

        listener = await listen(port)
        if port or len(listener.sockets) == 1:
            return listener
        # A name of several addresses, and each got a free port of its own.
        chosen = _port(listener)
        _let_nobody_in(listener)
        listener.close()
        return await listen(chosen)

    def _tick_and_again(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(self._pause, self._tick_and_again, loop)  # whatever becomes of this one
        now = self._now()
        self.connections.carry_out(self._core.tick(now=now))
        self._also(now)

    def _log_fault(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        what, fault, now = str(context.get("message")), context.get("exception"), time.monotonic()
        if self._loop is None:
            # It is being stopped: what asyncio had planned finds closed sockets.
            logger.debug("devserver_fault_at_end what=%s reason=%s", what, fault)
        elif not isinstance(fault, OSError):
            logger.error("devserver_fault what=%s", what, exc_info=cast(Exception, fault))
        elif now >= self._complaints.get(what, now):
            # What the machine refuses, such as one more open file, is nobody's bug
            # here; asyncio tries again, and again, and tells each time.
            self._complaints[what] = now + SECONDS_BETWEEN_COMPLAINTS
            logger.error("devserver_fault what=%s reason=%s", what, fault)


def _port(listener: asyncio.Server) -> int:
    return int(listener.sockets[0].getsockname()[1])


def _let_nobody_in(listener: asyncio.Server) -> None:
    for one in listener.sockets:
        # A forked child has it open too; not every system shuts down what listens.
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


async def _who_came_is_in() -> None:
    """Wait until whoever was accepted has its transport: each has a task, which needs a listener that is open."""
    coming = asyncio.all_tasks() - {asyncio.current_task()}
    if coming:
        await asyncio.wait(coming)


def _close(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def _settle(done: "Future[T]", function: Callable[[], T]) -> None:
    try:
        done.set_result(function())
    except Exception as exc:  # it is the caller's, on another thread
        done.set_exception(exc)
