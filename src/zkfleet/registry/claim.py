"""What must be done so that our znode is there, once, and goes when we go?

The pure machine behind one registered endpoint.  It is told what happened and
answers with one order at most, or None; the shell (`registrar`) carries it out
and reports back.  One order is under way at a time; what happens meanwhile
makes it look again.

    link down   PENDING or SUSPENDED: nothing is sent, the session may live
    link up     look, then by what is there:
        no parent ............ PENDING until there is one; FAILED if a lock's path is a link
        nothing .............. create                         -> REGISTERED
        ours, this session ... write the data if they differ  -> REGISTERED
        ours, former session . delete and create in one multi -> REGISTERED
        of a dead process .... the same
        persistent ........... FAILED, never touched
        somebody else's ...... BLOCKED, FAILED or replaced, by policy
    closing     look, and delete it if it is ours             -> CLOSED

A lock is never touched but on condition of its `guard`, which a look sees with
it.  If the guard proves nothing, it is made first, and then we look again.

Somebody else may be another registration of this very process.  A takeover
happens once: who was displaced afterwards waits, or two would fight for ever.

Invariant: no order is given while the link is down, and after `close` no order
that creates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from zkfleet.errors import BadPath, RegistrationConflict, ZkfleetError
from zkfleet.registry.guard import Guard

Policy = Literal["wait", "fail", "takeover"]


class Status(Enum):
    """How a registration stands."""

    PENDING = "pending"
    REGISTERED = "registered"
    SUSPENDED = "suspended"
    BLOCKED = "blocked"
    FAILED = "failed"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Sight:
    """What stands at our path.

    Attributes:
        parent: the real path of the service, None if it is not there.
        owner: the session that owns the znode, 0 if it is persistent, None if
            there is no znode.
        data: its bytes.
        version: of its data.
        ours: whether it is left over from a former session of this process.
        dead: whether it is left over from a process of this machine that is dead.
        taken: whether another registration of this process holds it.
        czxid: the transaction that created the znode.
        guard: of a lock.
        problem: why there is no parent.
    """

    parent: str | None
    owner: int | None = None
    data: bytes = b""
    version: int = -1
    ours: bool = False
    dead: bool = False
    taken: bool = False
    czxid: int = 0
    guard: Guard | None = None
    problem: ZkfleetError | None = None


class Outcome(Enum):
    """How an order ended."""

    DONE = "done"
    COLLISION = "collision"  # the tree was not as we saw it: look again
    LINK_LOST = "link lost"  # it may have been carried out: look when the link is back


@dataclass(frozen=True, slots=True)
class Look:
    """Follow `path` to the service's node and read our znode there."""

    path: str


@dataclass(frozen=True, slots=True)
class Create:
    """Create our ephemeral znode."""

    parent: str
    data: bytes
    guard: Guard | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """Set the data of our znode."""

    parent: str
    data: bytes
    version: int
    guard: Guard | None = None


