"""How does the dev server run beside the program that started it?

One run, from when it listens until it ends: a thread of its own with asyncio's
loop, the ticking of the clock, and what becomes of faults that nobody expects.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar, cast

from zkfleet.devserver.connections import Connection, Connections
from zkfleet.devserver.dispatch import Server
from zkfleet.errors import Closed

logger = logging.getLogger(__name__)

T = TypeVar("T")
CANNOT_LISTEN = (OSError, OverflowError, UnicodeError)
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
    """

    def __init__(
        self, core: Server, *, clock: Callable[[], float], pause: float, also: Callable[[float], None]
    ) -> None:
        self.connections = Connections(core, clock)
        self._core, self._now, self._pause, self._also = core, clock, pause, also
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._goes_on = threading.Event()
        self._goes_on.set()
        self._complaints: dict[str, float] = {}

    def start(self, host: str, port: int) -> int:
        """Listen, and return the port; clients are answered from now on.

        Raises:
            OSError, OverflowError, UnicodeError: it cannot listen there.
        """
        ready: Future[int] = Future()
        self._thread = threading.Thread(
            target=self._run, args=[host, port, ready], name="zkfleet-devserver", daemon=True
        )
        self._thread.start()
        try:
            return ready.result(PATIENCE)
        except CANNOT_LISTEN:
            self._thread.join()
            raise

    def end(self) -> None:
        """Break all connections and stop listening; returns when that is done."""
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            self.resume()
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(PATIENCE)

    def pause(self) -> None:
        """Do nothing any more, with all connections open and silent, until `resume`."""
        if self._loop is not None and self._goes_on.is_set():
            self._goes_on.clear()
            self._loop.call_soon_threadsafe(self._goes_on.wait)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._goes_on.set()

    def call(self, function: Callable[[], T]) -> T:
        """Run a function on the loop's thread and return what it returns.

        Raises:
            Closed: the run has ended.
            TimeoutError: it was not run in time.
        """
        loop, done = self._loop, Future[T]()
        if loop is None:
            raise Closed("this run of a dev server has ended")
        loop.call_soon_threadsafe(lambda: _settle(done, function))
        return done.result(PATIENCE)

    # -- on the thread

    def _run(self, host: str, port: int, ready: "Future[int]") -> None:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(self._log_fault)
        try:
            listener = loop.run_until_complete(
                loop.create_server(lambda: Connection(self.connections), host, port, backlog=BACKLOG)
            )
        except CANNOT_LISTEN as exc:
            ready.set_exception(exc)
            _close(loop)
            return
        self._loop = loop
        self._tick_and_again(loop)
        ready.set_result(listener.sockets[0].getsockname()[1])
        try:
            loop.run_forever()
        finally:
            listener.close()
            self.connections.abort()
            # Whatever was closed or aborted is told so in the next round.
            loop.run_until_complete(asyncio.sleep(0))
            _close(loop)

    def _tick_and_again(self, loop: asyncio.AbstractEventLoop) -> None:
        now = self._now()
        self.connections.carry_out(self._core.tick(now=now))
        self._also(now)
        loop.call_later(self._pause, self._tick_and_again, loop)

    def _log_fault(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        what, fault, now = str(context.get("message")), context.get("exception"), self._now()
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


def _close(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def _settle(done: "Future[T]", function: Callable[[], T]) -> None:
    try:
        done.set_result(function())
    except Exception as exc:  # it is the caller's, on another thread
        done.set_exception(exc)
