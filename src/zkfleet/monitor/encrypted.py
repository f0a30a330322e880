"""Connections over TLS, for the asyncio door: the encryption is asyncio's."""

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass
from typing import cast

from zkfleet.errors import BadInput
from zkfleet.monitor.listening import leave_to_parent
from zkfleet.monitor.talking import Switchboard, Talk

PIECE = 64 << 10


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in PEM form for the server's side of TLS.

    Attributes:
        certificate: the server's, with its chain.
        key: its key; None if it is in the same file.
        authorities: whose client certificates are accepted, and then one is needed; None to ask for none.
    """

    certificate: str
    key: str | None = None
    authorities: str | None = None

    def context(self) -> ssl.SSLContext:
        """Return what a server uses.

        Raises:
            BadInput: a file cannot be read, or they do not belong together.
        """
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            made.load_cert_chain(self.certificate, self.key)
            if self.authorities:
                made.load_verify_locations(self.authorities)
                made.verify_mode = ssl.CERT_REQUIRED
        except OSError as exc:  # SSLError is one
            raise BadInput(f"no TLS with {self.certificate}: {exc}", hint="name PEM files that fit together") from exc
        return made


class Encrypted(asyncio.Protocol):
    """One connection over TLS; a `Wire`.

    What waits to be sent waits here: what asyncio has encrypted it does not count.
    """

    is_local = False

    def __init__(self, board: Switchboard) -> None:
        self.unread = 0
        self._board = board
        self._left: deque[memoryview] = deque()
        self._is_full = self._closes = self._has_ended = False
        self._talk: Talk | None = None
        self._transport: asyncio.Transport

    # -- what the talk orders

    def write(self, data: bytes) -> None:
        """Write what there is room for, and the rest when there is room; nothing to a client that has ended."""
        if self._has_ended:
            return
        self._left.extend(memoryview(data)[begin : begin + PIECE] for begin in range(0, len(data), PIECE))
        self.unread += len(data)
        self._write_on()

    def close(self) -> None:
        """Close when all is written."""
        self._closes = True
        if not self._left:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        self._left.clear()
        self.unread = 0
        self._transport.abort()

    def leave_to_parent(self) -> None:
        """Close it here alone."""
        leave_to_parent(self._transport.get_extra_info("socket").fileno())

    def pause(self) -> None:
        """Read nothing."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def _write_on(self) -> None:
        while self._left and not self._is_full:
            piece = self._left.popleft()
            self.unread -= len(piece)
            self._transport.write(piece)

    # -- what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: the handshake is over."""
        self._transport = cast(asyncio.Transport, transport)
        self._talk = Talk(self._board, self)
        self._board.take_in(self._talk)

    def data_received(self, data: bytes) -> None:
        """Have it acted on."""
        assert self._talk is not None
        if not self._closes:
            self._talk.received(data)

    def eof_received(self) -> None:
        """End with the client: TLS has no half-open connections in asyncio, which would log each piece that is left."""
        self._has_ended = True
        self.unread = 0
        self._left.clear()

    def pause_writing(self) -> None:
        """There is no more room."""
        self._is_full = True

    def resume_writing(self) -> None:
        """There is room again."""
        assert self._talk is not None
        self._is_full = False
        self._talk.progressed()
        self._write_on()
        if not self._left and self._closes:
            self._transport.close()
        elif not self._left:
            self._talk.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._talk is not None:
            self._talk.lost()
