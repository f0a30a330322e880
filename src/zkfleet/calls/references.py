"""What becomes of a callable and its arguments, so that they can be had on another connection?

A persistent object becomes a `Ref`, the name of its database and its oid;
what holds one (a method, a partial, a list) becomes a `Made`, which is built
again for each attempt.  All else is passed on as it is.  What cannot be found
again, or not by others, is refused before anything is begun.
"""

import functools
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import BuiltinMethodType, MethodType, MethodWrapperType
from typing import Any, NamedTuple

from persistent import Persistent
from ZODB.broken import Broken
from ZODB.Connection import Connection
from ZODB.POSException import POSKeyError
from ZODB.utils import z64

from zkfleet.calls.searching import ATOMS, DEPTH, describe, find, is_lazy
from zkfleet.errors import BadInput, Closed, ObjectGone


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Ref:
    """A persistent object, by its place; any call takes one as an argument, and gets the object.

    Attributes:
        database: the name of its database.
        oid: its object id, 8 bytes.
    """

    database: str
    oid: bytes
    # Known in the process that made it, so that a call on nothing but refs finds its way.
    _home: Any = field(default=None, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return Ref, (self.database, self.oid)


class Made(NamedTuple):
    """What is built anew for each attempt.

    Attributes:
        build: called with the parts.
        parts: refs, other such things, or plain values.
    """

    build: Callable[..., Any]
    parts: tuple[Any, ...]


def ref(value: Any) -> Ref:
    """Return the place of a persistent object.

    Inside of a call a new object must have been given one: `connection.add(value)`.

    Raises:
        BadInput: it is not persistent, has no place in a database yet, or its database is closed.
    """
    if not isinstance(value, Persistent):
        raise BadInput(f"{type(value).__qualname__} objects are not persistent, and have no place to refer to")
    if value._p_jar is None or value._p_oid is None:
        raise _not_committed(value)
    database = value._p_jar.db()
    return Ref(database.database_name, value._p_oid, weakref.ref(database))


class Request:
    """A callable with its arguments, as they are between attempts.

    Args:
        function: what to call.
        args: its positional arguments.
        keywords: its keyword arguments.
        allow_containers: whether containers may hold persistent objects.

    Attributes:
        database: that of the first persistent object, or None if there is none: then the
            callable is a plain one, and needs no connection.

    Raises:
        BadInput: something cannot be found again on another connection.
    """

    __slots__ = ("_args", "_containers", "_function", "_keywords", "_names", "_refs", "database")

    def __init__(
        self,
        function: Any,
        args: Sequence[Any] = (),
        keywords: Mapping[str, Any] | None = None,
        *,
        allow_containers: bool,
    ) -> None:
        self.database: Any = None
        self._containers, self._refs = allow_containers, 0
        self._names: tuple[str, ...] = ()
        self._function = self._kept(function, "the callable", DEPTH)
        self._args: list[Any] = []
        self._keywords: dict[str, Any] = {}
        if args or keywords:
            self._add(args, keywords or {})

    def with_more(self, args: Sequence[Any], keywords: Mapping[str, Any]) -> "Request":
        """Return another one with more arguments; of keywords with one name the new one counts.

        Raises:
            BadInput: something cannot be found again on another connection.
        """
        more = object.__new__(Request)
        for name in Request.__slots__:
            setattr(more, name, getattr(self, name))
        more._add(args, keywords)
        return more

    def _add(self, args: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        new = [self._kept(value, f"argument {n}", DEPTH) for n, value in enumerate(args, len(self._args))]
        named = {name: self._kept(value, f"argument {name!r}", DEPTH) for name, value in keywords.items()}
        self._args, self._keywords = [*self._args, *new], {**self._keywords, **named}
        if self.database is None and self._refs:
            raise BadInput(
                f"nothing says which database {self._refs} of the arguments are in: these refs are of another process",
                hint="pass an object of that database too, such as its root",
            )

    def on(self, connection: Connection) -> tuple[Any, list[Any], dict[str, Any]]:
        """Return the callable and its arguments with the objects of a connection, which may be None if there are none.

        Raises:
            ObjectGone: an object is not in the database, or its class not in this program.
        """
        function, args, keywords = _resolve(self._function, connection), self._args, self._keywords
        if args:
            args = [_resolve(value, connection) for value in args]
        if keywords:
            keywords = {name: _resolve(value, connection) for name, value in keywords.items()}
        return function, args, keywords

    @property
    def name(self) -> str:
        """The name of the callable, as far as it has one."""
        return _name_of(self._function)

    @property
    def databases(self) -> list[Any]:
        """The databases that it is known to need; more may be reached from their objects."""
        there = self.database.databases
        return [there[name] for name in self._names if name in there]

    @property
    def is_closed(self) -> bool:
        """Whether the database was closed meanwhile."""
        return _is_closed(self.database)

    def closed(self) -> Closed:
        """Return the error that says so."""
        return Closed(f"the database {self.database.database_name!r} was closed", hint="open it, and load anew")

    def open_database(self) -> Any:
        """Return the database.

        Raises:
            Closed: it was closed meanwhile.
        """
        if _is_closed(self.database):
            raise self.closed()
        return self.database

    # -- what things become

    def _kept(self, value: Any, place: str, depth: int) -> Any:
        kind = type(value)
        if kind in ATOMS:
            return value
        if kind is MethodType:
            return self._method(value, place, depth)
        if isinstance(value, Persistent):
            return self._placed(value, place)
        if kind is Ref:
            return self._known(value, place)
        if isinstance(value, (BuiltinMethodType, MethodWrapperType)):
            return self._made(value, getattr, (value.__self__, value.__name__), place, depth)
        if isinstance(value, functools.partial):
            return self._made(value, _partial, (value.func, *_flat(value)), place, depth)
        if kind in (list, tuple, dict) and self._containers and depth:
            return self._copied(value, place, depth)
        self._refuse_hidden(value, place)
        return value

    def _placed(self, value: Any, place: str) -> Ref:
        jar, oid = value._p_jar, value._p_oid
        # A new one that was added to a connection has an oid, but no transaction wrote it yet.
        if jar is None or oid is None or (value._p_serial == z64 and value._p_changed is not None):
            raise _not_committed(value, place)
        database = jar.db()
        if database is not self.database:
            self._belongs(database, place)
        return Ref(database.database_name, oid)

    def _known(self, value: Ref, place: str) -> Ref:
        self._refs += 1
        self._needs(value.database)
        home = value._home and value._home()
        if home is not None and home is not self.database:
            self._belongs(home, place)
        return value

    def _belongs(self, database: Any, place: str) -> None:
        """Check that a database is open, and one of those that the call can reach."""
        name = database.database_name
        if _is_closed(database):
            raise BadInput(f"{place} belongs to the database {name!r}, which is closed", hint="open it, and load anew")
        if self.database is None:
            self.database = database
        elif self.database.databases.get(name) is not database:
            raise BadInput(
                f"{place} belongs to the database {name!r}, and the call to {self.database.database_name!r}",
                hint="open both with one `databases` dictionary, as a multi-database, or pass what can be copied",
            )
        self._needs(name)

    def _needs(self, name: str) -> None:
        if name not in self._names:
            self._names = (*self._names, name)

    def _method(self, value: MethodType, place: str, depth: int) -> Any:
        kept = self._kept(value.__self__, place, depth - 1) if depth else value.__self__
        return value if kept is value.__self__ else Made(functools.partial(MethodType, value.__func__), (kept,))

    def _made(self, value: Any, build: Callable[..., Any], parts: tuple[Any, ...], place: str, depth: int) -> Any:
        if not depth:
            raise BadInput(f"{place} is nested too deep", hint="pass a function that is less wrapped")
        new = tuple(self._kept(part, place, depth - 1) for part in parts)
        return Made(build, new) if any(map(_differ, new, parts)) else value

    def _copied(self, value: Any, place: str, depth: int) -> Any:
        if isinstance(value, dict):
            return self._made(value, _dict, (*value.keys(), *value.values()), place, depth)
        return self._made(value, _list if type(value) is list else _tuple, tuple(value), place, depth)

    def _refuse_hidden(self, value: Any, place: str) -> None:
        found = find(value, place, attributes=False)
        if found is None:
            return
        if is_lazy(found.value):
            raise BadInput(
                f"{found.place} is {describe(found.value)}, and is used up by the first attempt", hint="pass a list"
            )
        raise BadInput(
            f"{found.place} is {describe(found.value)}: a call finds objects only if they are arguments themselves",
            hint="pass it as an argument, or as a zkfleet.calls.ref(); lists, tuples and dicts of them are "
            "resolved with Policy(allow_containers=True)",
        )


def _is_closed(database: Any) -> bool:
    # When its closing begins it gets a `close` of its own; at the end it is not even among those that it can reach.
    return "close" in vars(database) or database.databases.get(database.database_name) is not database


def _differ(one: Any, other: Any) -> bool:
    return one is not other


def _not_committed(value: Any, place: str = "it") -> BadInput:
    kind = type(value)
    return BadInput(
        f"{place} is a {kind.__module__}.{kind.__qualname__} that no transaction has stored yet",
        hint="commit it first: another connection cannot see it before",
    )


# -- how things are built again


def _flat(partial: "functools.partial[Any]") -> tuple[Any, ...]:
    return (len(partial.args), *partial.args, *partial.keywords.keys(), *partial.keywords.values())


def _partial(function: Any, count: int, *rest: Any) -> Any:
    return functools.partial(function, *rest[:count], **_dict(*rest[count:]))


def _name_of(function: Any) -> str:
    match function:
        case Made(functools.partial(args=(method,))):
            function = method
        case Made(build, (first, *rest)):
            return str(rest[0]) if build is getattr else _name_of(first)
        case functools.partial(func=first):
            return _name_of(first)
        case Ref():
            return f"object {function.oid.hex()} of database {function.database!r}"
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _list(*items: Any) -> list[Any]:
    return list(items)


def _tuple(*items: Any) -> tuple[Any, ...]:
    return items


def _dict(*keys_and_values: Any) -> dict[Any, Any]:
    half = len(keys_and_values) // 2
    return dict(zip(keys_and_values[:half], keys_and_values[half:], strict=True))


def _resolve(value: Any, connection: Connection) -> Any:
    kind = type(value)
    if kind is Ref:
        return _found(value, connection)
    if kind is Made:
        return value.build(*[_resolve(part, connection) for part in value.parts])
    return value


def _found(ref: Ref, connection: Connection) -> Any:
    try:
        if ref.database != connection.db().database_name:
            connection = connection.get_connection(ref.database)
    except KeyError:
        raise _gone(ref, "there is no database of that name here") from None
    try:
        value = connection.get(ref.oid)
    except POSKeyError:
        raise _gone(ref, "it is not there") from None
    if isinstance(value, Broken):
        kind = type(value)
        raise _gone(
            ref, f"its class {kind.__module__}.{kind.__qualname__} cannot be imported", hint="install what defines it"
        )
    return value


def _gone(
    ref: Ref, reason: str, *, hint: str = "it was deleted, or packed away because nothing led to it"
) -> ObjectGone:
    return ObjectGone(ref.database, ref.oid.hex(), reason, hint=hint)
