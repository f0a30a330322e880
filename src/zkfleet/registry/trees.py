"""How does a text become a part of ZooKeeper's tree, and the other way round?

Parse, read, plan and apply; each of these is somebody else's.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kazoo.exceptions import NoNodeError
from kazoo.protocol.serialization import GetACL

from zkfleet import paths
from zkfleet.errors import BadInput, BadPath
from zkfleet.registry import acls, applying, readings
from zkfleet.registry.reads import Progress, Reading, Znode
from zkfleet.registry.session import Session, mapped
from zkfleet.registry.subtree import Subtree, read_subtree, tree_of
from zkfleet.registry.wire import rooted
from zkfleet.tree import Node, Plan, Seen, make_plan, parse, render
from zkfleet.tree.plan import Create, Delete

if TYPE_CHECKING:
    from zkfleet.registry.registry import Registry

__all__ = ["Progress", "apply_plan", "export_tree", "plan_tree"]


def plan_tree(
    registry: "Registry", text: str, path: str, *, trim: bool | None, acl: acls.Wanted | None, source: str
) -> Plan:
    """Say what importing a text would change; see `Registry.import_tree`."""
    if not isinstance(text, str) or trim not in (None, True, False):
        raise BadInput("a tree is text, and trim is None, True or False")
    wanted = parse(text, source)
    entries = acls.read_acl(acl) if acl is not None else None
    real, subtree = registry.read(lambda: _read_wanted(paths.check(path), wanted))
    for name in wanted.children:
        registry.session.check_not_system(paths.join(real, name))
    current = {where: _seen(znode) for where, znode in subtree.only_readable().items()}
    if entries is not None:
        current = _with_acls(registry.session, current, list(current))
    plan = make_plan(wanted, current, path=real, trim=trim, acl=entries)
    if trim and entries is None:
        # Its inverse must not open what was closed.
        deleted = [step.path for step in plan.steps if isinstance(step, Delete)]
        plan = make_plan(wanted, _with_acls(registry.session, current, deleted), path=real, trim=trim)
    _check_parents(plan, current)
    applying.check_size(plan, registry.session.safe_packet)
    return plan


def _check_parents(plan: Plan, current: Mapping[str, Seen]) -> None:
    for step in plan.steps:
        above = current.get(paths.split(step.path)[0])
        if isinstance(step, Create) and above is not None and above.ephemeral:
            raise BadInput(
                f"{step.path}: the node above it is ephemeral, and ephemeral nodes have no children",
                hint="take it out of the text",
            )


def _read_wanted(path: str, wanted: Node) -> Reading[tuple[str, Subtree]]:
    """Read what is there of the top-level nodes that a text names."""
    real = (yield from readings.resolve(path)).found()
    tops = [paths.join(real, name) for name in sorted(wanted.children)]
    return real, (yield from read_subtree(tops))


def _seen(znode: Znode) -> Seen:
    stat = znode.stat
    ephemeral = stat.ephemeral_owner != 0
    return Seen(znode.data, stat.version, stat.cversion, stat.aversion, stat.czxid, stat.mzxid, ephemeral)


def _with_acls(session: Session, current: Mapping[str, Seen], where: Sequence[str]) -> dict[str, Seen]:
    """Return what was seen with the ACLs of some nodes, which no multiRead brings."""
    replies = session.ask_all([GetACL(rooted(session.client.chroot, path)) for path in where])
    found = dict(current)
    for path, reply in zip(where, replies, strict=True):
        if isinstance(reply, NoNodeError):
            continue  # it is gone: the plan will be stale
        if isinstance(reply, Exception):
            raise mapped(reply, path, "read")
        found[path] = found[path]._replace(acl=acls.from_kazoo(reply[0]))
    return found


def apply_plan(registry: "Registry", plan: Plan, *, progress: Progress | None = None) -> None:
    """Carry a plan out; see `Registry.apply_plan`."""
    applying.apply(registry.writer, plan, progress)


def export_tree(
    registry: "Registry", path: str, *, ephemeral: bool, name: str | None, progress: Progress | None
) -> str:
    """Return the text of a subtree; see `Registry.export_tree`."""
    if name is not None and (fault := paths.name_fault(name)):
        raise BadPath(f"{fault} cannot be a node's name: {name!r}")
    real, subtree = registry.read(lambda: _read_all(paths.check(path), progress))
    root = tree_of(subtree.only_readable(), real, ephemeral=ephemeral)
    shown = name if name is not None else paths.split(path)[1] or None
    return render(root, shown)


def _read_all(path: str, progress: Progress | None) -> Reading[tuple[str, Subtree]]:
    real = (yield from readings.resolve(path)).found()
    return real, (yield from read_subtree([real], progress))
