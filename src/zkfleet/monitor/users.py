"""Which thread uses a connection, and where is it?

ZODB does not note that.  But whoever uses a connection has it, or one of its
objects, in a variable of a function that is running: so all threads' frames
are looked through, when it is asked and not before.  No object is loaded by
that, no method of the application is run, and no ZODB comes into a process that
has none.  Before Python 3.13, a call whose variables were looked at keeps what
they were until it ends.
"""

import inspect
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
    # Not imported: somebody may be about to, and would be waited for.
    kind = getattr(sys.modules.get("ZODB.Connection"), "Connection", None)
    depth = 0
    while frame is not None and kind is not None:
        for value in _variables(frame):
            connection = _connection_of(value, kind)
            if connection is not None:
                yield depth, connection
        frame, depth = frame.f_back, depth + 1


def _variables(frame: FrameType) -> list[Any]:
    found = frame.f_locals
    if frame.f_code.co_flags & inspect.CO_OPTIMIZED:  # a function's
        return list(found.values())
    # What `exec` was given, or a class is made of: any mapping, whose methods are the application's.
    return list(dict.values(found)) if issubclass(type(found), dict) else []


def _connection_of(value: Any, connection: type) -> Any:
    """Return a connection, or an object's; none of the application's own methods is run for that."""
    if issubclass(type(value), connection):
        return value
    unwrapped = getattr(sys.modules.get("Acquisition"), "aq_base", None)  # Zope's wrappers have no jar
    value = value if unwrapped is None else unwrapped(value)
    persistent = sys.modules["persistent"].Persistent
    if not issubclass(type(value), persistent):
        return None
    jar = persistent._p_jar.__get__(value)
    return jar if issubclass(type(jar), connection) else None


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
    age = max(0.0, time.time() - (connection.opened or time.time()))  # the clock may have gone back
    info = " ".join(debug_info(connection))
    return f"uses {name or '-'} for {age:.3f} s: loads {loads}, stores {stores}{', ' if info else ''}{info}"


add_note(_note)
