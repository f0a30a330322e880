"""What must change so that the tree that is becomes the tree that is wanted?

`make_plan` is pure and total: it compares a wanted tree with what was seen and
returns a frozen list of steps, each with the versions that it saw, in the
order in which they can be carried out.  Carrying out is somebody else's.

Only what the wanted tree names, and what is below it, is looked at: other
top-level nodes are none of its business.  Ephemeral nodes are never touched:
they say what their owner says, and what holds one is held instead of deleted.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from zkfleet import paths
from zkfleet.tree.acl import OPEN, Acl
from zkfleet.tree.model import Node, decode, encode


class Seen(NamedTuple):
    """A znode as it was when the plan was made; the numbers are ZooKeeper's stat."""

    data: bytes = b""
    version: int = 0
    cversion: int = 0
    aversion: int = 0
    czxid: int = 0
    mzxid: int = 0
    ephemeral: bool = False
    acl: tuple[Acl, ...] | None = None


@dataclass(frozen=True, slots=True)
class Create:
    """Make a znode that is not there; the version is its parent's, None if that is new or was not seen."""

    path: str
    data: bytes
    acl: tuple[Acl, ...] = OPEN
    parent_version: int | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """Set a znode's data from `before` to `after`."""

    path: str
    before: bytes
    after: bytes
    version: int
    czxid: int


@dataclass(frozen=True, slots=True)
class SetAcl:
    """Set a znode's ACL."""

    path: str
    before: tuple[Acl, ...]
    after: tuple[Acl, ...]
    aversion: int
    czxid: int


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a znode; what was in it is kept here, for the inverse."""

    path: str
    data: bytes
    version: int
    czxid: int
    acl: tuple[Acl, ...] = OPEN


@dataclass(frozen=True, slots=True)
class Hold:
    """Leave a znode as it is, because it is ephemeral or something ephemeral lives below."""

    path: str
    reason: str


Step = Create | Update | SetAcl | Delete | Hold
KINDS: Mapping[str, type[Step]] = {
    "create": Create,
    "update": Update,
    "set-acl": SetAcl,
    "delete": Delete,
    "hold": Hold,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps from one state of a tree to another.

    Attributes:
        path: the node below which the tree was wanted.
        steps: in the order of carrying out: creates with parents first,
            updates, ACLs, deletes with parents last, holds.
        left_over: nodes that the wanted tree leaves out and nobody said what
            to do about; the topmost of each.
    """

    path: str
    steps: tuple[Step, ...] = ()
    left_over: tuple[str, ...] = field(default=())

    @property
    def changes(self) -> bool:
        """Whether there is anything to carry out."""
        return any(not isinstance(step, Hold) for step in self.steps)

    def counts(self) -> dict[str, int]:
        """Return how many steps there are of each kind."""
        found = Counter(type(step) for step in self.steps)
        return {name: found[kind] for name, kind in KINDS.items()}

    def __str__(self) -> str:
        from zkfleet.tree.plan_text import render_plan

        return render_plan(self)

    def to_json(self) -> str:
        """Return the plan as JSON, to be kept and applied later."""
        from zkfleet.tree.plan_text import to_json

        return to_json(self)

    @staticmethod
    def from_json(text: str) -> "Plan":
        """Return the plan that `to_json` wrote; raises `BadInput` if it is none."""
        from zkfleet.tree.plan_text import from_json

        return from_json(text)

    def inverse(self) -> "Plan":
        """Return the plan that undoes this one, once this one was applied as it stands.

        The versions of what it creates are those of fresh znodes; those of
        what it updates are one more than before.  Znodes that this plan makes
        anew have another `czxid` than they had, which the inverse leaves open.
        """
        undone = [_undo(step) for step in reversed(self.steps)]
        order = (Create, Update, SetAcl, Delete)
        return Plan(self.path, tuple(step for kind in order for step in undone if isinstance(step, kind)))


ANY_CZXID = 0


def _undo(step: Step) -> Step:
    match step:
        case Create(path, data, acl):
            return Delete(path, data, 0, ANY_CZXID, acl)
        case Update(path, before, after, version, czxid):
            return Update(path, after, before, version + 1, czxid)
        case SetAcl(path, before, after, aversion, czxid):
            return SetAcl(path, after, before, aversion + 1, czxid)
        case Delete(path, data, _, _, acl):
            return Create(path, data, acl)
    return step


