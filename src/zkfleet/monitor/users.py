"""Which thread uses a connection, and where is it?

ZODB does not note that.  But whoever uses a connection has it, or one of its
objects, in a variable of a function that is running: so all threads' frames
are looked through, when it is asked and not before.  No object is loaded by
that, and no ZODB into a process that has none.
"""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

from zkfleet.monitor.databases import databases, debug_info
from zkfleet.monitor.stacks import add_note


def users(connections: Iterable[Any]) -> dict[int, int]:
    """Return the number of the thread that uses each connection, by the connection's `id`; those in use are found.

    If several have it, the one that has it nearest to what it does now counts.
    """
    wanted = {id(connection) for connection in connections}
    found: dict[int, tuple[int, int]] = {}
    asking = threading.get_ident()
    for ident, frame in sys._current_frames().items():
        for depth, connection in _held(frame) if ident != asking else ():
            number = id(connection)
            if number in wanted and (number not in found or depth < found[number][0]):
                found[number] = depth, ident
    return {number: ident for number, (_, ident) in found.items()}


def _held(frame: FrameType | None) -> Iterator[tuple[int, Any]]:
    """Yield the connections that a stack leads to, and how many calls further out that is."""
    if "ZODB.Connection" not in sys.modules:
        return
    depth = 0
    while frame is not None:
        for value in list(frame.f_locals.values()):
            connection = _connection_of(value)
            if connection is not None:
                yield depth, connection
        frame, depth = frame.f_back, depth + 1


def _connection_of(value: Any) -> Any:
    from persistent import Persistent
    from ZODB.Connection import Connection

    kind = type(value)
    if issubclass(kind, Connection):
        return value
    # Zope's wrappers are of a class of their own, and have the jar of what is in them.
    if issubclass(kind, Persistent) or kind.__module__ == "Acquisition":
        jar = getattr(value, "_p_jar", None)
        return jar if isinstance(jar, Connection) else None
    return None


def _note(ident: int) -> list[str]:
    """Say which open connections a thread has in its hands, and what it does with each."""
    if ident == threading.get_ident():
        return []  # who asks has only what is asked about
    held = {id(connection): connection for _, connection in _held(sys._current_frames().get(ident))}
    names = {id(database): name for name, database in databases.items()}
    there = [(names.get(id(connection.db())), connection) for connection in held.values() if connection.opened]
    return sorted(_what(name, connection) for name, connection in there if name is not None)


def _what(name: str, connection: Any) -> str:
    loads, stores = connection.getTransferCounts()
    age = time.time() - (connection.opened or time.time())
    info = " ".join(debug_info(connection))
    return f"uses {name or '-'} for {age:.3f} s: loads {loads}, stores {stores}{', ' if info else ''}{info}"


add_note(_note)
