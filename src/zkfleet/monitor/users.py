"""Which thread uses a connection, and where is it?

ZODB does not note that.  But whoever uses a connection has it, or one of its
objects, in a variable of a function that is running: so all threads' frames
are looked through, when it is asked and not before.  Nothing is loaded by that.
"""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

from persistent import Persistent
from ZODB.Connection import Connection

from zkfleet.monitor.databases import databases, is_closed, open_connections
from zkfleet.monitor.stacks import add_note


def users(connections: Iterable[Any]) -> dict[int, int]:
    """Return the number of the thread that uses each connection, by the connection's `id`; those in use are found.

    If several have it, the one that has it nearest to what it does now counts.
    """
    wanted = {id(connection) for connection in connections}
    found: dict[int, tuple[int, int]] = {}
    asking = threading.get_ident()
    for ident, frame in sys._current_frames().items():
        if ident == asking:
            continue
        for depth, number in _held(frame):
            if number in wanted and (number not in found or depth < found[number][0]):
                found[number] = depth, ident
    return {number: ident for number, (_, ident) in found.items()}


def _held(frame: FrameType | None) -> Iterator[tuple[int, int]]:
    """Yield the `id` of each connection that a stack leads to, and how many calls further out that is."""
    depth = 0
    while frame is not None:
        for value in list(frame.f_locals.values()):
            connection = _connection_of(value)
            if connection is not None:
                yield depth, id(connection)
        frame, depth = frame.f_back, depth + 1


def _connection_of(value: Any) -> Any:
    kind = type(value)
    if issubclass(kind, Connection):
        return value
    # Zope's wrappers are of a class of their own, and have the jar of what is in them.
    if issubclass(kind, Persistent) or kind.__module__ == "Acquisition":
        return getattr(value, "_p_jar", None)
    return None


def _note(ident: int) -> list[str]:
    """Say which connections a thread uses, and what it does with each."""
    said = []
    for name, database in sorted(databases.items()):
        if is_closed(database):
            continue
        opened = {id(connection): connection for connection in open_connections(database)}
        for number, user in users(opened.values()).items():
            if user == ident:
                said.append(_what(name, opened[number]))
    return said


def _what(name: str, connection: Any) -> str:
    loads, stores = connection.getTransferCounts()
    age = time.time() - (connection.opened or time.time())
    info = " ".join(map(str, connection.getDebugInfo()))
    return f"uses {name or '-'} for {age:.3f} s: loads {loads}, stores {stores}{', ' if info else ''}{info}"


add_note(_note)
