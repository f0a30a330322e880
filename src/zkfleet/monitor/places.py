"""Where is a monitor to listen, and may it?

Pure text and choice.  A place is a Unix path or a TCP endpoint.  What others
than this user can reach needs a secret, or somebody who says that it needs
none.
"""

from dataclasses import dataclass

from zkfleet.endpoints import Endpoint, is_loopback, parse_endpoint
from zkfleet.errors import BadAddress, BadInput

LOOPBACK = "127.0.0.1"
LONGEST_PATH = 107
"""Bytes; what Linux takes for a Unix socket."""


@dataclass(frozen=True, slots=True)
class UnixPath:
    """A Unix socket, at a path."""

    path: str

    def __str__(self) -> str:
        return self.path


Place = UnixPath | Endpoint
Address = int | str | tuple[str, int | None]


def place(address: Address) -> Place:
    """Return where an address leads.

    Args:
        address: a port of the loopback address; `host:port` or a pair of them; else a path.

    Raises:
        BadAddress: it is none.
    """
    if isinstance(address, int) and not isinstance(address, bool):
        return parse_endpoint((LOOPBACK, address))
    if isinstance(address, tuple):
        return parse_endpoint((address[0], address[1] or 0))
    if not isinstance(address, str) or not address.strip():
        raise BadAddress(f"not an address: {address!r}", hint="a port, host:port, a pair of them, or a Unix path")
    text = address.strip()
    if text.isascii() and text.isdigit():
        return parse_endpoint((LOOPBACK, int(text)))
    _, colon, port = text.rpartition(":")
    if colon and "/" not in text and port.isascii() and port.isdigit():
        return parse_endpoint(text)
    if len(text.encode()) > LONGEST_PATH or "\0" in text:
        raise BadAddress(f"not a path for a socket: {text!r}", hint=f"at most {LONGEST_PATH} bytes, none of them NUL")
    return UnixPath(text)


def check_guarded(where: Place, *, token: str, has_client_certificates: bool, insecure: bool) -> None:
    """Pass a place that is guarded well enough.

    Raises:
        BadInput: others than this user reach it, and nobody asks who they are.
    """
    check_token(token)
    if isinstance(where, UnixPath) or is_loopback(where.host) or token or has_client_certificates or insecure:
        return
    raise BadInput(
        f"a monitor at {where} answers everybody who reaches it",
        hint="give a token=, tls= with authorities for client certificates, or insecure=True; or listen on loopback",
    )


def check_token(token: str) -> None:
    """Pass a token that clients can send.

    Raises:
        BadInput: it is more than a word.
    """
    if any(mark.isspace() for mark in token) or not token.isprintable():
        raise BadInput("a token is one word", hint="leave out blanks and control characters")
