"""The claim against a model of ZooKeeper: one znode, sessions that come and go, replies that get lost."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zkfleet.errors import AccessDenied, NodeNotFound, RegistrationConflict
from zkfleet.registry.claim import Claim, Create, Look, Outcome, Remove, Replace, Sight, Status, Write

OLD, ME, OTHER = 5, 7, 9


def claim(policy="wait"):
    return Claim("/svc", b"{}", policy, lambda sight: f"owned by {sight.owner}")


def looked(policy="wait"):
    """A claim whose first create met something."""
    made = claim(policy)
    assert made.connected(ME) == Create("/svc", b"{}")
    assert made.ended(Outcome.COLLISION) == Look("/svc")
    return made


def test_the_first_time_the_znode_is_created_without_a_look():
    made = claim()
    assert made.connected(ME) == Create("/svc", b"{}")
    assert made.ended(Outcome.DONE) is None
    assert (made.status, made.home) == (Status.REGISTERED, "/svc")


def test_a_mere_suspension_sends_nothing():
    made = claim()
    made.connected(ME)
    made.ended(Outcome.DONE)
    made.suspended()
    assert made.status is Status.SUSPENDED
    assert made.disturbed() is None
    assert made.wants(b'{"a":1}') is None


def test_what_is_ours_is_never_created_anew():
    made = looked()
    assert made.saw(Sight("/svc", ME, b"{}", 0)) is None
    assert made.status is Status.REGISTERED


def test_other_properties_are_written_in_place():
    made = looked()
    assert made.saw(Sight("/svc", ME, b"old", 4)) == Write("/svc", b"{}", 4)


def test_the_znode_of_a_former_session_is_replaced_in_one_multi():
    made = looked()
    assert made.saw(Sight("/svc", OLD, b"{}", 2, ours=True)) == Replace("/svc", b"{}", 2)


@pytest.mark.parametrize(
    ("policy", "status"), [("wait", Status.BLOCKED), ("fail", Status.FAILED), ("takeover", Status.PENDING)]
)
def test_somebody_else_s_znode_is_met_by_the_policy(policy, status):
    made = looked(policy)
    order = made.saw(Sight("/svc", OTHER, b"{}", 2))
    assert made.status is status
    assert order == (Replace("/svc", b"{}", 2) if policy == "takeover" else None)
    if policy != "takeover":
        assert isinstance(made.problem, RegistrationConflict)
        assert "owned by 9" in str(made.problem)


@pytest.mark.parametrize("policy", ["wait", "fail", "takeover"])
def test_a_persistent_znode_is_never_touched(policy):
    made = looked(policy)
    assert made.saw(Sight("/svc", 0, b"{}", 2, ours=True)) is None
    assert made.status is Status.FAILED


def test_a_blocked_claim_is_made_when_the_other_is_gone():
    made = looked()
    made.saw(Sight("/svc", OTHER))
    assert made.disturbed() == Look("/svc")
    assert made.saw(Sight("/svc")) == Create("/svc", b"{}")


def test_a_service_that_is_gone_is_looked_for_from_where_the_caller_said():
    made = looked()
    made.saw(Sight("/real", ME, b"{}", 0))
    assert made.disturbed() == Look("/real")
    assert made.saw(Sight(None, problem=NodeNotFound("/real"))) == Look("/svc")
    assert made.saw(Sight(None, problem=NodeNotFound("/svc"))) is None
    assert made.status is Status.PENDING
    assert isinstance(made.problem, NodeNotFound)


def test_a_refusal_fails_the_claim_with_its_reason():
    made = claim()
    made.connected(ME)
    made.refused(AccessDenied("/svc", "create"))
    assert made.status is Status.FAILED


def test_properties_that_may_not_be_written_leave_the_claim_as_it_was():
    made = looked()
    made.saw(Sight("/svc", ME, b"{}", 0))
    assert made.wants(b'{"w":2}') == Look("/svc")
    assert made.saw(Sight("/svc", ME, b"{}", 0)) == Write("/svc", b'{"w":2}', 0)
    assert made.refused(AccessDenied("/svc", "write"))
    assert (made.status, made.data) == (Status.REGISTERED, b"{}")


def test_what_another_registration_of_this_process_holds_is_somebody_else_s():
    made = looked()
    assert made.saw(Sight("/svc", ME, b"{}", 0, taken=True)) is None
    assert made.status is Status.BLOCKED
    made.close()
    assert made.saw(Sight("/svc", ME, b"{}", 0, taken=True)) is None
    assert made.status is Status.CLOSED


def test_a_takeover_happens_once():
    made = looked("takeover")
    assert made.saw(Sight("/svc", OTHER, b"{}", 2)) == Replace("/svc", b"{}", 2)
    made.ended(Outcome.DONE)
    assert made.disturbed() == Look("/svc")
    assert made.saw(Sight("/svc", OTHER, b"{}", 5)) is None
    assert made.status is Status.BLOCKED


def test_the_token_is_that_of_the_znode_which_is_there():
    made = claim()
    made.connected(ME)
    made.ended(Outcome.DONE, 41)
    assert made.token == 41
    made.disturbed()
    made.saw(Sight("/svc", ME, b"{}", 0, czxid=41))
    assert made.token == 41
    made.disturbed()
    made.saw(Sight("/svc"))
    assert made.token == 0
    made.ended(Outcome.DONE, 43)
    assert made.token == 43


def test_closing_before_anything_was_sent_sends_nothing():
    made = claim()
    assert made.close() is None
    assert made.status is Status.CLOSED
    assert made.connected(ME) is None


def test_closing_while_a_create_is_under_way_removes_what_it_made():
    made = claim()
    made.connected(ME)
    assert made.close() is None
    assert made.ended(Outcome.DONE) == Look("/svc")
    assert made.saw(Sight("/svc", ME, b"{}", 0)) == Remove("/svc", 0)
    made.ended(Outcome.DONE)
    assert made.status is Status.CLOSED


def test_closing_leaves_somebody_else_s_znode_alone():
    made = looked()
    made.saw(Sight("/svc", OTHER))
    assert made.close() == Look("/svc")
    assert made.saw(Sight("/svc", OTHER)) is None
    assert made.status is Status.CLOSED


class World(RuleBasedStateMachine):
    """One znode, our claim to it, and everything that may come between."""

    def __init__(self):
        super().__init__()
        self.claim = claim()
        self.session = ME
        self.linked = False
        self.znode = None  # (owner, data, version)
        self.zxid = self.czxid = 0
        self.parent = True
        self.order = None
        self.closing = False
        self.mine = {ME}
        self.noticed = True

    def take(self, order):
        if order is not None:
            assert self.linked, "nothing is sent without a link"
            assert self.order is None, "one order at a time"
            assert not (self.closing and isinstance(order, (Create, Replace, Write))), "a closed claim makes nothing"
            self.order = order

    def tell(self):
        if self.linked:
            self.take(self.claim.disturbed())

    @rule(new=st.booleans())
    def connect(self, new):
        if self.linked:
            return
        if new:
            self.session += 2
            self.mine.add(self.session)
        self.linked, self.order = True, None
        self.take(self.claim.connected(self.session))

    @precondition(lambda self: self.linked)
    @rule(arrived=st.booleans())
    def lose_the_link(self, arrived):
        if arrived and self.order is not None and not isinstance(self.order, Look):
            self.carry_out()
        self.linked, self.order = False, None
        self.claim.suspended()

    @precondition(lambda self: self.znode is not None and self.znode[0] != self.session)
    @rule()
    def expire_the_owner(self):
        self.znode = None
        self.tell()

    @rule(owner=st.sampled_from([OTHER * 1000, 0]))
    def somebody_takes_the_name(self, owner):
        if self.znode is None and self.parent:
            self.znode = (owner, b"theirs", 0)
            self.tell()

    @precondition(lambda self: self.znode is not None)
    @rule()
    def an_operator_deletes_it(self):
        self.znode = None
        self.tell()

    @precondition(lambda self: self.znode is None)
    @rule()
    def the_tree_goes_or_comes(self):
        self.parent = not self.parent
        self.tell()

    @rule(data=st.sampled_from([b"{}", b'{"a":1}']))
    def update(self, data):
        if not self.closing:
            self.take(self.claim.wants(data))

    @rule()
    def close(self):
        self.closing = True
        self.take(self.claim.close())

    @precondition(lambda self: self.order is not None)
    @rule()
    def answer(self):
        order, self.order = self.order, None
        if isinstance(order, Look):
            self.take(self.claim.saw(self.sight()))
        else:
            self.order = order
            outcome = self.carry_out()
            self.order = None
            self.take(self.claim.ended(outcome, self.zxid))

    def sight(self):
        if not self.parent:
            return Sight(None, problem=NodeNotFound("/svc"))
        if self.znode is None:
            return Sight("/svc")
        owner, data, version = self.znode
        return Sight("/svc", owner, data, version, ours=owner in self.mine and owner != self.session, czxid=self.czxid)

    def carry_out(self):
        self.zxid += 1
        match self.order:
            case Create(_, data) if self.parent and self.znode is None:
                self.znode, self.czxid = (self.session, data, 0), self.zxid
            case Write(_, data, version) if self.znode and self.znode[2] == version:
                assert self.znode[0] == self.session, "only our own znode is written"
                self.znode = (self.session, data, version + 1)
            case Replace(_, data, version) if self.znode and self.znode[2] == version:
                self.znode, self.czxid = (self.session, data, 0), self.zxid
            case Remove(_, version) if self.znode and self.znode[2] == version:
                self.znode = None
            case _:
                return Outcome.COLLISION
        return Outcome.DONE

    @invariant()
    def a_settled_claim_tells_the_truth(self):
        if not self.linked or self.order is not None:
            return
        mine = self.znode is not None and self.znode[0] == self.session
        if self.closing:
            assert self.claim.status is Status.CLOSED
            assert not mine
        elif self.claim.status is Status.REGISTERED:
            assert mine
            assert self.znode[1] == self.claim.data
            assert self.claim.token == self.czxid
        else:
            assert not mine
            free = self.parent and (self.znode is None or self.znode[0] in self.mine)
            assert not free, f"nothing is in the way, and yet {self.claim.status}"


TestWorld = World.TestCase
