"""What does the kernel do about a silent connection, and what does it know of one?

TCP's own means, by Linux's names; another system has some of them, and what it
has not is left out.
"""

import contextlib
import fcntl
import socket
import struct
import termios
from dataclasses import dataclass
from typing import Any

# Where `tcpi_bytes_acked` stands in Linux's `struct tcp_info`, and its end.
BYTES_ACKED, END = 120, 128


def keep_alive(one: socket.socket | None, *, idle: float, every: float, times: int, at_most: float) -> None:
    """Have a connection ended whose other side is gone, or takes no data.

    Args:
        one: a socket; of TCP, or nothing is done.
        idle: seconds of silence before the other kernel is asked for a sign of life.
        every: seconds between such questions.
        times: so many without an answer end it.
        at_most: seconds that data may wait to be taken.
    """
    if one is None or one.family not in (socket.AF_INET, socket.AF_INET6):
        return
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {
        "TCP_KEEPIDLE": max(1, round(idle)),
        "TCP_KEEPINTVL": max(1, round(every)),
        "TCP_KEEPCNT": times,
        "TCP_USER_TIMEOUT": round(at_most * 1000),
    }
    for name, value in options.items():
        if hasattr(socket, name):
            one.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


@dataclass(frozen=True, slots=True)
class Sent:
    """How far what was written has got.

    Attributes:
        waiting: bytes that the other side has not taken, here and in the kernel.
        taken: a number that grows when it takes some.
    """

    waiting: int = 0
    taken: int = 0


def sent(transport: Any) -> Sent:
    """Return how far what was written to a transport has got."""
    waiting: int = transport.get_write_buffer_size()
    one = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        waiting += struct.unpack("i", fcntl.ioctl(one.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
    try:
        known = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, END)
        return Sent(waiting, struct.unpack_from("=Q", known, BYTES_ACKED)[0])
    except (OSError, AttributeError, struct.error):
        return Sent(waiting, -waiting)  # grows at least while nothing is added
