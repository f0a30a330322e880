"""TLS without a socket: bytes of the wire in, what they say out, and the other way round.

For doors whose loop has no TLS that takes an `ssl.SSLContext`.
"""

import contextlib
import ssl

PIECE = 64 << 10


class Tunnel:
    """The server's side of one encrypted connection.

    Attributes:
        is_open: the handshake is over, and the client is who it is to be.
        has_ended: the client has said that it sends no more.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.is_open = self.has_ended = False
        self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._arrived, self._leaving, server_side=True)

    def received(self, data: bytes) -> bytes:
        """Take what came, and return what it says; afterwards `leaving` is to be sent.

        Raises:
            SSLError: it is no TLS, or the client is not let in.
        """
        self._arrived.write(data)
        said: list[bytes] = []
        with contextlib.suppress(ssl.SSLWantReadError):
            if not self.is_open:
                self._tls.do_handshake()
                self.is_open = True
            while piece := self._read():
                said.append(piece)
        return b"".join(said)

    def _read(self) -> bytes:
        try:
            piece = self._tls.read(PIECE)
        except ssl.SSLZeroReturnError:
            piece = b""
        self.has_ended = not piece
        return piece

    def sealed(self, data: bytes) -> bytes:
        """Return what is to be sent to say this."""
        for begin in range(0, len(data), PIECE):
            self._tls.write(data[begin : begin + PIECE])
        return self.leaving()

    def closed(self) -> bytes:
        """Return what is to be sent to say that it is the end."""
        # The client may have ended as well, or not: it is told all the same.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        return self.leaving()

    def leaving(self) -> bytes:
        """Return what is to be sent now, and has not been returned before."""
        return self._leaving.read()
