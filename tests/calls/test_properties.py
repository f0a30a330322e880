"""Whatever is passed and returned: objects are the call's own inside of it, and never leave it."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ZODB import DB

from tests.calls.conftest import put
from tests.calls.things import Counter
from zkfleet import calls
from zkfleet.calls import threads
from zkfleet.errors import BadInput, EscapedObject

CONTAINERS = calls.Policy(allow_containers=True)


class Mark:
    """Stands for a persistent object until there is one."""

    def __init__(self, number):
        self.number = number

    def __repr__(self):
        return f"<{self.number}>"


marks = st.integers(0, 2).map(Mark)
leaves = st.none() | st.integers() | st.text(max_size=2)


def nested(leaves):
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.tuples(inner, inner)
            | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        ),
        max_leaves=10,
    )


@pytest.fixture(scope="module")
def connection():
    db = DB(None)
    put(db, counters=[Counter(number) for number in range(3)])
    connection = db.open()
    yield connection
    connection.close()
    db.close()


def swapped(value, kind, swap):
    """The same, with another thing in the place of each of a kind."""
    if isinstance(value, kind):
        return swap(value)
    if isinstance(value, list | tuple):
        return type(value)(swapped(part, kind, swap) for part in value)
    if isinstance(value, dict):
        return {key: swapped(part, kind, swap) for key, part in value.items()}
    return value


def has_marks(shape):
    found = []
    swapped(shape, Mark, found.append)
    return bool(found)


def marked(value):
    """A text that is the same for the same shape."""
    return repr(swapped(value, Counter, lambda counter: Mark(counter.count)))


def shape_inside(_first, value, outside):
    def check(counter):
        assert id(counter._p_jar) != outside
        return Mark(counter.count)

    return repr(swapped(value, Counter, check))


@given(shape=nested(leaves | marks))
def test_in_containers_of_any_shape_objects_are_the_calls_own(connection, shape):
    counters = connection.root()["counters"]
    value = swapped(shape, Mark, lambda mark: counters[mark.number])
    seen = threads.run(Counter.run, counters[0], shape_inside, value, id(connection), policy=CONTAINERS)
    assert seen == repr(shape) == marked(value)


@given(shape=nested(leaves | marks))
@example(shape={"<": None})
def test_containers_with_objects_are_refused_and_others_are_not(connection, shape):
    counters = connection.root()["counters"]
    value = swapped(shape, Mark, lambda mark: counters[mark.number])
    if isinstance(shape, list | tuple | dict) and has_marks(shape):
        with pytest.raises(BadInput):
            threads.run(Counter.run, counters[0], lambda *_: None, value)
    else:
        threads.run(Counter.run, counters[0], lambda *_: None, value)


@given(shape=nested(leaves | marks))
@example(shape={"<": None})
def test_nothing_persistent_ever_comes_back(connection, shape):
    counters = connection.root()["counters"]

    def build(_first, others):
        return swapped(shape, Mark, lambda mark: others[mark.number])

    if has_marks(shape):
        with pytest.raises(EscapedObject):
            threads.run(Counter.run, counters[0], build, list(counters), policy=CONTAINERS)
    else:
        assert threads.run(Counter.run, counters[0], build, list(counters), policy=CONTAINERS) == shape
