"""What may a client send to a ZEO server?

A message is looked at before anything is made of it.  ZEO unpickles what anybody
sends who can connect, with all of Python's built-in functions at hand: one packet
runs a command, another one is a structure whose hash takes years.  What ZEO's
clients really send is plain: values, each written out where it stands.

Called on the server's loop, for every message; `connections` ends the
connection of whoever sent what is refused here.
"""

import io
from collections.abc import Container
from importlib import import_module
from typing import Any

from zodbpickle.pickle import Unpickler

from zkfleet.errors import BadInput

# The number is echoed, and may be anything.
Call = tuple[Any, bool, str, tuple[Any, ...]]

# Bytes of a message: of the greeting, which is `Z5`, `M5` or `ruok`, and of what
# is sent before the client has registered, which is the name of a storage.
GREETING = 64
REGISTRATION = 16 * 1024

# Steps of a pickle.  A call has about fifteen, whatever it stores.
STEPS = 10_000
# Values that are taken from elsewhere in the pickle: each of them at most doubles
# what is there.  ZEO's clients write all of them out.
REPEATS = 8

# The classes that a client's values may be of, besides those that pickles have signs for.
PLAIN: dict[tuple[str, str], type] = {
    (module, kind.__name__): kind for module in ("builtins", "__builtin__") for kind in (set, frozenset, complex)
}
# What Zope looks for in the undo log is one of these, where it is installed.
PREFIX = ("ZopeUndo.Prefix", "Prefix")

# How clients of other makes begin.
OTHERS = {b"\x16\x03": "TLS", b"GET ": "HTTP", b"HEAD": "HTTP", b"POST": "HTTP", b"OPTI": "HTTP", b"PRI ": "HTTP"}

KEEP_ALIVE = -1
LONGEST_NAME = 40

REPEAT = 0
LINE = -1
TWO_LINES = -2
COUNTED_1 = -3
COUNTED_4 = -4


# Signs of pickles, by how long their steps are, or where that stands.
_STEPS = {
    1: b"(.t)N]ae}sulRdb\x81\x85\x86\x87\x88\x89",
    2: b"\x80Kq",
    3: b"M",
    5: b"Jr",
    9: b"G",
    REPEAT: b"hj",
    LINE: b"IFL",
    TWO_LINES: b"c",
    COUNTED_1: b"CU\x8a",
    COUNTED_4: b"BTX",
}


def _by_sign() -> list[int | None]:
    known: list[int | None] = [None] * 256
    for length, signs in _STEPS.items():
        for sign in signs:
            known[sign] = length
    return known


_SIGNS = _by_sign()
_LONGEST_LINE = 80


class _PlainUnpickler(Unpickler):  # type: ignore[misc]  # zodbpickle has no types
    """Makes no object but plain ones."""

    def find_class(self, module: str, name: str) -> type:
        """Return a class that a client may name."""
        if (module, name) == PREFIX:
            # One of its own for each message, which cannot change it for others.
            return type("Prefix", (getattr(import_module(module), name),), {})
        if (module, name) not in PLAIN:
            raise BadInput(f"a message with {module}.{name}, which no client of ZEO sends")
        return PLAIN[module, name]


def unpickle(data: bytes) -> Any:
    """Return what a message says that is a pickle.

    Raises:
        BadInput: no client of ZEO sends that.
    """
    check_pickle(data)
    return _PlainUnpickler(io.BytesIO(data)).load()


def call_of(said: Any, allowed: Container[str]) -> Call:
    """Return the call that a message is; its name is a method's that may be called.

    Raises:
        BadInput: it is none.
    """
    if not isinstance(said, tuple | list) or len(said) != 4:
        raise BadInput("a message that is no call")
    number, is_async, name, arguments = said
    if type(number) is int and number == KEEP_ALIVE:
        return number, False, "", ()
    # Before anything else is done with it: whatever it is, it may not be hashed.
    if type(name) is not str or not isinstance(arguments, tuple | list):
        raise BadInput(f"a call whose name and arguments are of {_kinds(name, arguments)}")
    if name not in allowed:
        raise BadInput(f"a call of {name[:LONGEST_NAME]!r}, which is no method, or is none yet")
    if name == "register" and not all(isinstance(one, str | int | None) for one in arguments):
        raise BadInput(f"a registration whose arguments are of {_kinds(*arguments)}")
    return number, bool(is_async), name, tuple(arguments)


def _kinds(*values: object) -> str:
    return ", ".join(type(value).__name__ for value in values[:8])


def check_pickle(data: bytes) -> None:
    """See that a pickle is one that a client of ZEO may send.

    Raises:
        BadInput: it is none, or it might take very long to be read or hashed.
    """
    at, steps, repeats, end = 0, 0, 0, len(data)
    while at < end and steps <= STEPS:
        sign = data[at]
        length = _SIGNS[sign]
        if length is None:
            raise BadInput(f"a message with the sign 0x{sign:02x}, which no client of ZEO writes")
        steps += 1
        if length > 0:
            at += length
        elif length == COUNTED_1:
            at += 2 + data[at + 1] if at + 1 < end else 2
        elif length == COUNTED_4:
            at += 5 + int.from_bytes(data[at + 1 : at + 5], "little")
        elif length == REPEAT:
            at += 2 if sign == 0x68 else 5
            repeats += 1
        else:
            for _ in range(-length):
                at = _after_line(data, at)
    if steps > STEPS or repeats > REPEATS:
        raise BadInput(f"a message of over {STEPS} values, or with over {REPEATS} that are used again")


def _after_line(data: bytes, at: int) -> int:
    found = data.find(b"\n", at + 1, at + _LONGEST_LINE)
    if found < 0:
        raise BadInput("a message with a name or a number that does not end")
    return found + 1


class Doorway:
    """Cuts what comes in before a client has registered into its messages, none of which may be large.

    Args:
        limits: bytes that messages may have, in their order; the last one holds for all that follow.
    """

    def __init__(self, *limits: int) -> None:
        self._limits = list(limits)
        self._head = b""
        self._left = 0

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what of it belongs to the message that has begun, and what comes after that.

        Raises:
            BadInput: a message begins that is too large, or is none of ZEO's.
        """
        if self._left:
            taken = data[: self._left]
            self._left -= len(taken)
            return taken, data[len(taken) :]
        missing = 4 - len(self._head)
        self._head += data[:missing]
        if len(self._head) == 4:
            self._begin(self._head)
            self._head = b""
        return data[:missing], data[missing:]

    def _begin(self, head: bytes) -> None:
        most = self._limits.pop(0) if len(self._limits) > 1 else self._limits[0]
        size = int.from_bytes(head, "big")
        if not 0 < size <= most:
            spoken = next((name for sign, name in OTHERS.items() if head.startswith(sign)), "")
            if spoken:
                raise BadInput(f"it speaks {spoken}, and this port does not")
            raise BadInput(f"a message that begins with {head!r}: one of {size} bytes, where {most} are the most")
        self._left = size
