"""What is a door to whoever starts a monitor?

`threads.in_thread`, `aio.in_loop` and `twisted.in_reactor` return openers.
"""

import ssl
from collections.abc import Callable
from socket import socket
from typing import Protocol

from zkfleet.monitor.running import Running
from zkfleet.monitor.talking import Speak, Switchboard


class Opened(Protocol):
    """A door that is open.

    Attributes:
        board: its connections, for its loop's thread alone.
        listen_at: lets clients in at another socket from now on; to be called on the loop's thread.
        leave_to_parent: in a forked child, closes the parent's connections here alone.
    """

    board: Switchboard

    @property
    def listen_at(self) -> Callable[[socket], None]:
        """See above."""

    @property
    def leave_to_parent(self) -> Callable[[], None]:
        """See above."""

    def close(self) -> None:
        """Let nobody in any more, and break all connections."""


Opener = Callable[[socket, Running, Speak, ssl.SSLContext | None], Opened]
"""Opens a door: on what listens, with what runs the commands, in some protocol, encrypted or not."""
