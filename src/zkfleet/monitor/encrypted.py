"""Connections over TLS, for the asyncio door: the encryption and the buffers are asyncio's."""

import asyncio
import logging
import ssl
from dataclasses import dataclass
from typing import cast

from zkfleet.errors import BadInput
from zkfleet.monitor.talking import Switchboard, Talk

logger = logging.getLogger(__name__)


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
    """One connection over TLS; a `Wire`."""

    is_local = False

    def __init__(self, board: Switchboard) -> None:
        self._board = board
        self._talk: Talk | None = None
        self._transport: asyncio.Transport

    @property
    def unread(self) -> int:
        """Bytes that wait to be sent."""
        return self._transport.get_write_buffer_size()

    # -- what the talk orders

    def write(self, data: bytes) -> None:
        """Write, now or later."""
        self._transport.write(data)

    def close(self) -> None:
        """Close when all is written."""
        self._transport.close()

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()

    def leave_to_parent(self) -> None:
        """Nothing: asyncio does not give its sockets away, and this one is closed when the child ends."""

    def pause(self) -> None:
        """Read nothing."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    # -- what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: the handshake is over."""
        self._transport = cast(asyncio.Transport, transport)
        # With no bytes waiting `resume_writing` is the moment when all is read.
        self._transport.set_write_buffer_limits(high=0)
        self._talk = Talk(self._board, self)
        self._board.take_in(self._talk)

    def data_received(self, data: bytes) -> None:
        """Have it acted on."""
        assert self._talk is not None
        self._talk.received(data)

    def eof_received(self) -> None:
        """End with the client: TLS has no half-open connections in asyncio."""

    def resume_writing(self) -> None:
        """All was read."""
        assert self._talk is not None
        self._talk.drained()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if self._talk is not None:
            self._talk.lost()
