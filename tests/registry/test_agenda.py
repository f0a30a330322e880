from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zkfleet.registry.agenda import Agenda, Work


def test_nothing_is_read_without_a_link():
    agenda = Agenda()
    assert agenda.begin() is None


def test_a_connection_makes_everything_read():
    agenda = Agenda()
    agenda.connected()
    assert agenda.begin() == Work(True)
    assert agenda.begin() is None


def test_what_happens_during_a_reading_is_read_by_the_next():
    agenda = Agenda()
    agenda.connected()
    work = agenda.begin()
    agenda.note("a")
    assert agenda.end(work, read=True)
    assert not agenda.current
    assert agenda.begin() == Work(False, frozenset("a"))


def test_a_reading_that_failed_is_done_again():
    agenda = Agenda()
    agenda.connected()
    agenda.end(agenda.begin(), read=True)
    agenda.note("a")
    assert not agenda.end(agenda.begin(), read=False)
    assert agenda.begin() == Work(False, frozenset("a"))


def test_a_reading_of_a_former_connection_does_not_count():
    agenda = Agenda()
    agenda.connected()
    work = agenda.begin()
    agenda.suspended()
    agenda.connected()
    assert not agenda.end(work, read=True)
    assert agenda.begin() == Work(True)


class Follower(RuleBasedStateMachine):
    """A model: versions of a few children, of which a reading takes a picture at its end."""

    def __init__(self):
        super().__init__()
        self.agenda = Agenda()
        self.real = dict.fromkeys("abc", 0)
        self.known = {}
        self.linked = False
        self.work = None

    @rule()
    def connect(self):
        self.agenda.connected()
        self.linked, self.work = True, None

    @rule()
    def suspend(self):
        self.agenda.suspended()
        self.linked, self.work = False, None

    @rule(name=st.sampled_from("abc"), told=st.booleans())
    def change(self, name, told):
        self.real[name] += 1
        if self.linked:
            self.agenda.note(name if told else None)

    @precondition(lambda self: self.work is None)
    @rule()
    def begin(self):
        self.work = self.agenda.begin()

    @precondition(lambda self: self.work is not None)
    @rule(read=st.booleans())
    def end(self, read):
        work, self.work = self.work, None
        if self.agenda.end(work, read=read):
            self.known |= self.real if work.everything else {name: self.real[name] for name in work.names}

    @invariant()
    def what_is_current_is_true(self):
        if self.agenda.current:
            assert self.known == self.real


TestFollower = Follower.TestCase
