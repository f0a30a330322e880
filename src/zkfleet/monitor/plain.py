"""Connections that are not encrypted, for the asyncio door: plain sockets that the loop watches.

asyncio's own transports cost a multiple of what most commands do.  Here a
connection that has its line ready is answered and closed in one turn of the
loop, which watches it only if there is something to wait for.
"""

import asyncio
import contextlib
import socket
from collections import deque

from zkfleet.monitor.listening import may_come_in
from zkfleet.monitor.talking import Switchboard, Talk

PIECE = 64 << 10
SECONDS_FOR_LAST_WORDS = 1.0


class Plain:
    """One connection that is not encrypted; a `Wire`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, peer: socket.socket, board: Switchboard) -> None:
        self.is_local = peer.family == socket.AF_UNIX
        self.unread = 0
        self._loop, self._socket = loop, peer
        self._left: deque[memoryview] = deque()
        self._is_watched = self._is_paused = self._has_ended = self._closes = self._is_closed = False
        self._talk = Talk(board, self)
        board.take_in(self._talk, is_welcome=may_come_in(peer))

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
