from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zkfleet.registry.agenda import PATIENCE, Agenda, Work


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


def test_what_was_read_while_more_happened_is_not_shown_before_that_was_read():
    agenda = Agenda()
    agenda.connected()
    agenda.end(agenda.begin(), read=True)
    agenda.note("a")
    work = agenda.begin()
    agenda.note("b")
    agenda.end(work, read=True)
    assert not agenda.shows(whole=False)
    agenda.end(agenda.begin(), read=True)
    assert agenda.shows(whole=False)


def test_changes_without_an_end_make_everything_read_at_once_and_that_is_shown():
    agenda = Agenda()
    agenda.connected()
    agenda.end(agenda.begin(), read=True)
    for _ in range(PATIENCE):
        agenda.note("a")
        work = agenda.begin()
        agenda.note("b")
        agenda.end(work, read=True)
        assert not agenda.shows(whole=False)
    work = agenda.begin()
    assert work.everything
    agenda.note("a")
    agenda.end(work, read=True)
    assert agenda.shows(whole=True)


def test_what_can_never_be_read_at_once_is_shown_at_first_and_in_the_end():
    agenda = Agenda()
    agenda.connected()
    shown = []
    for number in range(3 * PATIENCE):
        work = agenda.begin()
        agenda.note()
        agenda.end(work, read=True)
        shown.append(agenda.shows(whole=False, first=number == 0))
    assert shown[0]
    assert any(shown[1:])


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
