"""The default door: a thread with an asyncio loop of its own.

It answers whatever the application runs, and when all of its threads are busy.
"""

import asyncio
import contextlib
import socket
import ssl
import threading

from zkfleet.errors import WaitTimedOut
from zkfleet.monitor.aio import Door, LoopClock
from zkfleet.monitor.running import NAME, Running
from zkfleet.monitor.talking import Speak, Switchboard
from zkfleet.spelling import get_logger

logger = get_logger(__name__)

PATIENCE = 10.0


class Thread:
    """A monitor's thread; `close` may be called from any other one.

    Args:
        listener: what listens.
        running: what runs the commands.
        speak: which protocol is spoken.
        tls: the server's side of encrypted connections, or None.
    """

    def __init__(
        self, listener: socket.socket, running: Running, speak: Speak, tls: ssl.SSLContext | None = None
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self.board = Switchboard(running, LoopClock(self._loop), speak)
        self._door = Door(self._loop, listener, self.board, tls)
        self.listen_at, self.leave_to_parent = self._door.listen_at, self._door.leave_to_parent
        self._thread = threading.Thread(target=self._run, name=NAME, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Break all connections and end the thread.

        Raises:
            WaitTimedOut: a command that is said not to block does.
        """
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is self._thread:
            return  # a command closes its own monitor: the thread ends after it
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            raise WaitTimedOut(f"a monitor is still busy after {PATIENCE:g} s: it ends when its command does")

    def _run(self) -> None:
        self._door.open()
        self._loop.run_forever()
        self._door.close()
        # Whatever was closed or cancelled is told so in the next round.
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()


def in_thread(listener: socket.socket, running: Running, speak: Speak, tls: ssl.SSLContext | None) -> Thread:
    """Open a monitor on a thread of its own; this is an `Opener`."""
    return Thread(listener, running, speak, tls)
