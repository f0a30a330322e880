"""At which port does a server listen to IPv4 and IPv6, if the system picks it?

asyncio asks for a port for each family, and gets two different ones; only one can be published.  Here one is found
that is free for both, and kept until the server listens at it.
"""

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from zkfleet.endpoints import Endpoint, is_wildcard
from zkfleet.errors import Unavailable
from zkfleet.spelling import get_logger

logger = get_logger(__name__)
# A port that is free for IPv4 is taken for IPv6 now and then.
TRIES = 100
HINTS = {
    errno.EADDRINUSE: "end the process that listens there, such as another server of this configuration,"
    " or choose another port; `ss -ltnp` shows it",
    errno.EADDRNOTAVAIL: "this machine has no such address: `ip address` shows those that it has",
    errno.EACCES: "choose a port above 1023, or a folder where this user may write",
    errno.ENOENT: "the folder of the socket must exist",
}
IPV4_EVERYWHERE, IPV6_EVERYWHERE = "0.0.0.0", "::"  # noqa: S104  bound on purpose


class CannotListen(Unavailable, OSError):
    """It is not possible to listen at an address."""


@contextmanager
def listened_at(asked: tuple[str, int] | str) -> Iterator[tuple[str, int] | str]:
    """Give the address at which asyncio is to listen, and keep its port meanwhile.

    Args:
        asked: a Unix path, or host and port. A host that is blank or `::` means both IPv4 and IPv6, at one port.

    Raises:
        CannotListen: asyncio could not listen there, or no port is free for both.
    """
    try:
        with _found(asked) as address:
            yield address
    except OSError as exc:
        raise _refused(asked, exc) from exc


def _refused(asked: tuple[str, int] | str, exc: OSError) -> CannotListen:
    where = asked if isinstance(asked, str) else str(Endpoint(*asked))
    if isinstance(exc, socket.gaierror):
        return CannotListen(
            f"{where}: {exc.strerror}", hint="is the name of the host right? `getent hosts NAME` asks for it"
        )
    said = str(exc.strerror or exc)
    # asyncio repeats the address, and says why behind it.
    return CannotListen(
        f"{where}: {said.rpartition('): ')[2]}", hint=HINTS.get(exc.errno or 0, "choose another address")
    )


@contextmanager
def _found(asked: tuple[str, int] | str) -> Iterator[tuple[str, int] | str]:
    if isinstance(asked, str) or not is_wildcard(asked[0]) or "." in asked[0]:
        yield asked
        return
    with ExitStack() as kept:
        yield "", asked[1] or _keep_port(kept)


def _keep_port(kept: ExitStack) -> int:
    """Return a port that is free for all that this machine speaks, and keep it."""
    for _ in range(TRIES):
        with ExitStack() as undo:
            port = _bind(socket.AF_INET, IPV4_EVERYWHERE, 0, undo)
            try:
                _bind(socket.AF_INET6, IPV6_EVERYWHERE, port, undo)
            except OSError as exc:
                if exc.errno == errno.EADDRINUSE:
                    continue
                logger.debug("ipv6_not_used reason=%s", exc)  # this machine does not speak it
            kept.push(undo.pop_all())
            return port
    raise OSError(errno.EADDRINUSE, "no port is free for both IPv4 and IPv6")


def _bind(family: socket.AddressFamily, host: str, port: int, undo: ExitStack) -> int:
    one = undo.enter_context(socket.socket(family))
    # With it, whoever listens later at the same port may do so as well, as asyncio has it.
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    one.bind((host, port))
    bound: int = one.getsockname()[1]
    return bound
