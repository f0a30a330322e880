"""The duty against a model of its world: a lock, a lease, a file, and orders that take their time."""

from math import inf

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zkfleet.zeo.duty import RETRY_AFTER, Duty, Facts, Order, State, Stop
from zkfleet.zeo.lease import Lease

TOKEN = 41


def facts(now=0.0, token=TOKEN, ends_at=10.0, stop=Stop.NO):
    return Facts(now, token, Lease(7, token, ends_at), stop)


def serving():
    duty = Duty()
    assert duty.look(facts()) is Order.OPEN
    duty.opened()
    assert duty.look(facts()) is None
    assert duty.state is State.SERVING
    return duty


def test_nothing_is_opened_without_the_lock_or_without_a_lease():
    duty = Duty()
    assert duty.look(facts(token=0)) is None
    assert duty.look(facts(ends_at=-inf)) is None
    assert duty.look(Facts(0, TOKEN, Lease(7, TOKEN - 1, 10.0))) is None
    assert duty.state is State.WAITING


def test_when_the_lease_is_over_it_aborts_and_waits():
    duty = serving()
    assert duty.wake_at(facts()) == 10.0
    assert duty.look(facts(now=10.0)) is Order.ABORT
    assert (duty.state, duty.token) == (State.WAITING, 0)
    assert duty.look(facts(now=11.0, ends_at=20.0)) is Order.OPEN


def test_another_tenure_is_another_opening():
    duty = serving()
    assert duty.look(facts(token=TOKEN + 1)) is Order.ABORT
    assert duty.look(facts(token=TOKEN + 1)) is Order.OPEN


def test_a_lock_that_was_lost_while_opening_is_aborted_when_that_is_done():
    duty = Duty()
    duty.look(facts())
    assert duty.look(facts(token=0)) is None
    duty.opened()
    assert duty.look(facts(token=0)) is Order.ABORT


def test_a_file_that_is_locked_is_tried_again_soon():
    duty = Duty()
    duty.look(facts())
    duty.locked(now=1.0)
    assert duty.look(facts(now=1.0)) is None
    assert duty.wake_at(facts()) == 1.0 + RETRY_AFTER
    assert duty.look(facts(now=1.0 + RETRY_AFTER)) is Order.OPEN


def test_told_to_stop_it_drains_and_then_gives_the_lock_back():
    duty = serving()
    assert duty.look(facts(stop=Stop.DRAIN)) is Order.DRAIN
    assert duty.look(facts(stop=Stop.DRAIN)) is None
    duty.drained()
    assert duty.look(facts(stop=Stop.DRAIN)) is Order.RELEASE
    assert duty.state is State.STOPPED


def test_told_to_hurry_it_aborts_in_the_middle_of_a_drain():
    duty = serving()
    duty.look(facts(stop=Stop.DRAIN))
    assert duty.look(facts(stop=Stop.NOW)) is Order.ABORT
    assert duty.look(facts(stop=Stop.NOW)) is Order.RELEASE
    duty.drained()
    assert duty.look(facts(stop=Stop.NOW)) is None


def test_a_storage_that_cannot_be_opened_is_left_to_the_others():
    duty = Duty()
    duty.look(facts())
    duty.failed()
    assert duty.look(facts()) is Order.RELEASE


class World(RuleBasedStateMachine):
    """Time, a lock and a lease that come and go; what is open; what was ordered and has not ended."""

    def __init__(self):
        super().__init__()
        self.duty = Duty()
        self.now, self.token, self.tokens = 0.0, 0, 1
        self.lease = Lease()
        self.stop = Stop.NO
        self.open_under = 0
        self.opening = self.draining = self.released = False

    def settle(self):
        """Look until there is nothing to do, as the shell does."""
        for _ in range(5):
            facts = Facts(self.now, self.token, self.lease, self.stop)
            order = self.duty.look(facts)
            allowed = facts.allow(self.duty.token)
            match order:
                case None:
                    return
                case Order.OPEN:
                    assert allowed, "nothing is opened without the lock and a lease"
                    assert not self.open_under, "nothing is opened twice"
                    assert self.stop is Stop.NO
                    self.opening = True
                case Order.ABORT:
                    assert self.open_under
                    self.open_under = 0
                case Order.DRAIN:
                    assert self.open_under
                    assert self.stop is Stop.DRAIN
                    self.draining = True
                case Order.RELEASE:
                    assert not self.open_under, "nothing is released while anything is open"
                    assert not self.opening
                    self.released = True
        raise AssertionError("it never settles")

    @rule(seconds=st.sampled_from([0.01, RETRY_AFTER, 1.0, 5.0]))
    def time_goes_by(self, seconds):
        self.now += seconds
        self.settle()

    @rule()
    def the_lock_is_won(self):
        self.tokens += 1
        self.token = self.tokens
        self.settle()

    @rule()
    def the_lock_is_lost(self):
        self.token = 0
        self.settle()

    @rule(seconds=st.sampled_from([-inf, 0.5, 3.0]))
    def the_lease_is_renewed(self, seconds):
        self.lease = Lease(7, self.token, self.now + seconds)
        self.settle()

    @rule(how=st.sampled_from([Stop.DRAIN, Stop.NOW]))
    def told_to_stop(self, how):
        self.stop = how
        self.settle()

    @precondition(lambda self: self.opening)
    @rule(how=st.sampled_from(["opened", "locked", "failed"]))
    def opening_ends(self, how):
        self.opening = False
        match how:
            case "opened":
                self.open_under = self.duty.token
                self.duty.opened()
            case "locked":
                self.duty.locked(self.now)
            case "failed":
                self.duty.failed()
        self.settle()

    @precondition(lambda self: self.draining)
    @rule()
    def draining_ends(self):
        self.draining, self.open_under = False, 0
        self.duty.drained()
        self.settle()

    @invariant()
    def nobody_serves_without_permission(self):
        facts = Facts(self.now, self.token, self.lease, self.stop)
        if self.open_under:
            assert facts.allow(self.open_under), "what is open is under the lock and a lease"
            assert self.duty.wake_at(facts) > self.now

    @invariant()
    def it_does_what_it_can(self):
        facts = Facts(self.now, self.token, self.lease, self.stop)
        if self.opening or self.draining:
            return
        if self.stop is not Stop.NO:
            assert self.released
            assert self.duty.state is State.STOPPED
        elif facts.allow(self.token) and not self.released:
            assert self.open_under or self.now < self.duty.wake_at(facts) <= self.now + RETRY_AFTER

    @invariant()
    def it_says_how_it_stands(self):
        shown = self.duty.state
        assert (shown in (State.SERVING, State.DRAINING)) == bool(self.open_under)
        assert (shown is State.OPENING) == self.opening


TestWorld = World.TestCase
