"""How is a claim carried out on a real session?

The shell around `claim`: a `Registrant` lives in the hub, tells its claim what
happened, sends the order that comes back, and reports how that ended.  What
users hold is a `registration`.
"""

import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from kazoo import exceptions as kazoo_errors
from kazoo.security import ACL

from zkfleet import paths
from zkfleet.errors import AccessDenied, BadPath, NodeNotFound, RegistrationConflict, TooLarge, ZkfleetError
from zkfleet.registry import claim as orders
from zkfleet.registry import guard, identity, operations, readings
from zkfleet.registry.claim import Claim, Outcome, Policy, Sight, Status
from zkfleet.registry.hub import LINK_ERRORS, Hub
from zkfleet.registry.reads import Event, Unreadable, Watch, Znode
from zkfleet.registry.session import mapped
from zkfleet.registry.wire import refusal_in
from zkfleet.spelling import get_logger
from zkfleet.tree import decode, encode

logger = get_logger(__name__)

RETRY_AFTER = 5.0
BUSY_FOR = 1.0
COLLISIONS = (kazoo_errors.NodeExistsError, kazoo_errors.NoNodeError, kazoo_errors.BadVersionError)


def encoded(path: str, properties: Mapping[str, Any], limit: int) -> bytes:
    """Return properties as a znode's data, of so many bytes at most.

    Raises:
        BadProperties: JSON cannot hold one of them.
        TooLarge: they are more.
    """
    data = encode(properties)
    if len(data) > limit:
        raise TooLarge(path, len(data), limit)
    return data


