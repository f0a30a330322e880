"""How do bytes come in, and how are orders carried out?

The sockets of one run of the dev server, all on the thread of its loop.  Bytes
are handed to the core (`dispatch`), and what it orders is written and closed.
Nothing is decided here, but for a client that does not read: what waits for it
is bounded, and so is how long it is waited for.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import cast

from zkfleet.devserver.dispatch import Close, Hold, Order, Send, Server
from zkfleet.spelling import get_logger

logger = get_logger(__name__)

MOST_UNREAD = 32 << 20
SECONDS_FOR_LAST_WORDS = 10.0


class Connections:
    """All connections of one run, by number.

    Args:
        core: what is told of them, and orders.
        clock: seconds, on a clock that only goes forward.

    Attributes:
        transports: of all whose sockets are open, the closed ones with last words among them.
    """

    def __init__(self, core: Server, clock: Callable[[], float]) -> None:
        self.core, self.now = core, clock
        self.transports: set[asyncio.Transport] = set()
        self._by_number: dict[int, Connection] = {}
        self._numbers = 0

    def take_in(self, connection: "Connection") -> int:
        """Take a new connection and return its number."""
        self._numbers += 1
        self._by_number[self._numbers] = connection
        self.transports.add(connection.transport)
        address, port = connection.transport.get_extra_info("peername")[:2]
        self.core.connected(self._numbers, address, port, now=self.now())
        return self._numbers

    def let_go(self, number: int, transport: asyncio.Transport) -> None:
        """Forget a connection that is gone."""
        self.transports.discard(transport)
        if self._by_number.pop(number, None) is not None:
            self.core.lost(number)

    def abort(self) -> None:
        """Break all connections; each is told so in the loop's next round."""
        for transport in list(self.transports):
            transport.abort()

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
            if (connection := self._by_number.get(order.connection)) is None:
                continue
            if isinstance(order, Hold):
                connection.hold()
            else:
                del self._by_number[order.connection]
                _close(connection.transport)

    def _write(self, number: int, data: bytes) -> None:
        if (connection := self._by_number.get(number)) is None:
            return
        transport = connection.transport
        # However much it asked for in one go; what counts is what it left unread before.
        size = transport.get_write_buffer_size()
        transport.write(data)
        if size > MOST_UNREAD:
            address, port = transport.get_extra_info("peername")[:2]
            logger.warning("client_dropped peer=%s:%d reason=it has not read %d bytes", address, port, size)
            del self._by_number[number]
            self.core.lost(number)
            transport.abort()


def _close(transport: asyncio.Transport) -> None:
    transport.close()
    # What it was sent last is worth some patience, but not for ever.
    if transport.get_write_buffer_size():
        asyncio.get_running_loop().call_later(SECONDS_FOR_LAST_WORDS, transport.abort)


class Connection(asyncio.Protocol):
    """One client: bytes in, orders out.

    While it does not read its replies, it may not ask for more: then nothing
    is read from it, and what it had asked for before waits in the core.
    """

    def __init__(self, all_: Connections) -> None:
        self._all = all_
        self._number = 0
        self._on_hold = self._is_full = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.Transport, transport)
        self._number = self._all.take_in(self)

    def data_received(self, data: bytes) -> None:
        """Have it acted on."""
        everyone = self._all
        everyone.carry_out(everyone.core.received_bytes(self._number, data, now=everyone.now()))

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
        everyone = self._all
        everyone.carry_out(everyone.core.go_on(self._number, now=everyone.now()))
        if not (self._on_hold or self._is_full):
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        """Ask for no more: what was written waits to be read."""
        self._is_full = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on: it was read."""
        self._is_full = False
        if self._on_hold:
            self._go_on()
        else:
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; a forked child may have the socket open, too."""
        with contextlib.suppress(OSError):
            self.transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._all.let_go(self._number, self.transport)
