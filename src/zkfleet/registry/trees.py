"""How does a text become a part of ZooKeeper's tree, and the other way round?

Parse, read, plan and apply; each of these is somebody else's.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from kazoo.protocol.serialization import GetACL

from zkfleet import paths
from zkfleet.registry import acls, applying, readings
from zkfleet.registry.reads import Progress, Reading, Znode
from zkfleet.registry.session import Session, settle
from zkfleet.registry.subtree import Subtree, read_subtree, tree_of
from zkfleet.registry.wire import rooted
from zkfleet.tree import Acl, Node, Plan, Seen, make_plan, parse, render

if TYPE_CHECKING:
    from zkfleet.registry.registry import Registry

__all__ = ["Progress", "apply_plan", "export_tree", "plan_tree"]


def plan_tree(
    registry: "Registry", text: str, path: str, *, trim: bool | None, acl: acls.Wanted | None, source: str
) -> Plan:
    """Say what importing a text would change; see `Registry.import_tree`."""
    wanted = parse(text, source)
    entries = acls.read_acl(acl) if acl is not None else None
    real, subtree = registry.read(lambda: _read_wanted(paths.check(path), wanted))
    znodes = subtree.only_readable()
    access = _read_acls(registry.session, list(znodes)) if entries is not None else {}
    current = {where: _seen(znode, access.get(where)) for where, znode in znodes.items()}
    plan = make_plan(wanted, current, path=real, trim=trim, acl=entries)
    applying.check_size(plan)
    return plan


def _read_wanted(path: str, wanted: Node) -> Reading[tuple[str, Subtree]]:
    """Read what is there of the top-level nodes that a text names."""
    real = (yield from readings.resolve(path)).found()
    tops = [paths.join(real, name) for name in sorted(wanted.children)]
    return real, (yield from read_subtree(tops))


def _seen(znode: Znode, acl: tuple[Acl, ...] | None) -> Seen:
    stat = znode.stat
    return Seen(
        znode.data, stat.version, stat.cversion, stat.aversion, stat.czxid, stat.mzxid, stat.ephemeral_owner != 0, acl
    )


def _read_acls(session: Session, where: Sequence[str]) -> dict[str, tuple[Acl, ...]]:
    """Read ACLs, which no multiRead brings: all requests are sent before the first reply is awaited."""
    found: list[Future[Any]] = []
    for path in where:
        future: Future[Any] = Future()
        session.send(GetACL(rooted(session.client.chroot, path)), partial(settle, future))
        found.append(future)
    return {path: acls.from_kazoo(future.result(session.timeout)[0]) for path, future in zip(where, found, strict=True)}


def apply_plan(registry: "Registry", plan: Plan, *, progress: Progress | None = None) -> None:
    """Carry a plan out; see `Registry.apply_plan`."""
    applying.apply(registry.session, plan, progress)


def export_tree(
    registry: "Registry", path: str, *, ephemeral: bool, name: str | None, progress: Progress | None
) -> str:
    """Return the text of a subtree; see `Registry.export_tree`."""
    real, subtree = registry.read(lambda: _read_all(paths.check(path), progress))
    root = tree_of(subtree.only_readable(), real, ephemeral=ephemeral)
    shown = name if name is not None else paths.split(path)[1] or None
    return render(root, shown)


def _read_all(path: str, progress: Progress | None) -> Reading[tuple[str, Subtree]]:
    real = (yield from readings.resolve(path)).found()
    return real, (yield from read_subtree([real], progress))
