"""What is there, at a node and everywhere below it?

One reading for export, plans, deletion, the doctor and views of trees.  It
goes down level by level, each level in one batch if it is light: first the data,
then the children's names of those nodes that have any.  A node that disappears on the
way is left out, so a tree that changes meanwhile may be seen at two moments.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from zkfleet import paths
from zkfleet.errors import AccessDenied
from zkfleet.registry.portions import Portions, next_portion
from zkfleet.registry.readings import Snapshot, arrive
from zkfleet.registry.reads import (
    GetChildren,
    GetData,
    Mode,
    Progress,
    Read,
    Reading,
    Reply,
    Unreadable,
    Watch,
    Znode,
)
from zkfleet.registry.session import SYSTEM
from zkfleet.tree import Node, decode


@dataclass(frozen=True, slots=True)
class Subtree:
    """Znodes as they were read.

    Attributes:
        znodes: by real path, parents before children.
        refused: nodes that we may not read, and know nothing of what is below.
    """

    znodes: Mapping[str, Znode]
    refused: tuple[str, ...] = ()

    def only_readable(self) -> Mapping[str, Znode]:
        """Return the znodes if all could be read.

        Raises:
            AccessDenied: one could not.
        """
        if self.refused:
            raise AccessDenied(self.refused[0], "read")
        return self.znodes


def read_subtree(tops: Iterable[str], progress: Progress | None = None) -> Reading[Subtree]:
    """Read some nodes and all below them; `/zookeeper` below the root is left out.

    Args:
        tops: real paths.
        progress: called with how many nodes were read, and how many are known of.
    """
    level = [path for path in tops if path != SYSTEM]
    data, lists = Portions(), Portions()
    found: dict[str, Znode] = {}
    refused: list[str] = []
    while level:
        parents = []
        for path, reply in (yield from _in_portions([GetData(path) for path in level], data, progress, len(found))):
            if isinstance(reply, Znode):
                found[path] = reply
                if reply.stat.num_children:
                    parents.append(path)
            elif reply is Unreadable.REFUSED:
                refused.append(path)
        listed = yield from _in_portions([GetChildren(path) for path in parents], lists)
        level = [path for parent, names in listed for path in _below(parent, names)]
    return Subtree(found, tuple(refused))


def _in_portions(
    reads: Sequence[Read], portions: Portions, progress: Progress | None = None, before: int = 0
) -> Reading[list[tuple[str, Reply]]]:
    """Read as many at a time as a server bears, and tell a reader how far it is."""
    found: list[tuple[str, Reply]] = []
    while len(found) < len(reads):
        rest = reads[len(found) :]
        answer = yield from next_portion(rest, portions)
        found += [(read.path, reply) for read, reply in zip(rest, answer.replies, strict=False)]
        if progress is not None:
            progress(before + len(found), before + len(reads))
    return found


def _below(parent: str, names: Reply) -> Iterator[str]:
    if isinstance(names, tuple) and not isinstance(names, Znode):
        prefix = "" if parent == "/" else parent
        yield from (path for name in sorted(names) if (path := f"{prefix}/{name}") != SYSTEM)


def follow_subtree(path: str) -> Reading[Snapshot[Subtree]]:
    """Read a node and all below it, with one watch for the whole."""
    place = yield from arrive(path, lambda _: (), lambda target: (Watch(target, Mode.RECURSIVE),))
    if place.real_path is None:
        return Snapshot(Subtree({}), None, place.zxid, place.consulted, None, place.problem)
    subtree = yield from read_subtree([place.real_path])
    mark = {where: (znode.stat.czxid, znode.stat.mzxid) for where, znode in subtree.znodes.items()}
    return Snapshot(subtree, place.real_path, place.zxid, place.consulted, mark, whole=False)


def tree_of(znodes: Mapping[str, Znode], root: str, *, ephemeral: bool) -> Node:
    """Return the node at `root` with all that was read below it."""
    nodes: dict[str, Node] = {}
    for path, znode in znodes.items():
        if znode.stat.ephemeral_owner and not ephemeral:
            continue
        node = nodes[path] = Node(decode(znode.data), {})
        parent, name = paths.split(path)
        if path != root and parent in nodes:
            nodes[parent].children[name] = node  # type: ignore[index]
    return nodes.get(root, Node())