def make_plan(
    wanted: Node,
    current: Mapping[str, Seen],
    *,
    path: str = "/",
    trim: bool | None = None,
    acl: Sequence[Acl] | None = None,
) -> Plan:
    """Compare a wanted tree with what is there.

    Args:
        wanted: the root whose children are to stand below `path`.
        current: every znode at and below `path` that was seen, by real path.
        path: the node that takes the wanted top-level nodes.
        trim: what to do about nodes that `wanted` leaves out below its own:
            None lists them, True deletes them, False keeps them.
        acl: for all wanted nodes; None for `OPEN` on new ones and no change of others.

    Raises:
        BadProperties: JSON cannot hold a wanted property.
    """
    nodes = {where: encode(node.properties) for where, node in _flatten(wanted, path)}
    entries = tuple(acl) if acl is not None else None
    creates, updates, acls, kept = _changes(nodes, current, entries)
    extra = _extra(nodes, current, path)
    if trim:
        deletes, holds = _trimmed(extra, current)
        return Plan(path, (*creates, *updates, *acls, *deletes, *kept, *holds))
    tops = tuple(where for where in extra if paths.split(where)[0] not in extra) if trim is None else ()
    left_over = tuple(where for where in tops if not current[where].ephemeral)
    return Plan(path, (*creates, *updates, *acls, *kept), left_over)


def _flatten(root: Node, path: str) -> Iterator[tuple[str, Node]]:
    """Yield the wanted nodes with their paths, parents first, names in order."""
    waiting = [(paths.join(path, name), root.children[name]) for name in sorted(root.children, reverse=True)]
    while waiting:
        where, node = waiting.pop()
        yield where, node
        if node.children:
            waiting += [(f"{where}/{name}", node.children[name]) for name in sorted(node.children, reverse=True)]


def _changes(
    nodes: Mapping[str, bytes], current: Mapping[str, Seen], acl: tuple[Acl, ...] | None
) -> tuple[list[Create], list[Update], list[SetAcl], list[Hold]]:
    creates, updates, acls, kept = [], [], [], []
    for where, data in nodes.items():
        seen = current.get(where)
        if seen is None:
            creates.append(Create(where, data, acl or OPEN, _version_above(where, nodes, current)))
            continue
        # Other bytes may say the same: zc.zk wrote names in no order.
        differs = seen.data != data and encode(decode(seen.data)) != data
        if differs and seen.ephemeral:
            kept.append(Hold(where, "it is ephemeral, and says what its owner says"))
        elif differs:
            updates.append(Update(where, seen.data, data, seen.version, seen.czxid))
        if acl is not None and seen.acl is not None and set(seen.acl) != set(acl):
            acls.append(SetAcl(where, seen.acl, acl, seen.aversion, seen.czxid))
    return creates, updates, acls, kept


def _version_above(where: str, wanted: Mapping[str, bytes], current: Mapping[str, Seen]) -> int | None:
    """Return the version of a node's parent, if this plan rests on it and does not write it."""
    above = paths.split(where)[0]
    seen = current.get(above)
    if seen is None or (above in wanted and encode(decode(seen.data)) != wanted[above]):
        return None
    return seen.version


def _extra(nodes: Mapping[str, bytes], current: Mapping[str, Seen], path: str) -> dict[str, Seen]:
    """Return what is there and not wanted, below wanted nodes, in order."""
    depth = path.rstrip("/").count("/") + 1

    def named(where: str) -> bool:
        return "/".join(where.split("/", depth + 1)[: depth + 1]) in nodes

    return {where: current[where] for where in sorted(current.keys() - nodes.keys()) if named(where)}


def _trimmed(extra: Mapping[str, Seen], current: Mapping[str, Seen]) -> tuple[list[Delete], list[Hold]]:
    held: dict[str, str] = {}
    for where, seen in current.items():
        if seen.ephemeral:
            for above in paths.ancestors(where):
                if above in held or above not in extra:
                    break
                held[above] = f"{where} lives below"
    deletes = [
        Delete(where, seen.data, seen.version, seen.czxid, seen.acl or OPEN)
        for where, seen in reversed(list(extra.items()))
        if where not in held and not seen.ephemeral
    ]
    return deletes, [Hold(where, held[where]) for where in sorted(held)]
