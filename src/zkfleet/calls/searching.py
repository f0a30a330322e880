"""Is anything persistent in here, and where?

Arguments and results are looked through before they cross the border of a
transaction: the usual containers, the attributes of plain objects, what bound
methods, partials and functions hold.  Pure, and bounded: `DEPTH` levels are
looked at, so what is buried deeper is not found.
"""

import functools
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterator
from io import IOBase
from types import BuiltinMethodType, FunctionType, MappingProxyType, MemberDescriptorType, MethodType, ModuleType
from typing import Any, NamedTuple

from persistent import Persistent
from ZODB.Connection import Connection
from ZODB.DB import DB

DEPTH = 16
ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray, type, range})
# They hold objects of connections, and may be passed around.
_owners: tuple[type, ...] = (DB, ModuleType, type)
VIEWS: Any = (type({}.keys()), type({}.values()), type({}.items()))
SEQUENCES = (list, tuple, set, frozenset, deque)
# What goes on after its transaction has ended, and then reads objects of a connection that somebody else
# has.  As an argument, an iterator has nothing left to give to a second attempt.
LAZY = (Iterator, AsyncIterator, Coroutine)


def leave_alone(kind: type) -> None:
    """Do not look into things of a class.

    For the promises of an event loop, which lead to the loop and all that it has; the door
    of that loop looks at what they are kept with.
    """
    global _owners
    if kind not in _owners:
        _owners = (*_owners, kind)


class Found(NamedTuple):
    """Something that must not cross the border.

    Attributes:
        place: how it is reached, such as `result['cart'][0]`.
        value: what it is.
    """

    place: str
    value: Any


def find(value: Any, place: str, *, attributes: bool) -> Found | None:
    """Return the first persistent or lazy thing in a value, or None.

    Args:
        value: any.
        place: what to call it.
        attributes: whether to look into those of plain objects, exceptions and the like, too.
    """
    if type(value) in ATOMS:
        return None
    return _Search(attributes).find(value, place, DEPTH)


class _Search:
    """One search; it looks at everything once."""

    def __init__(self, attributes: bool) -> None:
        self._attributes = attributes
        self._seen: set[int] = set()

    def find(self, value: Any, place: str, depth: int) -> Found | None:
        if is_kept_in(value):
            return Found(place, value)
        if not depth or id(value) in self._seen or isinstance(value, _owners):
            return None
        self._seen.add(id(value))
        for where, part in self._parts(value):
            if type(part) not in ATOMS:
                found = self.find(part, place + where, depth - 1)
                if found:
                    return found
        return None

    def _parts(self, value: Any) -> Iterator[tuple[str, Any]]:
        yield from _items(value)
        if self._attributes:
            yield from _attributes_of(value)


def is_kept_in(value: Any) -> bool:
    """Whether a value belongs to a connection, or goes on reading from one."""
    return isinstance(value, (Persistent, Connection)) or is_lazy(value)


def is_lazy(value: Any) -> bool:
    """Whether a value reads what it gives only when it is asked for it, as iterators and keys of BTrees do."""
    return (isinstance(value, LAZY) and not isinstance(value, IOBase)) or type(value).__name__.endswith("TreeItems")


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, VIEWS):
        value = value.mapping
    # To say where atoms are takes longer than all the rest, and nobody asks.
    if isinstance(value, (dict, MappingProxyType)):
        for key, part in value.items():
            if type(part) not in ATOMS:
                yield f"[{_short(key)}]", part
            if type(key) not in ATOMS:
                yield f".keys() {_short(key)}", key
    elif isinstance(value, SEQUENCES):
        for number, part in enumerate(value):
            if type(part) not in ATOMS:
                yield f"[{number}]", part
    elif isinstance(value, (MethodType, BuiltinMethodType)):
        yield ".__self__", value.__self__
    elif isinstance(value, functools.partial):
        yield from ((".func", value.func), (".args", value.args), (".keywords", value.keywords))
    elif isinstance(value, FunctionType):
        yield from _held_by(value)


def _held_by(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f" ({name})", cell.cell_contents
        except ValueError:  # it has no value yet
            continue
    for number, part in enumerate(function.__defaults__ or ()):
        yield f".__defaults__[{number}]", part
    for name, part in (function.__kwdefaults__ or {}).items():
        yield f".__kwdefaults__[{name!r}]", part


def _attributes_of(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, BaseException):
        yield ".args", value.args
    for name, part in (getattr(value, "__dict__", None) or {}).items():
        yield f".{name}", part
    for kind in type(value).__mro__:
        if "__slots__" in kind.__dict__:
            yield from _slots_of(value, kind)


def _slots_of(value: Any, kind: type) -> Iterator[tuple[str, Any]]:
    # The members of the class, not the names in `__slots__`: a private name is mangled, an iterator is used up,
    # a property of a subclass may have the same name, and `__weakref__` and `__dict__` are no members.
    for name, slot in kind.__dict__.items():
        if isinstance(slot, MemberDescriptorType):
            try:
                part = slot.__get__(value)
            except AttributeError:  # it has no value yet
                continue
            yield f".{name}", part


def _short(key: Any) -> str:
    return repr(key) if type(key) in (str, int, bytes) else type(key).__name__


def describe(value: Any) -> str:
    """Say what a thing is that was found, without reading it."""
    kind = type(value)
    return f"a {'lazy' if is_lazy(value) else 'persistent'} {kind.__module__}.{kind.__qualname__}"
