"""Where does a path lead, and where does a property come from?

Pure functions over a look-up: `lookup(path)` returns the properties of the
znode at a real path, or None if there is none.  They consult as few znodes as
the answer rests on, and nothing that a look-up raises is caught, so a caller
may find out by their questions what must be read.

A node that is there shadows a link of the same name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zkfleet import paths
from zkfleet.errors import BadPath, LinkLoop, NodeNotFound
from zkfleet.tree.model import NODE_LINK, PROPERTY_LINK

Lookup = Callable[[str], Mapping[str, Any] | None]


def resolve(path: str, lookup: Lookup) -> str:
    """Return the real path that `path` leads to.

    A relative link starts at the node that holds it.

    Raises:
        NodeNotFound: it leads nowhere; `missing` is the first node that is not there.
        LinkLoop: its links lead back to one of them.
    """
    return _resolve(path, lookup, ())


def _resolve(path: str, lookup: Lookup, followed: tuple[str, ...]) -> str:
    if lookup(path) is not None:
        return path
    if path == "/":
        raise NodeNotFound(path)
    parent, name = paths.split(path)
    try:
        parent = _resolve(parent, lookup, followed)
    except NodeNotFound as exc:
        raise NodeNotFound(path, exc.missing) from None
    child = paths.join(parent, name)
    if child != path and lookup(child) is not None:
        return child
    target = (lookup(parent) or {}).get(name + NODE_LINK)
    if not isinstance(target, str):
        raise NodeNotFound(path, child)
    if child in followed:
        raise LinkLoop((*followed[followed.index(child) :], child))
    try:
        return _resolve(_target(target, parent, child), lookup, (*followed, child))
    except NodeNotFound as exc:
        raise NodeNotFound(path, exc.missing) from None


def _target(target: str, base: str, link: str) -> str:
    try:
        return paths.normalise(target, base)
    except BadPath as exc:
        raise NodeNotFound(link, target) from exc


@dataclass(frozen=True, slots=True)
class Found:
    """The value of a property, and the way to it.

    Attributes:
        value: the value.
        chain: `(path, property)` pairs from the node asked to the one that
            holds the value.
    """

    value: Any
    chain: tuple[tuple[str, str], ...]


def property_value(path: str, name: str, lookup: Lookup) -> Found:
    """Return a property's value, over property links if need be.

    Args:
        path: the real path of the node.
        name: of the property, without the arrow.
        lookup: as for `resolve`.

    Raises:
        NodeNotFound: a link leads to no node, or to one without the property.
        LinkLoop: the links lead back to one of them.
    """
    chain: list[tuple[str, str]] = []
    while True:
        if (path, name) in chain:
            loop = [*chain[chain.index((path, name)) :], (path, name)]
            raise LinkLoop([f"{at} {what}" for at, what in loop])
        chain.append((path, name))
        properties = lookup(path)
        link = (properties or {}).get(name + PROPERTY_LINK)
        if not isinstance(link, str):
            if properties is None or name not in properties:
                raise NodeNotFound(f"{chain[0][0]} {chain[0][1]}", f"{path} {name}")
            return Found(properties[name], tuple(chain))
        target, other = split_property_link(link)
        path, name = resolve(_target(target, path, f"{path} {name}"), lookup), other or name


def split_property_link(link: str) -> tuple[str, str]:
    """Return the path and the property name in a property link, "" if it names none."""
    target, _, name = link.strip().partition(" ")
    return target, name.strip()


def resolved_properties(path: str, lookup: Lookup) -> dict[str, Any]:
    """Return a node's properties and, for every property link, the linked value.

    Raises:
        NodeNotFound, LinkLoop: a link leads nowhere.
    """
    raw = dict(lookup(path) or {})
    names = [name.removesuffix(PROPERTY_LINK) for name in raw if name.endswith(PROPERTY_LINK)]
    return raw | {name: property_value(path, name, lookup).value for name in names}