class Registrant:
    """One endpoint of a registration, in the hub."""

    urgent = True

    def __init__(
        self, hub: Hub, path: str, name: str, *, data: bytes, acl: list[ACL], policy: Policy, is_lock: bool = False
    ) -> None:
        self.hub, self.name = hub, name
        self.claim = Claim(path, data, policy, self._describe, is_lock=is_lock)
        self.changed = threading.Condition()
        self.on_change: Callable[[], object] = lambda: None
        self._acl = acl
        self._said: object = None
        self._seen: object = None
        self._wanted = self.stands = 0
        self.refusal: ZkfleetError | None = None
        self._held: str | None = None
        self._retrying = False

    # -- what the hub tells

    def on_connected(self) -> None:
        """Look whether our znode is there."""
        self._carry_out(self.claim.connected(self.hub.session_id))

    def on_suspended(self) -> None:
        """Touch nothing."""
        self.claim.suspended()
        self._announce()

    def on_event(self, event: Event, path: str) -> None:
        """Look again if this may concern our znode."""
        # Creations of our znode are ours, or follow a deletion that we heard of.
        # The nodes above may have its name, too.
        ours = path == paths.join(self.claim.where, self.name)
        if event is not Event.CHILDREN and not (ours and event is Event.CREATED):
            self._carry_out(self.claim.disturbed())

    def on_audit(self) -> None:
        """Look, told or not."""
        self._carry_out(self.claim.disturbed())

    def wants(self, data: bytes, generation: int) -> None:
        """Change our znode's data; `stands` is the generation of what is known to be there."""
        if generation > self._wanted:
            self._wanted, self.refusal = generation, None
            self._carry_out(self.claim.wants(data))

    def close(self) -> None:
        """Remove our znode."""
        self._carry_out(self.claim.close())

    def on_closing(self) -> None:
        """The session ends, and takes our znode with it."""
        self.give_up()

    def give_up(self) -> None:
        """Leave our znode to the end of the session."""
        self.claim.give_up()
        self._announce()

    # -- carrying out

    def _carry_out(self, order: orders.Order | None) -> None:
        match order:
            case None:
                pass
            case orders.Look(path):
                beside = partial(guard.reads, name=self.name) if self.claim.is_lock else readings.nothing
                self.hub.read(self, readings.read_claim(path, self.name, beside), self._looked)
            case orders.Create(parent):
                # The watch goes first: a deletion right after the create is heard of.
                self.hub.watch(self, Watch(paths.join(parent, self.name)))
                self._write(order)
            case _:
                self._write(order)
        self._announce()

    def _write(self, order: operations.Change) -> None:
        chroot, witness = self.hub.session.client.chroot, uuid.uuid4().hex
        request = operations.request_for(order, self.name, acl=self._acl, chroot=chroot, witness=witness)
        self.hub.write(request, partial(self.hub.post, self._ended, self.hub.epoch))

    def _looked(self, place: readings.Place | None, error: Exception | None) -> None:
        if isinstance(error, kazoo_errors.ThrottledOpError):
            self._put_off()
            return
        if place is not None and place.real_path is not None:
            try:
                self.hub.session.check_not_system(place.real_path)
            except BadPath as exc:
                error = exc
        if place is None or error is not None:
            self.claim.refused(self._refusal(error))
            self._announce()
            return
        if place.real_path is None:
            order = self.claim.saw(Sight(None, problem=place.problem))
        elif self.claim.is_lock and place.real_path != self.claim.path:
            order = self.claim.saw(Sight(None, problem=self._over_a_link(place.real_path)))
        else:
            reply, beside = place.replies[0], place.replies[1:]
            guarded = guard.seen_in(beside) if self.claim.is_lock else None
            if reply is Unreadable.REFUSED or (self.claim.is_lock and guarded is None):
                self.claim.refused(AccessDenied(paths.join(place.real_path, self.name), "read"))
                self._announce()
                return
            order = self.claim.saw(self._sight(place.real_path, reply, guarded))
        self._carry_out(order)

    def _over_a_link(self, real_path: str) -> BadPath:
        return BadPath(
            f"{self.claim.path} leads over a link to {real_path}: a link can be retargeted while the lock"
            f" {self.name!r} is held, and then two would have it",
            hint=f"lock {real_path}, or what `resolve` returns",
        )

    def _sight(self, parent: str, reply: object, guarded: guard.Guard | None) -> Sight:
        if not isinstance(reply, Znode):
            return Sight(parent, guard=guarded)
        stat = reply.stat
        return Sight(
            parent,
            stat.ephemeral_owner,
            reply.data,
            stat.version,
            ours=stat.ephemeral_owner in self.hub.former_sessions,
            dead=identity.is_dead(decode(reply.data)),
            taken=self.hub.session.tap.holders.get(paths.join(parent, self.name), self) is not self,
            czxid=stat.czxid,
            guard=guarded,
        )

    def _ended(self, epoch: int, value: Any, error: Exception | None, zxid: int) -> None:
        if epoch != self.hub.epoch:
            return
        if error is None and isinstance(value, list):
            error, _ = refusal_in(value)
        if error is None:
            order = self.claim.ended(Outcome.DONE, zxid)
        elif isinstance(error, LINK_ERRORS):
            order = self.claim.ended(Outcome.LINK_LOST)
        elif isinstance(error, COLLISIONS):
            order = self.claim.ended(Outcome.COLLISION)
        elif isinstance(error, kazoo_errors.ThrottledOpError):
            self._put_off()
            return
        else:
            order, refusal = None, self._refusal(error)
            if self.claim.refused(refusal):
                self.refusal = refusal
        self._carry_out(order)

    def _refusal(self, error: Exception | None) -> ZkfleetError:
        if isinstance(error, ZkfleetError):
            return error
        if isinstance(error, kazoo_errors.NoAuthError):
            return AccessDenied(self.claim.where, "create, delete or write")
        return mapped(error or RuntimeError("no answer"), paths.join(self.claim.where, self.name), "create")

    def _describe(self, sight: Sight) -> str:
        at = paths.join(sight.parent or self.claim.path, self.name)
        if sight.owner == 0:
            return f"{at} is there and is persistent: no provider's znode"
        who = decode(sight.data)
        return (
            f"{at} belongs to session 0x{sight.owner:x}"
            f" (pid {who.get('pid', 'unknown')} on {who.get('host', 'an unknown host')})"
        )

    def _announce(self) -> None:
        """Tell the log, and then waiting threads, how we stand, once for every change."""
        claim = self.claim
        self._note_holding()
        if claim.status is Status.FAILED and not isinstance(claim.problem, RegistrationConflict):
            # A permission may be given, a quota raised: of that no watch tells.
            self._try_again_in(RETRY_AFTER)
        # A look that is under way needs what it watches until it is known what it saw.
        if claim.settled and claim.status in (Status.REGISTERED, Status.BLOCKED):
            self.hub.keep_only(self, [paths.join(claim.where, self.name)])
        if claim.status is Status.CLOSED:
            self.hub.leave(self)
        said, seen = (claim.status, str(claim.problem)), self._seen
        self._seen = (*said, claim.token)
        if said != self._said:
            self._said = said
            waits_in_turn = self.claim.is_lock and claim.status is Status.BLOCKED
            level = logging.WARNING if claim.problem and not waits_in_turn else logging.INFO
            at = paths.join(claim.where, self.name)
            logger.log(level, "registration_%s at=%s%s", claim.status.value, at, _reason(claim.problem))
        with self.changed:
            if claim.status is Status.REGISTERED and claim.settled:
                self.stands = self._wanted
            self.changed.notify_all()
        if self._seen != seen:
            self.on_change()

    def _note_holding(self) -> None:
        """Tell the other registrations in this session which znode is ours."""
        claim, holders, held = self.claim, self.hub.session.tap.holders, self._held
        at = paths.join(claim.where, self.name)
        gone = claim.status in (Status.BLOCKED, Status.CLOSED) or (claim.status is Status.REGISTERED and at != held)
        if held is not None and gone:
            if holders.get(held) is self:
                del holders[held]
            self._held = None
        if claim.status is Status.REGISTERED:
            self._held, holders[at] = at, self

    def _put_off(self) -> None:
        """The server is too busy for what we asked, and did nothing of it: ask again soon."""
        self.claim.put_off()
        logger.info("registration_put_off at=%s reason=throttled", paths.join(self.claim.where, self.name))
        self._try_again_in(BUSY_FOR)
        self._announce()

    def _try_again_in(self, seconds: float) -> None:
        if not self._retrying:
            self._retrying = True
            self.hub.later(seconds, self._retry)

    def _retry(self) -> None:
        self._retrying = False
        if self.claim.status is Status.FAILED or not self.claim.settled:
            self._carry_out(self.claim.disturbed())


def _reason(problem: Exception | None) -> str:
    """Return why a claim does not stand, as a part of a log event, and what to do if a node is missing."""
    if problem is None:
        return ""
    remedy = f": {problem.hint}" if isinstance(problem, NodeNotFound) else ""
    return f" reason={problem}{remedy}"
