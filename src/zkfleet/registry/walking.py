"""How is a subtree gone through, or removed?"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from zkfleet import paths
from zkfleet.errors import AccessDenied, BadPath, NodeNotFound, StalePlan
from zkfleet.registry import applying
from zkfleet.registry.reads import Batch, GetChildren, GetData, Reading, Unreadable, Znode
from zkfleet.registry.subtree import read_subtree
from zkfleet.tree import Plan
from zkfleet.tree.plan import Delete

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zkfleet.registry.registry import Registry

TRIES = 5


def _look(path: str) -> Reading[tuple[Znode | None, list[str]]]:
    """Read a node and the sorted names of its children; None if it is not there."""
    answer = yield Batch((GetData(path), GetChildren(path)))
    data, names = answer.replies
    if Unreadable.REFUSED in (data, names):
        raise AccessDenied(path, "read")
    if not isinstance(data, Znode) or not isinstance(names, tuple):
        return None, []
    return data, sorted(map(str, names))


def is_ephemeral(registry: "Registry", path: str) -> bool:
    """Tell whether a node is ephemeral; see `Registry.is_ephemeral`."""
    real = registry.resolve(path)
    znode, _ = registry.read(lambda: _look(real))
    if znode is None:
        raise NodeNotFound(path)
    return znode.stat.ephemeral_owner != 0


def walk(
    registry: "Registry", path: str, *, ephemeral: bool, children: bool
) -> Iterator[str] | Iterator[tuple[str, list[str]]]:
    """Go through a subtree; see `Registry.walk`.

    Each node is read when its turn comes, so changes made on the way are seen.
    """
    waiting = [registry.resolve(path)]
    while waiting:
        here = waiting.pop()
        znode, names = registry.read(partial(_look, here))
        if znode is None or (znode.stat.ephemeral_owner and not ephemeral):
            continue
        yield (here, names) if children else here
        if not children:
            # What the caller did to this node meanwhile counts.
            _, names = registry.read(partial(_look, here))
        waiting += [paths.join(here, name) for name in reversed(names)]


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a recursive deletion did, or would do.

    Attributes:
        deleted: paths, children first.
        held: paths that were kept, with the reason.
        ephemeral: those of the deleted ones that a live session had; a
            registration comes back.
    """

    deleted: tuple[str, ...]
    held: tuple[tuple[str, str], ...]
    ephemeral: tuple[str, ...] = ()


def delete_recursive(registry: "Registry", path: str, *, dry_run: bool, force: bool) -> Deleted:
    """Remove a subtree; see `Registry.delete_recursive`."""
    if paths.check(path) == "/":
        raise BadPath("/ belongs to ZooKeeper", hint="name a node of yours")
    registry.session.check_not_system(path)
    deleted: list[str] = []
    ephemeral: set[str] = set()
    held: dict[str, str] = {}
    born: int | None = None
    for last in [False] * (TRIES - 1) + [True]:
        znodes = registry.read(lambda: read_subtree([path])).only_readable()
        if path not in znodes:
            if deleted:
                held = {}  # somebody else deleted the rest
                break
            raise NodeNotFound(path)
        if born not in (None, znodes[path].stat.czxid):
            # What is there now is not what we were asked to delete.
            raise StalePlan([path], applied=len(deleted))
        born = znodes[path].stat.czxid
        ephemeral |= {where for where, znode in znodes.items() if znode.stat.ephemeral_owner}
        held = {} if force else held_by_ephemerals(znodes)
        steps = [
            Delete(where, znode.data, znode.stat.version, znode.stat.czxid)
            for where, znode in sorted(znodes.items(), reverse=True)
            if where not in held
        ]
        try:
            if not dry_run:
                applying.apply(registry.writer, Plan(path, tuple(steps)))
        except StalePlan as exc:
            sent = [step.path for run in applying.pack(steps, path, registry.session.safe_packet) for step in run]
            deleted += sent[: exc.applied]
            if last:
                raise StalePlan(exc.paths, applied=len(deleted)) from exc
            continue
        deleted += [step.path for step in steps]
        break
    return Deleted(tuple(deleted), tuple(sorted(held.items())), tuple(where for where in deleted if where in ephemeral))


def held_by_ephemerals(znodes: "Mapping[str, Znode]") -> dict[str, str]:
    """Return the znodes that are ephemeral or hold one, with the reason in words."""
    held: dict[str, str] = {}
    for path, znode in znodes.items():
        if znode.stat.ephemeral_owner:
            held[path] = "it is ephemeral"
            for above in paths.ancestors(path):
                if above not in znodes:
                    break
                held.setdefault(above, f"{path} below it is ephemeral")
    return held
