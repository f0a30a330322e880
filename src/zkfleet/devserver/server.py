"""How does the dev server listen?

The asyncio shell around `dispatch`: sockets, the clock, and a thread for the
loop.  It hands on bytes and carries orders out; nothing is decided here, but
for a client that does not read: what waits for it is bounded, and so is how
long it is waited for.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Self, TypeVar, cast

from zkfleet.devserver import snapshot
from zkfleet.devserver.database import Database
from zkfleet.devserver.dispatch import Close, Hold, Order, Send, Server
from zkfleet.devserver.sessions import Sessions
from zkfleet.endpoints import Endpoint
from zkfleet.errors import BadAddress, Closed, WaitTimedOut

logger = logging.getLogger(__name__)

T = TypeVar("T")
LOOPBACK = "127.0.0.1"
MOST_UNREAD = 32 << 20
BACKLOG = 1024
LONGEST_PAUSE = 0.5
SECONDS_BETWEEN_SAVES = 5.0
SECONDS_BETWEEN_COMPLAINTS = 60.0
PATIENCE = 10.0
SECONDS_FOR_LAST_WORDS = 10.0


class DevServer:
    """One ZooKeeper server on a thread of this process, for development and tests.

    Everything is kept in memory.  Use it as a context manager, or `start` and
    `stop` it; all methods may be called from any thread.

    Args:
        port: 0 for any that is free; it stays the same over `restart`.
        host: where to listen; loopback unless told otherwise.
        data: a file to keep everything in between runs, read if it is there.
        tick: seconds; sessions end at the end of one.
        session_timeouts: the shortest and the longest that is granted, in
            seconds; None for 2 and 20 ticks, as in ZooKeeper.
        clock: seconds, on a clock that only goes forward; tests bring their own.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        host: str = LOOPBACK,
        data: Path | None = None,
        tick: float = 2.0,
        session_timeouts: tuple[float, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host, self.port, self.now = host, port, clock
        self._data, self._tick = data, tick
        self._timeouts = session_timeouts or (2 * tick, 20 * tick)
        self._connections: dict[int, _Connection] = {}
        self._transports: set[asyncio.Transport] = set()
        self._numbers = 0
        self._running = threading.Event()
        self._running.set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._save_due = 0.0
        self._saving_fails = False
        self._faults: dict[str, float] = {}
        self._begin_anew()
        if data is not None and (text := snapshot.read(data)) is not None:
            snapshot.load(text, self.core.database, self.core.sessions, now=clock(), source=str(data))

    def _begin_anew(self) -> None:
        self._saved_zxid = -1
        shortest, longest = self._timeouts
        first = time.time_ns() // 1_000_000
        sessions = Sessions(os.urandom(16), first, tick=self._tick, shortest=shortest, longest=longest)
        self.core = Server(sessions, Database(), epoch=(time.time() - self.now()) * 1000)

    @property
    def hosts(self) -> str:
        """The connection string."""
        return str(Endpoint(self.host, self.port))

    # -- coming and going

    def start(self) -> Self:
        """Listen; the server answers when this returns.  Twice is fine.

        Raises:
            BadAddress: it cannot listen there.
        """
        if self._thread is not None:
            return self
        core = self.core
        self.core = Server(core.sessions, core.database, epoch=core.epoch, since=self.now())
        # Whoever was alive gets its whole timeout to come back in.
        for session in core.sessions.timeouts:
            core.sessions.touch(session, now=self.now())
        ready: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, args=[ready], name="zkfleet-devserver", daemon=True)
        self._thread.start()
        try:
            self.port = ready.result(PATIENCE)
        except (OSError, OverflowError, UnicodeError) as exc:
            self._thread.join()
            self._thread = None
            reason = getattr(exc, "strerror", None) or exc
            raise BadAddress(f"{self.hosts}: {reason}", hint="choose another port; 0 takes a free one") from exc
        logger.info("devserver_started hosts=%s: for development and tests, not for production", self.hosts)
        return self

    def stop(self) -> None:
        """Stop listening and keep what is to be kept.  Twice is fine."""
        if self._end():
            self._save()

    def kill(self) -> None:
        """Stop as after a power cut: connections break, nothing is saved now, sessions live on."""
        self._end()

    def restart(self) -> None:
        """Stop and start again, with everything that was there but the connections and watches."""
        self._end()
        self.start()

    def wipe(self) -> None:
        """Stop, forget everything, sessions too, and start again."""
        self._end()
        self._begin_anew()
        self.start()

    def pause(self) -> None:
        """Do nothing any more, with all connections open and silent, until `resume`."""
        if self._loop is not None and self._running.is_set():
            self._running.clear()
            self._loop.call_soon_threadsafe(self._running.wait)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._running.set()

    def expire_session(self, session: int) -> None:
        """End a session as if its time were over.

        Raises:
            Closed: the server does not run.
            WaitTimedOut: it is paused, or has too much to do.
        """
        self._call(lambda: self.carry_out(self.core.expire(session)))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    # -- the thread

    def _run(self, ready: "Future[int]") -> None:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(self._log_fault)
        try:
            listener = loop.run_until_complete(
                loop.create_server(lambda: _Connection(self), self.host, self.port, backlog=BACKLOG)
            )
        except (OSError, OverflowError, UnicodeError) as exc:
            ready.set_exception(exc)
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            return
        self._loop = loop
        self._tick_and_again()
        ready.set_result(listener.sockets[0].getsockname()[1])
        try:
            loop.run_forever()
        finally:
            listener.close()
            for transport in list(self._transports):
                transport.abort()
            # Whatever was closed or aborted is told so in the next round.
            loop.run_until_complete(asyncio.sleep(0))
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    def _end(self) -> bool:
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return False
        self.resume()
        self._loop = self._thread = None
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        self._connections.clear()
        return True

    def _call(self, function: Callable[[], T]) -> T:
        """Run a function on the loop's thread and return what it returns."""
        loop, done = self._loop, Future[T]()
        if loop is None:
            raise Closed("this dev server does not run", hint="start() it")
        loop.call_soon_threadsafe(lambda: _settle(done, function))
        try:
            return done.result(PATIENCE)
        except TimeoutError as exc:
            raise WaitTimedOut(
                f"{self.hosts}: no answer in {PATIENCE:g} s", hint="if it is paused, resume() it"
            ) from exc

    def _tick_and_again(self) -> None:
        now = self.now()
        self.carry_out(self.core.tick(now=now))
        if self._data is not None and now >= self._save_due:
            self._save_due = now + SECONDS_BETWEEN_SAVES
            self._save()
        if self._loop is not None:
            self._loop.call_later(min(self._tick / 4, LONGEST_PAUSE), self._tick_and_again)

    def _save(self) -> None:
        zxid = self.core.database.zxid
        if self._data is None or zxid == self._saved_zxid:
            return
        try:
            snapshot.write(self._data, snapshot.dump(self.core.database, self.core.sessions))
        except OSError as exc:
            # It is tried again and again, and told once.
            if not self._saving_fails:
                logger.error("devserver_not_saved file=%s reason=%s", self._data, exc)
            self._saving_fails = True
            return
        self._saved_zxid = zxid
        if self._saving_fails:
            logger.info("devserver_saved_again file=%s", self._data)
            self._saving_fails = False

    def _log_fault(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        what, fault, now = str(context.get("message")), context.get("exception"), self.now()
        if self._loop is None:
            # It is being stopped: what asyncio had planned finds closed sockets.
            logger.debug("devserver_fault_at_end what=%s reason=%s", what, fault)
        elif not isinstance(fault, OSError):
            logger.error("devserver_fault what=%s", what, exc_info=cast(Exception, fault))
        elif now >= self._faults.get(what, now):
            # What the machine refuses, such as one more open file, is nobody's bug
            # here; asyncio tries again, and again, and tells each time.
            self._faults[what] = now + SECONDS_BETWEEN_COMPLAINTS
            logger.error("devserver_fault what=%s reason=%s", what, fault)

    # -- connections, on the loop's thread

    def take_in(self, connection: "_Connection", address: str, port: int) -> int:
        """Take a new connection and return its number."""
        self._numbers += 1
        self._connections[self._numbers] = connection
        self._transports.add(connection.transport)
        self.core.connected(self._numbers, address, port, now=self.now())
        return self._numbers

    def let_go(self, number: int, transport: asyncio.Transport) -> None:
        """Forget a connection that is gone."""
        self._transports.discard(transport)
        if self._connections.pop(number, None) is not None:
            self.core.lost(number)

    def carry_out(self, orders: list[Order]) -> None:
        """Write and close as the core says; what goes to one connection goes at once."""
        written: dict[int, list[bytes]] = {}
        others: list[Close | Hold] = []
        for order in orders:
            if isinstance(order, Send):
                written.setdefault(order.connection, []).append(order.data)
            else:
                others.append(order)
        for number, parts in written.items():
            self._write(number, b"".join(parts))
        for order in others:
            if (connection := self._connections.get(order.connection)) is None:
                continue
            if isinstance(order, Hold):
                connection.hold()
            else:
                del self._connections[order.connection]
                self._close(connection.transport)

    def _write(self, number: int, data: bytes) -> None:
        if (connection := self._connections.get(number)) is None:
            return
        transport = connection.transport
        transport.write(data)
        if (size := transport.get_write_buffer_size()) > MOST_UNREAD:
            address, port = transport.get_extra_info("peername")[:2]
            logger.warning("client_dropped peer=%s:%d reason=it has not read %d bytes", address, port, size)
            del self._connections[number]
            self.core.lost(number)
            transport.abort()

    def _close(self, transport: asyncio.Transport) -> None:
        transport.close()
        # What it was sent last is worth some patience, but not for ever.
        if transport.get_write_buffer_size() and self._loop is not None:
            self._loop.call_later(SECONDS_FOR_LAST_WORDS, transport.abort)


class _Connection(asyncio.Protocol):
    """One client: bytes in, orders out.

    While it does not read its replies, it may not ask for more: then nothing
    is read from it, and what it had asked for before waits in the core.
    """

    def __init__(self, shell: DevServer) -> None:
        self._shell = shell
        self._number = 0
        self._on_hold = self._is_full = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        address, port = transport.get_extra_info("peername")[:2]
        self._number = self._shell.take_in(self, address, port)

    def data_received(self, data: bytes) -> None:
        shell = self._shell
        shell.carry_out(shell.core.received_bytes(self._number, data, now=shell.now()))

    def hold(self) -> None:
        """Take nothing more until all is written, then go on with what waits."""
        self._on_hold = True
        self.transport.pause_reading()
        if not self._is_full:
            # Others come first, even if this one reads as fast as it is written to.
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._is_full or not self._on_hold:
            return
        self._on_hold = False
        shell = self._shell
        shell.carry_out(shell.core.go_on(self._number, now=shell.now()))
        if not (self._on_hold or self._is_full):
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        self._is_full = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_full = False
        if self._on_hold:
            self._go_on()
        else:
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._shell.let_go(self._number, self.transport)


def _settle(done: "Future[T]", function: Callable[[], T]) -> None:
    try:
        done.set_result(function())
    except Exception as exc:  # it is the caller's, on another thread
        done.set_exception(exc)
