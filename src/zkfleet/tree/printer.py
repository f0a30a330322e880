"""How is a tree written so that it reads back as the same tree?

The canonical text: two spaces a level; of each node first its properties, then
property links, then node links, then children, each kind in the order of the
names.  What the short forms cannot say is written with quoted names, so every
tree has a text.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from zkfleet import paths
from zkfleet.errors import BadPath
from zkfleet.tree.links import split_property_link
from zkfleet.tree.model import BYTES, NODE_LINK, PROPERTY_LINK, Node, bytes_of

_PLAIN_NODE = re.compile(r"[^\s'\"#:](?:[^\s]*[^\s:])?\Z")
_PLAIN_NAME = re.compile(r"[^\s='\"#/](?:(?!->)[^\s=])*\Z")
_PLAIN_TARGET = re.compile(r"[^\s'\"#]\S*\Z")
_PLAIN_TYPE = re.compile(r"[^\s#](?:[^\n\r]*[^\s])?\Z")
_INDENT = "  "


def render(root: Node, name: str | None = None) -> str:
    """Return the text of a tree.

    Args:
        root: the unnamed root, of which the children are written; its own
            properties, for which the format has no place, as comments.
        name: write the root itself too, as a node of this name.
    """
    lines: list[str] = []
    level = 0
    if name is not None:
        lines += _head(name, root, 0)
        level = 1
    else:
        lines += (f"# {line}" for line in lines_of(root.properties))
    waiting = [(level, child, root.children[child]) for child in sorted(root.children, reverse=True)]
    while waiting:
        level, child_name, node = waiting.pop()
        lines += _head(child_name, node, level)
        waiting += [(level + 1, child, node.children[child]) for child in sorted(node.children, reverse=True)]
    return "".join(f"{line}\n" for line in lines)


def _head(name: str, node: Node, level: int) -> Iterator[str]:
    """Yield a node's own lines."""
    indent = _INDENT * level
    line = f"{indent}/{name if _PLAIN_NODE.match(name) and name.isprintable() else repr(name)}"
    properties = node.properties
    kind = properties.get("type")
    short = isinstance(kind, str) and _short_type(kind) and "type" + PROPERTY_LINK not in properties
    yield f"{line} : {kind}" if short else line
    listed = (_item(key, properties) for key in properties if not (short and key == "type"))
    for _, text in sorted(listed):
        yield f"{indent}{_INDENT}{text}"


def lines_of(properties: Mapping[str, Any]) -> Iterator[str]:
    """Yield properties as a tree text has them, without indentation."""
    for _, text in sorted(_item(key, properties) for key in properties):
        yield text


def _short_type(kind: str) -> bool:
    return bool(_PLAIN_TYPE.match(kind)) and not re.search(r"\s#", kind) and kind.isprintable()


def _item(key: str, properties: Mapping[str, Any]) -> tuple[tuple[int, str], str]:
    """Return where a property stands among its siblings, and its line."""
    value = properties[key]
    if key.endswith(PROPERTY_LINK) and (line := _property_link(key.removesuffix(PROPERTY_LINK), value, properties)):
        return (1, key), line
    if key.endswith(NODE_LINK) and (line := _node_link(key.removesuffix(NODE_LINK), value)):
        return (2, key), line
    return (0, key), f"{_name(key)} = {_literal(key, value)}"


def _name(name: str) -> str:
    return name if _PLAIN_NAME.match(name) and name.isprintable() else repr(name)


def _target(path: str) -> str:
    # An `=` alone would be read as zc.zk wrote property links.
    return path if _PLAIN_TARGET.match(path) and path.isprintable() and path != "=" else repr(path)


def _is_path(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(paths.check_link(value))
    except BadPath:
        return False


def _node_link(name: str, value: object) -> str | None:
    return f"{_name(name)} -> {_target(value)}" if isinstance(value, str) and _is_path(value) else None


def _property_link(name: str, value: object, properties: Mapping[str, Any]) -> str | None:
    if not isinstance(value, str) or name in properties:
        return None
    path, other = split_property_link(value)
    if not _is_path(path) or f"{path} {other}".strip() != value:
        return None
    return f"{_name(name)} => {_target(path)}" + (f" {_target(other)}" if other else "")


def _literal(key: str, value: Any) -> str:
    if key == BYTES and (data := bytes_of(value)) is not None and repr(data) == value:
        return str(value)
    return _spell(value)


def _spell(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_spell(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_spell, value)) + "]"
    return repr(value)
