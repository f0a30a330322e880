"""What is a node, and how do its properties become a znode's bytes?

A node has properties and children.  Links are properties too: `NAME ->` holds
the path of a node link, `NAME =>` holds `PATH [NAME]` of a property link, and
`type` is what stands behind the colon in text.

A znode's data is a compact JSON object with sorted names, so that equal
properties are equal bytes.  The single property
`string_value` is stored as the bare text, and bytes that are no text are read
as `bytes_value`, a string that spells a Python bytes literal.
"""

import ast
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from zkfleet.errors import BadProperties

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"
NODE_LINK, PROPERTY_LINK = " ->", " =>"
TEXT, BYTES = "string_value", "bytes_value"
_compact = json.JSONEncoder(separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode
_SCALARS = frozenset({str, int, bool, type(None)})


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A node of a tree, without its name.

    Attributes:
        properties: values that JSON can hold, links among them.
        children: nodes by name.
    """

    properties: Mapping[str, Any] = field(default_factory=dict)
    children: Mapping[str, "Node"] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        """Compare as JSON does: True is not 1, and 1 is not 1.0."""
        if not isinstance(other, Node):
            return NotImplemented
        return same(self.properties, other.properties) and dict(self.children) == dict(other.children)

    __hash__ = None  # type: ignore[assignment]

    def as_dict(self) -> dict[str, Any]:
        """Return `{"properties": {...}, "children": {name: ...}}`, as JSON has it."""
        top: dict[str, Any] = {}
        waiting = [(self, top)]
        while waiting:
            node, shown = waiting.pop()
            below: dict[str, dict[str, Any]] = {name: {} for name in sorted(node.children)}
            shown |= {"properties": dict(node.properties), "children": below}
            waiting += [(node.children[name], below[name]) for name in below]
        return top


def same(one: object, other: object) -> bool:
    """Tell whether two values are the same in JSON."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def fault(value: object) -> str | None:
    """Say why JSON cannot hold a value, or None if it can."""
    match value:
        case None | bool() | int():
            return None
        case str():
            return "text with half a surrogate pair" if not _encodable(value) else None
        case float():
            return None if math.isfinite(value) else f"{value} (JSON has no such number)"
        case list() | tuple():
            return next((why for item in value if (why := fault(item))), None)
        case dict():
            keys = next(
                (f"the key {key!r} (JSON has only text there)" for key in value if not isinstance(key, str)), None
            )
            return keys or next((why for item in (*value, *value.values()) if (why := fault(item))), None)
    article = "an" if type(value).__name__[0] in "aeiou" else "a"
    return f"{article} {type(value).__name__}"


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def encode(properties: Mapping[str, Any]) -> bytes:
    """Return the data of a znode with these properties.

    Raises:
        BadProperties: JSON cannot hold one of them, or `string_value` or
            `bytes_value` is not alone or not what its name says.
    """
    if not properties:
        return b"{}"
    # Only what JSON may not hold costs a closer look.
    for name, value in properties.items():
        if type(name) is not str or type(value) not in _SCALARS:
            _check(properties)
            break
    try:
        return _data(properties)
    except UnicodeEncodeError:
        _check(properties)
        raise


def _data(properties: Mapping[str, Any]) -> bytes:
    if len(properties) == 1:
        if TEXT in properties and isinstance(properties[TEXT], str):
            return _bare(properties[TEXT])
        if BYTES in properties:
            return _raw(properties[BYTES])
    return _compact(properties if type(properties) is dict else dict(properties)).encode()


def _check(properties: Mapping[str, Any]) -> None:
    """Raise `BadProperties` for the first property that JSON cannot hold."""
    for name, value in properties.items():
        why = fault(name) if isinstance(name, str) else f"the name {name!r}"
        if why or (why := fault(value)):
            raise BadProperties(
                f"property {name!r}: JSON cannot hold {why}",
                hint="use None, True, False, numbers, text, lists and dictionaries with text keys",
            )


def _bare(text: str) -> bytes:
    data = text.encode()
    # Text that would be read back as something else is stored as JSON.
    if decode(data) != {TEXT: text}:
        return _compact({TEXT: text}).encode()
    return data


def _raw(literal: object) -> bytes:
    data = bytes_of(literal)
    if data is None or decode(data) != {BYTES: literal}:
        return _compact({BYTES: literal}).encode()
    return data


def bytes_of(literal: object) -> bytes | None:
    """Return the bytes that a literal spells, None if it spells none."""
    try:
        data = ast.literal_eval(literal) if isinstance(literal, str) else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return data if isinstance(data, bytes) else None


def decode(data: bytes | None) -> dict[str, Any]:
    """Return the properties in a znode's data; never fails.

    Data that are no JSON object are `string_value`, or `bytes_value` if they
    are no UTF-8 either.
    """
    if not data:
        return {}
    try:
        found = json.loads(data) if data[:1] in b"{ \t\r\n" else None
        if isinstance(found, dict) and fault(found) is None:
            return found
    except (ValueError, RecursionError):
        pass
    try:
        return {TEXT: data.decode()}
    except UnicodeDecodeError:
        return {BYTES: repr(data)}
