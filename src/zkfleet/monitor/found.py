"""Where are the monitors?

Those of this user on this machine have sockets in the runtime directory; those
of a fleet are in the registry: as nodes of their own, which say that they are
monitors, or in a property `monitor` of a server's node.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zkfleet.monitor.listening import folder

if TYPE_CHECKING:
    from zkfleet.registry import Registry

MONITOR = "monitor"
"""The kind of a monitor's node, and the property of a server's node that leads to its monitor."""
_NAME = re.compile(r"monitor-(\d+)\.sock")


@dataclass(frozen=True, slots=True)
class Found:
    """A monitor, by the registry.

    Attributes:
        path: of the node that says so.
        address: where it listens.
    """

    path: str
    address: str


def of_process(pid: int) -> str:
    """Return the path of the socket that a process of this user has, if it has one.

    Raises:
        BadInput: the runtime directory is not this user's alone.
    """
    return str(folder() / f"monitor-{pid}.sock")


def of_this_user() -> list[str]:
    """Return the paths of all sockets of this user, the smallest process id first; raises as `of_process`."""
    numbers = [int(found[1]) for file in folder().glob("monitor-*.sock") if (found := _NAME.fullmatch(file.name))]
    return [of_process(number) for number in sorted(numbers)]


def below(registry: "Registry", path: str) -> list[Found]:
    """Return the monitors that are registered at or below a path, by the paths of their nodes.

    Raises:
        NodeNotFound, LinkLoop, AccessDenied: the path leads nowhere, or we may not know.
    """
    with contextlib.closing(registry.tree(path)) as tree:
        return found_in(tree)


def found_in(tree: Mapping[str, Mapping[str, Any]]) -> list[Found]:
    """Return the monitors that a tree of nodes tells of, each address once."""
    found: dict[str, Found] = {}
    for path in sorted(tree):
        address = _address(path, tree[path])
        if address:
            found.setdefault(address, Found(path, address))
    return list(found.values())


def _address(path: str, properties: Mapping[str, Any]) -> str:
    if properties.get("kind") == MONITOR:
        return path.rpartition("/")[2]
    said = properties.get(MONITOR)
    return said if isinstance(said, str) else ""
