"""Who wants to hear of what."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from zkfleet.devserver.database import Event
from zkfleet.devserver.watches import Kind, Mode, Watches

PATHS = st.sampled_from(["/", "/a", "/a/b", "/a/b/c", "/b"])
WHO = st.integers(1, 3)


def test_a_standard_watch_fires_once_and_for_its_own_path():
    watches = Watches()
    watches.watch_data("/a", 1)
    assert watches.fire(Event.CHANGED, "/a/b") == set()
    assert watches.fire(Event.CHILDREN, "/a") == set()
    assert watches.fire(Event.CHANGED, "/a") == {1}
    assert watches.fire(Event.CHANGED, "/a") == set()


def test_a_watch_of_children_hears_of_them_and_of_the_end():
    watches = Watches()
    watches.watch_children("/a", 1)
    assert watches.fire(Event.CHANGED, "/a") == set()
    assert watches.fire(Event.CHILDREN, "/a") == {1}
    watches.watch_children("/a", 1)
    assert watches.fire(Event.DELETED, "/a") == {1}


def test_one_event_reaches_a_connection_once_however_many_watches_it_has():
    watches = Watches()
    watches.watch_data("/a", 1)
    watches.watch_children("/a", 1)
    assert watches.fire(Event.DELETED, "/a") == {1}
    assert watches.count == 0


def test_a_persistent_watch_stays_and_hears_of_data_and_children():
    watches = Watches()
    watches.add("/a", 1, Mode.PERSISTENT)
    for _ in range(2):
        for event in Event:
            assert watches.fire(event, "/a") == {1}
        assert watches.fire(Event.CREATED, "/a/b") == set()


def test_a_recursive_watch_hears_of_everything_below_but_not_of_lists():
    watches = Watches()
    watches.add("/a", 1, Mode.RECURSIVE)
    for event in (Event.CREATED, Event.CHANGED, Event.DELETED):
        assert watches.fire(event, "/a") == {1}
        assert watches.fire(event, "/a/b/c") == {1}
        assert watches.fire(event, "/ab") == set()
    assert watches.fire(Event.CHILDREN, "/a") == set()
    assert watches.fire(Event.CHILDREN, "/a/b") == set()


def test_a_standard_watch_takes_the_place_of_one_that_stays():
    watches = Watches()
    watches.add("/a", 1, Mode.RECURSIVE)
    watches.watch_data("/a", 1)
    assert watches.fire(Event.CHANGED, "/a") == {1}
    assert watches.fire(Event.CHANGED, "/a") == set()


def test_watches_are_taken_back_by_kind():
    watches = Watches()
    watches.watch_data("/a", 1)
    watches.watch_children("/a", 1)
    assert not watches.remove("/a", 2, Kind.ANY)
    assert watches.remove("/a", 1, Kind.DATA)
    assert not watches.exists("/a", Kind.DATA)
    assert watches.exists("/a", Kind.ANY)
    assert watches.remove("/a", 1, Kind.ANY)
    assert not watches.exists("/a", Kind.ANY)


@given(st.lists(st.tuples(PATHS, WHO, st.sampled_from(Mode))))
def test_nobody_hears_anything_after_leaving(added):
    watches = Watches()
    for path, who, mode in added:
        watches.add(path, who, mode)
    for who in (1, 2, 3):
        watches.drop(who)
    assert watches.count == 0
    assert all(watches.fire(event, "/a/b/c") == set() for event in Event)


class Model(RuleBasedStateMachine):
    """The same, told simply: two tables of who watches what, and how."""

    def __init__(self):
        super().__init__()
        self.watches = Watches()
        self.data, self.children = {}, {}

    @rule(path=PATHS, who=WHO)
    def watch_data(self, path, who):
        self.watches.watch_data(path, who)
        self.data[path, who] = Mode.STANDARD

    @rule(path=PATHS, who=WHO)
    def watch_children(self, path, who):
        self.watches.watch_children(path, who)
        self.children[path, who] = Mode.STANDARD

    @rule(path=PATHS, who=WHO, mode=st.sampled_from([Mode.PERSISTENT, Mode.RECURSIVE]))
    def add(self, path, who, mode):
        self.watches.add(path, who, mode)
        self.data[path, who] = self.children[path, who] = mode

    @rule(path=PATHS, who=WHO, kind=st.sampled_from(Kind))
    def remove(self, path, who, kind):
        tables = {Kind.DATA: [self.data], Kind.CHILDREN: [self.children], Kind.ANY: [self.data, self.children]}[kind]
        removed = [table.pop((path, who), None) is not None for table in tables]
        assert self.watches.remove(path, who, kind) == any(removed)

    @rule(who=WHO)
    def drop(self, who):
        self.watches.drop(who)
        for table in (self.data, self.children):
            for key in [key for key in table if key[1] == who]:
                del table[key]

    @rule(path=PATHS, event=st.sampled_from(Event))
    def fire(self, path, event):
        told = set()
        tables = {Event.CHILDREN: [self.children], Event.DELETED: [self.data, self.children]}.get(event, [self.data])
        for table in tables:
            for (watched, who), mode in list(table.items()):
                above = mode is Mode.RECURSIVE and (path == watched or path.startswith(watched.rstrip("/") + "/"))
                here = watched == path and mode is not Mode.RECURSIVE
                if here or (above and event is not Event.CHILDREN):
                    told.add(who)
                if here and mode is Mode.STANDARD:
                    del table[watched, who]
        assert self.watches.fire(event, path) == told

    @invariant()
    def as_many_as_there_are(self):
        assert self.watches.count == len(self.data) + len(self.children)


class TestModel(Model.TestCase):
    """Run by pytest."""
