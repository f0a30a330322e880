"""The asyncio door: a monitor in a loop.

Connections are plain sockets that the loop watches.  asyncio's own transports
cost a multiple of what most commands do: here a connection that has its line
ready is accepted, answered and closed in one turn, and the loop watches it only
if there is something to wait for.  Encrypted ones are asyncio's (`encrypted`).
"""

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections import deque
from collections.abc import Callable

from zkfleet.monitor.encrypted import Encrypted
from zkfleet.monitor.listening import may_come_in
from zkfleet.monitor.talking import Switchboard, Talk

logger = logging.getLogger(__name__)

PIECE = 64 << 10
AT_ONCE = 64
SECONDS_WITHOUT_FILES = 1.0
SECONDS_FOR_LAST_WORDS = 1.0
NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class LoopClock:
    """The clock of an asyncio loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.now = loop.time

    def later(self, seconds: float, function: Callable[[], None]) -> Callable[[], object]:
        """Call a function after some seconds."""
        if not seconds:
            return self._loop.call_soon(function).cancel
        return self._loop.call_later(seconds, function).cancel

    def from_thread(self, function: Callable[[], None]) -> None:
        """Call a function on the loop's thread; nothing happens if the loop is gone, and with it who asked."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)


class Door:
    """Where connections come in; to be used on the loop's thread alone.

    Args:
        loop: the loop.
        listener: what listens.
        board: whose the connections are.
        tls: the server's side of an encrypted connection, or None for plain ones.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        board: Switchboard,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._loop, self._listener, self._board, self._tls = loop, listener, board, tls
        self._handshakes: set[asyncio.Task[object]] = set()
        self._is_open = False

    def open(self) -> None:
        """Let clients in."""
        self._is_open = True
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Let nobody in any more, and break all connections."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._listener)
        for task in self._handshakes:
            task.cancel()
        self._board.close()

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                one, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                self._rest(exc)
                return
            self._let_in(one)

    def _rest(self, exc: OSError) -> None:
        if exc.errno not in NO_FILES:
            raise exc
        logger.warning("monitor_cannot_accept reason=%s", exc.strerror)
        self._loop.remove_reader(self._listener)
        self._loop.call_later(SECONDS_WITHOUT_FILES, lambda: self.open() if self._is_open else None)

    def _let_in(self, one: socket.socket) -> None:
        one.setblocking(False)
        if not may_come_in(one):
            logger.warning("client_refused reason=it is of another user")
            _say_and_close(one, b"this monitor answers its own user\n")
        elif self._tls is None:
            Plain(self._loop, one, self._board).begin()
        elif len(self._handshakes) >= self._board.limits.connections:
            one.close()
        else:
            made = self._loop.connect_accepted_socket(lambda: Encrypted(self._board), one, ssl=self._tls)
            task = self._loop.create_task(made)
            self._handshakes.add(task)
            task.add_done_callback(self._shaken)

    def _shaken(self, task: "asyncio.Task[object]") -> None:
        self._handshakes.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            logger.info("client_refused reason=%s", exc)


class Plain:
    """One connection that is not encrypted; a `Wire`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, peer: socket.socket, board: Switchboard) -> None:
        self.is_local = peer.family == socket.AF_UNIX
        self.unread = 0
        self._loop, self._socket = loop, peer
        self._left: deque[memoryview] = deque()
        self._is_watched = self._is_paused = self._has_ended = self._closes = self._is_closed = False
        self._talk = Talk(board, self)
        board.take_in(self._talk)

    def begin(self) -> None:
        """Take what the client sent with its first breath, and watch for more."""
        self._read()
        self._watch()

    # -- what the talk orders

    def write(self, data: bytes) -> None:
        """Write what there is room for, and the rest when there is room."""
        if self._is_closed:
            return
        sent = 0 if self._left else self._send(data)
        if sent < len(data) and not self._is_closed:
            if not self._left:
                self._loop.add_writer(self._socket, self._write_on)
            self._left.append(memoryview(data)[sent:])
            self.unread += len(data) - sent

    def close(self) -> None:
        """Close when all is written."""
        self._closes = True
        if not self.unread and not self._is_closed:
            self._finish()

    def abort(self) -> None:
        """Close now."""
        if self._is_closed:
            return
        self._is_closed = True
        self._watch()
        if self._left:
            self._loop.remove_writer(self._socket)
        self._left.clear()
        self.unread = 0
        self._socket.close()
        self._talk.lost()

    def leave_to_parent(self) -> None:
        """Close it here alone; the loop's epoll is the parent's, too, and is not told."""
        self._socket.close()

    def pause(self) -> None:
        """Read nothing."""
        self._is_paused = True
        self._watch()

    def resume(self) -> None:
        """Read again."""
        self._is_paused = False
        self._watch()

    # -- what the socket does

    def _watch(self) -> None:
        wanted = not (self._is_paused or self._has_ended or self._is_closed)
        if wanted and not self._is_watched:
            self._loop.add_reader(self._socket, self._read)
        elif self._is_watched and not wanted:
            self._loop.remove_reader(self._socket)
        self._is_watched = wanted

    def _read(self) -> None:
        data = self._receive()
        if data is None or self._is_closed:
            return
        if self._closes:
            self._ignore(data)
        elif data:
            self._talk.received(data)
        else:
            self._has_ended = True
            self._watch()
            self._talk.ended()

    def _receive(self) -> bytes | None:
        """Return what came, nothing at the end, or None if there is none to be had."""
        if self._is_closed:
            return None
        try:
            return self._socket.recv(PIECE)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            self.abort()
            return None

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self.abort()
            return 0

    def _write_on(self) -> None:
        while self._left:
            sent = self._send(self._left[0])
            if self._is_closed:
                return
            self.unread -= sent
            if sent < len(self._left[0]):
                self._left[0] = self._left[0][sent:]
                if sent:
                    self._talk.progressed()
                return
            self._left.popleft()
        self._loop.remove_writer(self._socket)
        if self._closes:
            self._finish()
        else:
            self._talk.drained()

    def _finish(self) -> None:
        """Close; everything is written."""
        if self._has_ended or not self._receive():
            self.abort()
            return
        # It sends on. To close now would take from it what it has not read yet
        # (RFC 1122, 4.2.2.13): it is told of the end, and not listened to.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self.resume()
        self._loop.call_later(SECONDS_FOR_LAST_WORDS, self.abort)

    def _ignore(self, data: bytes) -> None:
        if not data and not self.unread:
            self.abort()
        elif not data:
            self._has_ended = True
            self._watch()


def _say_and_close(one: socket.socket, text: bytes) -> None:
    with one, contextlib.suppress(OSError):
        one.send(text)
