"""How is a plan carried out without surprises?

Steps become ZooKeeper's atomic multis: one if they fit into a packet, else as
few as possible, in the plan's order, so that a cut falls between whole nodes.
Just before, what the plan saw is compared with what is there, creation
included: versions begin at 0 again when a node is deleted and made anew.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from kazoo import exceptions as kazoo_errors
from kazoo.protocol import serialization as requests

from zkfleet.errors import AccessDenied, BadAcl, OutcomeUnknown, StalePlan, TooLarge, ZkfleetError
from zkfleet.registry import acls
from zkfleet.registry.reads import Batch, GetData, Progress, Reading, Reply, Unreadable, Znode
from zkfleet.registry.session import BadVersion, Deadline, Session
from zkfleet.registry.wire import SAFE_PACKET, rooted
from zkfleet.tree import Plan
from zkfleet.tree.plan import ANY_CZXID, Create, Delete, Hold, SetAcl, Step, Update

logger = logging.getLogger(__name__)

Change = Create | Update | Delete
STALE = (
    kazoo_errors.BadVersionError,
    kazoo_errors.NodeExistsError,
    kazoo_errors.NoNodeError,
    kazoo_errors.NotEmptyError,
    kazoo_errors.NoChildrenForEphemeralsError,
)
_FRAMING = 64  # of one operation in a multi: headers, lengths, flags


def check_size(plan: Plan) -> None:
    """Raise `TooLarge` for a step whose data no packet holds."""
    for step in plan.steps:
        if _size(step) > SAFE_PACKET:
            raise TooLarge(step.path, len(_data(step)), SAFE_PACKET)


def _data(step: Step) -> bytes:
    return step.data if isinstance(step, Create) else step.after if isinstance(step, Update) else b""


def _size(step: Step) -> int:
    entries = step.acl if isinstance(step, Create) else ()
    access = sum(len(entry.scheme) + len(entry.id.encode()) + 12 for entry in entries)
    return _FRAMING + len(step.path.encode()) + len(_data(step)) + access


def pack(steps: Sequence[Step], limit: int = SAFE_PACKET) -> Iterator[list[Change]]:
    """Divide the changes among steps into runs that fit into a packet, in order."""
    run: list[Change] = []
    size = 0
    for step in steps:
        if isinstance(step, (Hold, SetAcl)):
            continue
        cost = _size(step)
        if run and size + cost > limit:
            yield run
            run, size = [], 0
        run.append(step)
        size += cost
    if run:
        yield run


def moved(steps: Sequence[Step]) -> Reading[list[str]]:
    """Find the znodes of a plan that are no longer as it saw them."""
    seen = [step for step in steps if not isinstance(step, (Hold, Create))]
    if not seen:
        return []
    answer = yield Batch(tuple(GetData(step.path) for step in seen))
    return [step.path for step, reply in zip(seen, answer.replies, strict=True) if not _as_seen(step, reply)]


def _as_seen(step: Step, reply: Reply) -> bool:
    if reply is Unreadable.REFUSED:
        return True  # the server will judge the versions
    if not isinstance(reply, Znode):
        return False
    stat = reply.stat
    if not isinstance(step, Hold | Create) and step.path != "/":
        czxid = step.czxid
        if czxid not in (ANY_CZXID, stat.czxid):
            return False
    if isinstance(step, SetAcl):
        return stat.aversion == step.aversion
    return isinstance(step, (Update, Delete)) and stat.version == step.version


def apply(session: Session, plan: Plan, progress: Progress | None = None) -> None:
    """Carry a plan out; see `Registry.apply_plan`."""
    check_size(plan)
    steps = [step for step in plan.steps if not isinstance(step, Hold)]
    runs = list(pack(steps))
    access = [step for step in steps if isinstance(step, SetAcl)]
    if stale := session.read(lambda: moved(steps)):
        raise StalePlan(stale)
    if len(runs) > 1:
        logger.info("plan_split path=%s steps=%d multis=%d", plan.path, len(steps), len(runs))
    done = 0
    for run in runs:
        _apply_run(session, run, done)
        done += len(run)
        if progress:
            progress(done, len(steps))
    for step in access:
        _set_acl(session, step, done)
        done += 1
        if progress:
            progress(done, len(steps))


def _apply_run(session: Session, run: list[Change], done: int) -> None:
    """Apply one multi, however often the link breaks under it."""
    operations = _operations(session.client.chroot, run)
    deadline = Deadline(session.timeout)
    unknown = False
    while True:
        try:
            _raise_refusal(session.multi(operations, path=run[0].path), run, done)
            return
        except OutcomeUnknown:
            unknown = True
            if not deadline.left():
                raise
        except StalePlan:
            if not unknown or not session.read(lambda: applied(run)):
                raise
            return
        if session.read(lambda: applied(run)):
            return


def applied(run: Sequence[Change]) -> Reading[bool]:
    """Tell whether an atomic batch, whose reply was lost, was carried out: all of it or nothing."""
    step = run[0]
    answer = yield Batch((GetData(step.path),))
    reply = answer.replies[0]
    if isinstance(step, Delete):
        return reply is Unreadable.MISSING
    if not isinstance(reply, Znode):
        return False
    if isinstance(step, Update):
        return reply.stat.version == step.version + 1 and reply.data == step.after
    return reply.data == step.data


def _operations(chroot: str, run: Sequence[Change]) -> list[Any]:
    known: dict[Any, list[Any]] = {}
    operations: list[Any] = []
    for step in run:
        path = rooted(chroot, step.path)
        match step:
            case Create(_, data, acl):
                if acl not in known:
                    known[acl] = acls.to_kazoo(acl)
                operations.append(requests.Create(path, data, known[acl], 0))
            case Update(_, _, after, version):
                operations.append(requests.SetData(path, after, version))
            case Delete():
                operations.append(requests.Delete(path, step.version))
    return operations


def _raise_refusal(results: Sequence[Any], run: Sequence[Change], done: int) -> None:
    for step, result in zip(run, results, strict=False):
        if isinstance(result, STALE):
            raise StalePlan([step.path], applied=done)
        if isinstance(result, kazoo_errors.NoAuthError):
            raise AccessDenied(step.path, _PERMISSIONS[type(step)])
        if isinstance(result, kazoo_errors.InvalidACLError):
            raise BadAcl(f"{step.path}: the server refuses this ACL", hint="'auth' needs a session with credentials")
    for result in results:
        if isinstance(result, Exception):
            raise ZkfleetError(f"{run[0].path}: ZooKeeper refused the change: {type(result).__name__}")


_PERMISSIONS = {Create: "create", Update: "write", Delete: "delete"}


def _set_acl(session: Session, step: SetAcl, done: int) -> None:
    # ZooKeeper has no ACLs in a multi: each is a write of its own.
    request = requests.SetACL(rooted(session.client.chroot, step.path), acls.to_kazoo(step.after), step.aversion)
    try:
        session.write(request, path=step.path, permission="admin")
    except BadVersion as exc:
        raise StalePlan([step.path], applied=done) from exc