@dataclass(frozen=True, slots=True)
class Replace:
    """Delete the znode that is there and create ours, in one multi."""

    parent: str
    data: bytes
    version: int
    guard: Guard | None = None


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete our znode."""

    parent: str
    version: int
    guard: Guard | None = None


@dataclass(frozen=True, slots=True)
class Guarding:
    """Have the lock guarded by a guard that proves something to the next look."""

    parent: str
    guard: Guard | None = None


Order = Look | Create | Write | Replace | Remove | Guarding


class Claim:
    """One endpoint's claim to its znode.

    Once registered it stays where it is: a link on the way that is retargeted
    later moves readers, and only a home that is gone makes us follow `path` anew.

    Args:
        path: of the service, links and all.
        data: the properties, encoded.
        policy: what to do about somebody else's znode of our name.
        describe: says who owns what stands there, for messages.
        is_lock: whether a guard decides if it may be touched.

    Attributes:
        token: the transaction that created our znode, 0 if it is known not to be there.
    """

    def __init__(
        self, path: str, data: bytes, policy: Policy, describe: Callable[[Sight], str], *, is_lock: bool = False
    ) -> None:
        self.path, self.data, self.policy, self.is_lock = path, data, policy, is_lock
        self.status = Status.PENDING
        self.problem: ZkfleetError | None = None
        self.home: str | None = None
        self.token = 0
        self._describe = describe
        self._session: int | None = None
        self._under_way: Order | None = None
        self._again = False
        self._fresh = True
        self._closing = False
        self._had = False
        self._written = data

    # -- what happens

    def connected(self, session_id: int) -> Order | None:
        """The link is up, with this session."""
        self._session, self._under_way = session_id, None
        return self._go()

    def suspended(self) -> None:
        """The link is down: whatever was under way has an unknown outcome."""
        self._session, self._under_way, self._again = None, None, False
        if self.status is Status.REGISTERED:
            self.status = Status.SUSPENDED

    def disturbed(self) -> Order | None:
        """Something happened to our znode or on the way to it."""
        return self._go()

    def wants(self, data: bytes) -> Order | None:
        """Our properties are others now."""
        self.data = data
        return self._go()

    def close(self) -> Order | None:
        """We do not want it any more."""
        if self.status is Status.CLOSED:
            return None
        self._closing = True
        if self._fresh and self._under_way is None:
            self.status = Status.CLOSED
            return None
        return self._go()

    def give_up(self) -> None:
        """The session ends now, and takes what is left of ours with it."""
        self._session, self._under_way, self._again, self._closing = None, None, False, True
        self._settle(Status.CLOSED, self.problem)

    # -- what an order brought

    def saw(self, sight: Sight) -> Order | None:
        """A look ended."""
        self._under_way = None
        if self._again:
            return self._go()
        if sight.parent is None and self.home is not None:
            self.home = None
            return self._go()
        self.home = sight.parent
        self.token = sight.czxid if sight.owner == self._session and not sight.taken else 0
        return self._closing_order(sight) if self._closing else self._order(sight)

    def ended(self, outcome: Outcome, zxid: int = 0) -> Order | None:
        """A create, write, replace or remove ended; `zxid` is the transaction's."""
        order, self._under_way = self._under_way, None
        if outcome is Outcome.LINK_LOST:
            return None
        if outcome is Outcome.COLLISION or self._again or self._closing:
            if isinstance(order, Remove) and outcome is Outcome.DONE:
                self._settle(Status.CLOSED)
                return None
            return self._go()
        if isinstance(order, Guarding):
            return self._go()
        if isinstance(order, (Create, Replace)):
            self.home, self.token = order.parent, zxid
        self._settle(Status.REGISTERED)
        return None

    def refused(self, problem: ZkfleetError) -> bool:
        """The server refused an order or a look; tell whether what stands is as good as before.

        Properties that may not be written leave the znode ours, as it was.
        """
        order, self._under_way = self._under_way, None
        if isinstance(order, Write) and not self._closing:
            self.data = self._written
            self._settle(Status.REGISTERED)
            return True
        self._settle(Status.CLOSED if self._closing else Status.FAILED, problem)
        return False

    def put_off(self) -> None:
        """The server did nothing of an order, or of a look, because it is busy: all is as it was, and we look again."""
        self._under_way, self._again = None, True

    @property
    def settled(self) -> bool:
        """Whether nothing is under way and nothing waits to be looked at."""
        return self._under_way is None and not self._again

    # -- deciding

    def _go(self) -> Order | None:
        if self._session is None or self.status is Status.CLOSED:
            return None
        if self._under_way is not None:
            self._again = True
            return None
        self._again = False
        # The first time there is nothing of ours to find, so a look is spared:
        # if something stands there, the create says so.  A lock's guard must be seen.
        first, self._fresh = self._fresh, False
        if first and not self._closing and not self.is_lock:
            return self._begin(Create(self.path, self.data))
        return self._begin(Look(self.home or self.path))

    def _begin(self, order: Order) -> Order:
        self._under_way = order
        return order

    @property
    def where(self) -> str:
        """The service's node, as far as we know."""
        return self.home or self.path

    def _order(self, sight: Sight) -> Order | None:
        if sight.parent is None:
            # That there is a link in place of a lock's node is for a person to mend.
            self._settle(Status.FAILED if isinstance(sight.problem, BadPath) else Status.PENDING, sight.problem)
            return None
        if sight.owner is None:
            return self._begin(Create(sight.parent, self.data, sight.guard))
        if sight.owner == self._session and not sight.taken:
            if sight.data != self.data:
                self._written = sight.data
                return self._touch(Write(sight.parent, self.data, sight.version, sight.guard))
            self._settle(Status.REGISTERED)
            return None
        takes = self.policy == "takeover" and not self._had
        left_over = (sight.ours or sight.dead) and not sight.taken
        if sight.owner != 0 and (takes or left_over):
            return self._touch(Replace(sight.parent, self.data, sight.version, sight.guard))
        blocked = sight.owner != 0 and (self._had or self.policy != "fail")
        conflict = RegistrationConflict(self._describe(sight), hint=_HINTS[sight.owner != 0])
        self._settle(Status.BLOCKED if blocked else Status.FAILED, conflict)
        return None

    def _closing_order(self, sight: Sight) -> Order | None:
        # What a dead process left is whoever's gets it next.
        mine = sight.owner == self._session or (bool(sight.owner) and sight.ours)
        if sight.parent is not None and mine and not sight.taken:
            return self._touch(Remove(sight.parent, sight.version, sight.guard))
        self._settle(Status.CLOSED)
        return None

    def _touch(self, order: Write | Replace | Remove) -> Order:
        """Give an order that changes what stands there, once it can be proved that it is what we saw."""
        if self.is_lock and not (order.guard and order.guard.proves):
            return self._begin(Guarding(order.parent, order.guard or Guard()))
        return self._begin(order)

    def _settle(self, status: Status, problem: ZkfleetError | None = None) -> None:
        self.status, self.problem = status, problem
        self._had = self._had or status is Status.REGISTERED


_HINTS = {
    True: "it goes when its session ends; on_conflict='takeover' replaces it",
    False: "a persistent znode has the name of a provider: delete it with `zkfleet rm`",
}
