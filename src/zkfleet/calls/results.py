"""May this be returned from a call?

When a call is over its connection belongs to the next one, and so do its objects: who
kept one would read, and write, in somebody else's transaction.
"""

from typing import Any

from persistent import Persistent
from ZODB.Connection import Connection

from zkfleet.calls.references import ref
from zkfleet.calls.searching import describe, find, is_lazy
from zkfleet.errors import EscapedObject


def checked(value: Any, connection: Connection, *, as_reference: bool) -> Any:
    """Return a result, if it may leave its transaction.

    Args:
        value: what the call returned.
        connection: on which it ran.
        as_reference: whether a result that is a persistent object comes back as a reference.

    Raises:
        EscapedObject: it is, or holds, something persistent or lazy.
    """
    found = find(value, "result", attributes=True)
    if found is None:
        return value
    if as_reference and isinstance(value, Persistent):
        if value._p_jar is None:
            connection.add(value)  # it needs a place, and would be stored without one only if something led to it
        return ref(value)
    raise EscapedObject(found.place, describe(found.value), hint=_hint(found.value))


def _hint(value: Any) -> str:
    if is_lazy(value):
        return "make a list of it in the call, or await it there"
    return "return what is needed of it, or a zkfleet.calls.ref() of it"
