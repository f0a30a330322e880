"""How is a plan carried out without surprises?

Steps become ZooKeeper's atomic multis: one if they fit into a packet, else as
few as possible, cut between subtrees, and inside one only if no packet holds
it.  Each checks the versions that the plan saw, of the nodes it writes and of
the parents it puts nodes under.  Just before, what the plan saw is compared
with what is there, creation included: a multi cannot check that, and versions
begin at 0 again when a node is deleted and made anew.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from kazoo import exceptions as kazoo_errors
from kazoo.protocol import serialization as requests

from zkfleet import paths
from zkfleet.errors import AccessDenied, BadAcl, NotConnected, OutcomeUnknown, StalePlan, TooLarge, ZkfleetError
from zkfleet.registry import acls
from zkfleet.registry.proof import Expected
from zkfleet.registry.reads import Batch, GetData, Progress, Reading, Reply, Unreadable, Znode
from zkfleet.registry.session import Deadline, Session
from zkfleet.registry.wire import NotSent, rooted
from zkfleet.registry.writing import Lost, Writer
from zkfleet.spelling import get_logger
from zkfleet.tree import Plan
from zkfleet.tree.plan import ANY_CZXID, Create, Delete, Hold, SetAcl, Step, Update

logger = get_logger(__name__)

Change = Create | Update | Delete
Send = Callable[[int, Deadline, int], bool]
STALE = (
    kazoo_errors.BadVersionError,
    kazoo_errors.NodeExistsError,
    kazoo_errors.NoNodeError,
    kazoo_errors.NotEmptyError,
    kazoo_errors.NoChildrenForEphemeralsError,
)
_FRAMING = 64  # of one operation in a multi: headers, lengths, flags


def check_size(plan: Plan, limit: int) -> None:
    """Raise `TooLarge` for a step whose data no packet of so many bytes holds."""
    for step in plan.steps:
        if _size(step) > limit:
            raise TooLarge(step.path, len(_data(step)), limit)


def _data(step: Step) -> bytes:
    return step.data if isinstance(step, Create) else step.after if isinstance(step, Update) else b""


def _size(step: Step) -> int:
    entries = step.acl if isinstance(step, Create) else ()
    access = sum(len(entry.scheme) + len(entry.id.encode()) + 12 for entry in entries)
    return _FRAMING + len(step.path.encode()) + len(_data(step)) + access


def pack(steps: Sequence[Step], path: str, limit: int) -> Iterator[list[Change]]:
    """Divide the changes among steps into runs that fit into a packet.

    Args:
        steps: in the order of carrying out.
        path: the node whose children head the subtrees that are kept together.
        limit: bytes.
    """
    subtrees: dict[str, list[Change]] = {}
    depth = len(path.rstrip("/")) + 1
    for step in steps:
        if not isinstance(step, (Hold, SetAcl)):
            subtrees.setdefault(step.path[depth:].partition("/")[0], []).append(step)
    run: list[Change] = []
    size = 0
    for subtree in subtrees.values():
        costs = _costs(subtree)
        if run and size + sum(costs) > limit:
            yield run
            run, size = [], 0
        for step, cost in zip(subtree, costs, strict=True):
            if run and size + cost > limit:
                yield run
                run, size = [], 0
            run.append(step)
            size += cost
    if run:
        yield run


def _costs(steps: Sequence[Change]) -> list[int]:
    """Return the bytes of each step, with the check of its parent where that is the first."""
    parents: set[str] = set()
    costs = []
    for step in steps:
        cost = _size(step)
        if (parent := _checked_parent(step)) and parent not in parents:
            parents.add(parent)
            cost += _FRAMING + len(parent.encode())
        costs.append(cost)
    return costs


def _checked_parent(step: Change) -> str | None:
    known = isinstance(step, Create) and step.parent_version is not None
    return paths.split(step.path)[0] if known else None


@dataclass(frozen=True, slots=True)
class Look:
    """What is there of the znodes of a plan.

    Attributes:
        moved: those that are no longer as the plan saw them.
        crowded: those that it deletes though they have children it does not delete.
    """

    moved: tuple[str, ...] = ()
    crowded: tuple[str, ...] = ()


def look(steps: Sequence[Step]) -> Reading[Look]:
    """Compare what a plan saw with what is there."""
    seen = [step for step in steps if isinstance(step, (Update, SetAcl, Delete))]
    if not seen:
        return Look()
    answer = yield Batch(tuple(GetData(step.path) for step in seen))
    pairs = list(zip(seen, answer.replies, strict=True))
    going = Counter(paths.split(step.path)[0] for step in seen if isinstance(step, Delete))
    crowded = (
        step.path
        for step, reply in pairs
        if isinstance(step, Delete) and isinstance(reply, Znode) and reply.stat.num_children > going[step.path]
    )
    return Look(tuple(step.path for step, reply in pairs if not _as_seen(step, reply)), tuple(crowded))


def _as_seen(step: Update | SetAcl | Delete, reply: Reply) -> bool:
    if reply is Unreadable.REFUSED:
        return True  # the server will judge the versions
    if not isinstance(reply, Znode):
        return False
    stat = reply.stat
    if step.path != "/" and step.czxid not in (ANY_CZXID, stat.czxid):
        return False
    return stat.aversion == step.aversion if isinstance(step, SetAcl) else stat.version == step.version


def apply(writer: Writer, plan: Plan, progress: Progress | None = None) -> None:
    """Carry a plan out; see `Registry.apply_plan`."""
    session = writer.session
    check_size(plan, session.safe_packet)
    steps = [step for step in plan.steps if not isinstance(step, Hold)]
    for step in steps:
        session.check_not_system(step.path)
    runs = list(pack(steps, plan.path, session.safe_packet))
    access = [step for step in steps if isinstance(step, SetAcl)]
    grant = session.tap.grants
    found = session.read(lambda: look(steps))
    if found.moved:
        raise StalePlan(found.moved)
    for path in found.crowded:
        writer.marks.remove_others(path)
    if len(runs) > 1:
        logger.warning("plan_split path=%s steps=%d multis=%d", plan.path, len(steps), len(runs))
    done = 0
    sending: list[tuple[Send, Sequence[Step]]] = [
        *((partial(_send_run, writer, run), run) for run in runs),
        *((partial(_set_acl, writer, step), [step]) for step in access),
    ]
    for send, run in sending:
        try:
            _apply_run(writer.session, send, run, done, grant)
        except (NotConnected, OutcomeUnknown) as exc:
            if not done:
                raise
            raise type(exc)(f"{exc}; {done} steps of the plan were applied before", hint=exc.hint) from exc
        done += len(run)
        if progress:
            progress(done, len(steps))


def _apply_run(session: Session, send: Send, run: Sequence[Step], done: int, grant: int) -> None:
    """Apply one multi, or one change of an ACL; if the link broke since the last look, look again."""
    deadline = Deadline(session.timeout)
    while not send(done, deadline, grant):
        grant = session.tap.grants
        if moved := session.read(lambda: look(run), timeout=deadline.left()).moved:
            raise StalePlan(moved, applied=done)


def _send_run(writer: Writer, run: Sequence[Change], done: int, deadline: Deadline, grant: int) -> bool:
    """Send a multi; tell whether it happened, and not that it was lost on the way."""
    parts = list(_parts(writer.session.client.chroot, run))
    expected = [_expected(step) for step in run if isinstance(step, (Update, Delete)) and step.czxid != ANY_CZXID]
    operations = [operation for _, _, operation in parts]
    written = writer.write(operations, path=run[0].path, deadline=deadline, expected=expected, grant=grant)
    if written.refusal is not None and not isinstance(written.refusal, Lost):
        _raise_refusal(written.refusal, *parts[written.culprit][:2], done)
    return written.refusal is None


def _expected(step: Update | Delete) -> Expected:
    return Expected(step.path, step.version, step.czxid, step.after if isinstance(step, Update) else None)


def _parts(chroot: str, run: Sequence[Change]) -> Iterator[tuple[str, str, Any]]:
    """Yield the operations of a multi, each with its path and the permission that it needs."""
    known: dict[Any, list[Any]] = {}
    checked: set[str] = set()
    for step in run:
        path = rooted(chroot, step.path)
        match step:
            case Create(_, data, acl, version):
                parent = _checked_parent(step)
                if parent is not None and parent not in checked:
                    checked.add(parent)
                    yield parent, "read", requests.CheckVersion(rooted(chroot, parent), version)
                if acl not in known:
                    known[acl] = acls.to_kazoo(acl)
                yield step.path, "create", requests.Create(path, data, known[acl], 0)
            case Update(_, _, after, version):
                yield step.path, "write", requests.SetData(path, after, version)
            case Delete():
                yield step.path, "delete", requests.Delete(path, step.version)


def _raise_refusal(refusal: Exception, path: str, permission: str, done: int) -> None:
    if isinstance(refusal, STALE):
        raise StalePlan([path], applied=done) from refusal
    if isinstance(refusal, kazoo_errors.NoAuthError):
        raise AccessDenied(path, permission) from refusal
    if isinstance(refusal, kazoo_errors.InvalidACLError):
        hint = "'auth' needs a session with credentials"
        raise BadAcl(f"{path}: the server refuses this ACL", hint=hint) from refusal
    raise ZkfleetError(f"{path}: ZooKeeper refused the change: {type(refusal).__name__}") from refusal


def _set_acl(writer: Writer, step: SetAcl, done: int, deadline: Deadline, grant: int) -> bool:
    """Set one ACL; tell whether it happened, and not that it was lost on the way.

    ZooKeeper has no ACLs in a multi, so there is no mark with it.  The session
    keeps it from coming late; but if somebody set the ACL, nobody can tell who.
    """
    session, before = writer.session, writer.session.session_id
    request = requests.SetACL(rooted(session.client.chroot, step.path), acls.to_kazoo(step.after), step.aversion)
    try:
        session.send_once(request, path=step.path, deadline=deadline, grant=grant)
    except NotSent:
        return False
    except kazoo_errors.KazooException as exc:
        _raise_refusal(exc, step.path, "admin", done)
    except OutcomeUnknown as lost:
        try:
            found = session.read(lambda: look([step]), timeout=deadline.left())
        except ZkfleetError as exc:
            raise lost from exc
        if found.moved or session.session_id != before:
            raise
        return False
    return True
