"""Does a name that is published instead of the host lead anywhere?

A misspelled interface is taken for the name of a host, and nobody reaches it.  Names are looked up on a thread of
their own, because a name server may be slow, and once a process.  It is no error: clients may have another name server.
"""

import socket
import threading
from collections.abc import Callable, Iterable

from zkfleet.endpoints import Endpoint, is_name
from zkfleet.spelling import get_logger

logger = get_logger(__name__)
_looked_up: set[str] = set()


def look_up(published: Iterable[Endpoint], given: Endpoint, tell: Callable[[str, str], object] | None = None) -> None:
    """Begin to look up the names that are published and are not the host that was given.

    Args:
        published: what is registered.
        given: the address of the server.
        tell: is called on another thread with a name that has no address, and why; None to log it.
    """
    for name in {one.host for one in published if one.host != given.host and is_name(one.host)} - _looked_up:
        _looked_up.add(name)
        thread = threading.Thread(target=_look_up, args=(name, tell or _log), name="zkfleet names", daemon=True)
        thread.start()


def _look_up(name: str, tell: Callable[[str, str], object]) -> None:
    try:
        socket.getaddrinfo(name, None)
    except (OSError, UnicodeError) as exc:
        tell(name, getattr(exc, "strerror", None) or str(exc))


def _log(name: str, reason: str) -> None:
    logger.warning(
        "advertised_name_unknown name=%s reason=%r: this machine has no interface of that name, and the name has no"
        " address here; clients need one",
        name,
        reason,
    )
