"""Several claims to one name, in processes of one machine, and all that may come between them.

A model small enough to go through all that can happen, some moves deep.  The
claims are real, and so are the requests that carry their orders out; the tree
to which these are made is a dictionary.  A request may be long on its way, may
arrive without its reply coming back, and may come late from a session that its
client has given up.
"""

import copy
import re
from dataclasses import dataclass, field, replace

from kazoo.protocol.serialization import CheckVersion, Create, Delete, SetData

from zkfleet.registry import guard, operations
from zkfleet.registry.claim import Claim, Look, Outcome, Sight, Status
from zkfleet.registry.reads import GetChildren, Stat, Unreadable, Znode

PARENT, NAME = "/locks", "primary"
ZNODE = f"{PARENT}/{NAME}"


class Taken(AssertionError):
    """A lock of a session that lives, with its process, was removed, replaced or written by another one."""


@dataclass
class Side:
    """A process, with its claim; processes have numbers that are never used again."""

    number: int
    claim: Claim
    session: int
    former: tuple = ()
    linked: bool = False
    told: bool = True
    order: object = None

    def copied(self):
        return replace(self, claim=copy.copy(self.claim))


@dataclass
class Contest:
    """The state of it all; `moves` are all that may happen next, and `do` lets one happen."""

    is_lock: bool = True
    sides: list = field(default_factory=list)
    tree: dict = field(default_factory=lambda: {PARENT: (0, b"", 0, 0)})
    sessions: dict = field(default_factory=dict)  # by id: the number of the process
    strays: list = field(default_factory=list)  # (session, requests): sent over a link that broke
    count: int = 0
    faults: int = 99  # how many more there may be

    def copied(self):
        return replace(
            self,
            sides=[side.copied() for side in self.sides],
            tree=dict(self.tree),
            sessions=dict(self.sessions),
            strays=list(self.strays),
        )

    def fresh(self):
        self.count += 1
        return self.count

    def enter(self):
        """A process begins, and wants the name."""
        number = self.fresh()
        claim = Claim(PARENT, b"%d" % number, "wait", lambda sight: "", is_lock=self.is_lock)
        self.sides.append(Side(number, claim, 0))
        return len(self.sides) - 1

    # -- what may happen

    def moves(self):
        found = [("arrive", at) for at in range(len(self.strays))]
        for at, side in enumerate(self.sides):
            found += [(name, at) for name in self.moves_of(side)]
        if self.faults:
            used = [side.session for side in self.sides if side.linked]
            found += [("expire", session) for session in self.sessions if session not in used]
            found += [("delete", path) for path in (ZNODE, guard.home_at(PARENT)) if path in self.tree]
        theirs = guard.guard_at(PARENT, NAME)
        if theirs in self.tree and not self.below(theirs):
            found.append(("delete", theirs))  # the server does that
        return found

    def moves_of(self, side):
        if not side.linked:
            yield "link"
        elif side.order is not None:
            yield "answer"
        if side.linked and not side.told:
            yield "tell"
        if side.claim.status is not Status.CLOSED and not side.claim._closing:
            yield "close"
        if self.faults:
            yield "kill"
            if side.linked:
                yield "lose_the_link"
            elif side.session:
                yield "link_in_a_new_session"

    def do(self, move):
        name, at = move
        if name in ("lose_the_link", "link_in_a_new_session", "kill", "expire") or (
            name == "delete" and at != guard.guard_at(PARENT, NAME)
        ):
            self.faults -= 1
        getattr(self, name)(at)

    def link(self, at, anew=False):
        side = self.sides[at]
        if anew or side.session not in self.sessions:
            side.former += (side.session,) if side.session else ()
            side.session = self.fresh()
            self.sessions[side.session] = side.number
        else:
            # What was sent over the connection before does not come any more.
            self.strays = [stray for stray in self.strays if stray[0] != side.session]
        side.linked = side.told = True
        self.take(side, side.claim.connected(side.session))

    def link_in_a_new_session(self, at):
        self.link(at, anew=True)

    def lose_the_link(self, at):
        side = self.sides[at]
        self.let_go(side)
        side.linked = False
        side.claim.suspended()

    def kill(self, at):
        self.let_go(self.sides[at])
        self.sides[at] = None
        self.sides = [side for side in self.sides if side is not None]
        self.enter()  # its supervisor starts it again

    def let_go(self, side):
        if side.order is not None and not isinstance(side.order, Look):
            self.strays.append((side.session, self.requests(side.order)))
        side.order = None

    def close(self, at):
        side = self.sides[at]
        self.take(side, side.claim.close())

    def tell(self, at):
        side = self.sides[at]
        side.told = True
        self.take(side, side.claim.disturbed())

    def answer(self, at):
        side = self.sides[at]
        order, side.order = side.order, None
        if isinstance(order, Look):
            self.take(side, side.claim.saw(self.sight(side)))
        else:
            done = self.carry_out(side.session, self.requests(order))
            self.take(side, side.claim.ended(Outcome.DONE if done else Outcome.COLLISION, self.count))

    def arrive(self, at):
        session, requests = self.strays.pop(at)
        if session in self.sessions:
            self.carry_out(session, requests)

    def expire(self, session):
        del self.sessions[session]
        self.drop([path for path, znode in self.tree.items() if znode[0] == session])

    def delete(self, path):
        self.drop([path, *self.below(path)])

    # -- the tree

    def take(self, side, order):
        if order is not None:
            assert side.order is None, "one order at a time"
            side.order = order

    def below(self, path):
        return [other for other in self.tree if other.startswith(f"{path}/")]

    def drop(self, paths):
        for path in paths:
            self.tree.pop(path, None)
        if ZNODE in paths:
            self.disturb()

    def disturb(self):
        for side in self.sides:
            side.told = False

    def requests(self, order):
        return operations.carrying_out(order, NAME, acl=(), chroot="", witness=f"w{self.fresh()}")

    def carry_out(self, session, requests):
        """Make all changes or none; tell whether they were made."""
        zxid, tree, before = self.fresh(), dict(self.tree), self.tree.get(ZNODE)
        for request in requests:
            path, znode = request.path, tree.get(request.path)
            version = getattr(request, "version", -1)
            if znode is not None and version not in (-1, znode[2]):
                return False
            match request:
                case Create():
                    if znode is not None or path.rpartition("/")[0] not in tree:
                        return False
                    tree[path] = (session if request.flags == operations.EPHEMERAL else 0, request.data, 0, zxid)
                case SetData() | Delete() | CheckVersion() if znode is None:
                    return False
                case SetData():
                    tree[path] = (znode[0], request.data, znode[2] + 1, znode[3])
                case Delete():
                    del tree[path]
        after = tree.get(ZNODE)
        if before is not None and after != before:
            owner = self.sessions.get(before[0])
            living = any(side.number == owner and side.session == before[0] for side in self.sides)
            if living and owner != self.sessions[session]:
                raise Taken(f"session {session} changed what session {before[0]} had")
        self.tree = tree
        if after != before:
            self.disturb()
        return True

    def read(self, read):
        znode = self.tree.get(read.path)
        if znode is None:
            return Unreadable.MISSING
        if isinstance(read, GetChildren):
            return tuple(path.rpartition("/")[2] for path in self.below(read.path))
        owner, data, version, czxid = znode
        return Znode(data, Stat(czxid, 0, 0, 0, version, 0, 0, owner, 0, 0, 0))

    def sight(self, side):
        beside = guard.seen_in([self.read(one) for one in guard.reads(PARENT, NAME)]) if self.is_lock else None
        if ZNODE not in self.tree:
            return Sight(PARENT, guard=beside)
        owner, data, version, czxid = self.tree[ZNODE]
        dead = all(other.number != int(data) for other in self.sides)
        return Sight(PARENT, owner, data, version, ours=owner in side.former, dead=dead, czxid=czxid, guard=beside)

    # -- what must be true

    def check(self):
        """Those who know all that happened, and have nothing under way, tell the truth."""
        owner, *_ = self.tree.get(ZNODE, (None,))
        for side in self.sides:
            if not side.linked or not side.told or side.order is not None:
                continue
            mine = owner == side.session
            status = side.claim.status
            assert (status is Status.REGISTERED) == mine, (status, owner)
            if status is Status.REGISTERED:
                assert side.claim.token == self.tree[ZNODE][3]
            if status is Status.BLOCKED:
                assert owner is not None, "nobody has it, and yet it is waited for"
            if status is Status.CLOSED:
                assert owner != side.session, "what was ours is left"

    def key(self):
        """Equal keys mean that the same may come of it."""
        znode = self.tree.get(ZNODE)
        names = {}

        def renamed(found):
            return names.setdefault(found[0], f"{found[0][0]}{len(names)}")

        claims = [
            (s.session, s.former, s.number, s.linked, s.told, s.order, s.claim.status, s.claim._session, s.claim._again,
             s.claim._under_way, s.claim._closing, s.claim._fresh, s.claim._had, s.claim._written,
             bool(znode) and s.claim.token == znode[3], bool(s.claim.token))
            for s in self.sides
        ]  # fmt: skip
        tree = sorted((path, znode[:3]) for path, znode in self.tree.items())
        return re.sub(r"\bw\d+", renamed, repr((claims, tree, self.sessions, self.strays, self.faults)))
