"""The asyncio door: where connections come in, in a loop of ours or of the application.

What is not encrypted is accepted, answered and closed by hand (`plain`), the
rest by asyncio (`encrypted`).
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

from zkfleet.monitor.encrypted import Encrypted
from zkfleet.monitor.listening import SECONDS_WITHOUT_FILES, NoFiles, leave_to_parent, newcomers
from zkfleet.monitor.opening import Opener
from zkfleet.monitor.plain import Plain
from zkfleet.monitor.running import Running
from zkfleet.monitor.talking import Speak, Switchboard
from zkfleet.spelling import get_logger

logger = get_logger(__name__)

SECONDS_FOR_A_HANDSHAKE = 10.0


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
        self._handshakes: dict[asyncio.Task[object], socket.socket] = {}
        self._is_open = False
        self._watched = -1  # the socket's number, which it has no more if others close it

    def open(self) -> None:
        """Let clients in."""
        self._is_open = True
        self._watched = self._listener.fileno()
        self._loop.add_reader(self._watched, self._accept)

    def listen_at(self, listener: socket.socket) -> None:
        """Let clients in there from now on."""
        self._loop.remove_reader(self._watched)
        self._listener = listener
        self.open()

    def close(self) -> None:
        """Let nobody in any more, and break all connections."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._watched)
        for task in self._handshakes:
            task.cancel()
        self._board.close()

    def leave_to_parent(self) -> None:
        """In a forked child: keep no connection of the parent's open."""
        for one in self._handshakes.values():
            leave_to_parent(one.fileno())
        self._board.leave_to_parent()

    def _accept(self) -> None:
        try:
            for one in newcomers(self._listener):
                self._let_in(one)
        except NoFiles:
            self._loop.remove_reader(self._watched)
            self._loop.call_later(SECONDS_WITHOUT_FILES, self._accept_again)

    def _accept_again(self) -> None:
        if self._is_open:
            self.open()

    def _let_in(self, one: socket.socket) -> None:
        if self._tls is None:
            Plain(self._loop, one, self._board).begin()
        elif len(self._handshakes) >= self._board.limits.connections:
            one.close()
        else:
            made = self._loop.connect_accepted_socket(
                lambda: Encrypted(self._board), one, ssl=self._tls, ssl_handshake_timeout=SECONDS_FOR_A_HANDSHAKE
            )
            task = self._loop.create_task(made)
            self._handshakes[task] = one
            task.add_done_callback(self._shaken)

    def _shaken(self, task: "asyncio.Task[object]") -> None:
        del self._handshakes[task]
        if not task.cancelled() and (exc := task.exception()) is not None:
            logger.info("client_refused reason=%s", exc)


class InLoop:
    """A monitor in a loop that somebody else runs; to be closed on the loop's thread.

    Arguments as for `Thread`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        running: Running,
        speak: Speak,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.board = Switchboard(running, LoopClock(loop), speak)
        self._door = Door(loop, listener, self.board, tls)
        self._door.open()
        self.listen_at, self.leave_to_parent = self._door.listen_at, self._door.leave_to_parent

    def close(self) -> None:
        """Let nobody in any more, and break all connections."""
        self._door.close()


def in_loop(loop: asyncio.AbstractEventLoop | None = None) -> Opener:
    """Return what opens a monitor in an asyncio loop, for `start(door=...)`.

    Args:
        loop: the loop, on whose thread the monitor is started and closed; None for the one that runs.
    """
    chosen = loop or asyncio.get_running_loop()
    return lambda listener, running, speak, tls: InLoop(chosen, listener, running, speak, tls)
