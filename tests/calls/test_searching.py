import functools
import io
import itertools
from collections import OrderedDict, UserDict, deque
from dataclasses import dataclass
from types import MappingProxyType

import pytest
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping

from tests.calls.things import Counter
from zkfleet.calls.searching import DEPTH, find, leave_alone

THING = Counter()
TREE = OOBTree({1: 2})


class Plain:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def method(self):
        pass


@dataclass(slots=True)
class Slotted:
    thing: object


def closed_over():
    return THING


def with_a_cell(thing=None):
    thing = Counter()
    return lambda: thing


def with_defaults(thing=THING):
    pass


def with_keyword_defaults(*, thing=THING):
    pass


async def coroutine():
    pass


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (THING, "it"),
        ([1, THING], "it[1]"),
        (("a", [THING]), "it[1][0]"),
        ({"a": {"b": THING}}, "it['a']['b']"),
        ({frozenset([1]): THING}, "it[frozenset]"),
        ({THING: 1}, "it.keys() Counter"),
        ({1, THING}, None),
        (deque([THING]), "it[0]"),
        (OrderedDict(a=THING), "it['a']"),
        (UserDict(a=THING), "it.data['a']"),
        (Plain(thing=THING), "it.thing"),
        (Plain(thing=THING).method, "it.__self__.thing"),
        (Slotted(THING), "it.thing"),
        (ValueError("x", THING), "it.args[1]"),
        (THING.add, "it.__self__"),
        (TREE.insert, "it.__self__"),
        (functools.partial(print, THING), "it.args[0]"),
        (functools.partial(print, end=THING), "it.keywords['end']"),
        (with_a_cell(), "it (thing)"),
        (with_defaults, "it.__defaults__[0]"),
        (with_keyword_defaults, "it.__kwdefaults__['thing']"),
        ({"a": THING}.values(), "it['a']"),
        ({"a": THING}.items(), "it['a']"),
        ({THING: 1}.keys(), "it.keys() Counter"),
        (OrderedDict(a=THING).values(), "it['a']"),
        (MappingProxyType({"a": THING}), "it['a']"),
        (TREE.keys(), "it"),
        (iter(TREE), "it"),
        (TREE.items(), "it"),
        (PersistentMapping().keys(), "it._mapping"),
        ((n for n in [1]), "it"),
        (map(str, [1]), "it"),
        (iter([1]), "it"),
        (itertools.count(), "it"),
    ],
)
def test_what_is_persistent_or_lazy_is_found(value, place):
    found = find(value, "it", attributes=True)
    assert found
    assert place in (None, found.place)


def test_a_coroutine_is_found():
    value = coroutine()
    try:
        assert find(value, "it", attributes=True)
    finally:
        value.close()


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        "text",
        b"",
        [1, {"a": ("b",)}],
        {1: 2}.items(),
        {1: 2}.values(),
        MappingProxyType({1: 2}),
        Counter,
        len,
        Plain(a=[Plain()]),
        io.StringIO(),
        Plain,
    ],
)
def test_plain_things_are_let_through(value):
    assert find(value, "it", attributes=True) is None


def test_attributes_are_looked_at_only_when_they_are_to_be():
    assert find(Plain(thing=THING), "it", attributes=False) is None
    assert find([THING], "it", attributes=False)


def test_things_that_hold_themselves_are_no_problem():
    loop = []
    loop.append(loop)
    me = Plain()
    me.me = me
    assert find([loop, me], "it", attributes=True) is None


def test_what_is_buried_deeper_than_the_limit_is_not_found():
    value = THING
    for _ in range(DEPTH):
        value = [value]
    assert find(value, "it", attributes=True)
    assert not find([value], "it", attributes=True)


def test_attributes_that_raise_are_left_alone():
    class Hostile:
        __slots__ = ("never",)

        def __repr__(self):
            raise RuntimeError("no")

    assert find({"a": Hostile()}, "it", attributes=True) is None


def private_slot():
    class Kept:
        __slots__ = ("__thing",)

        def __init__(self):
            self.__thing = THING

    return Kept()


def inherited_slot():
    class Kept(Slotted):
        __slots__ = ("other",)

    return Kept(THING)


def overridden_slot():
    class Kept(Slotted):
        __slots__ = ()

        @property
        def thing(self):
            raise RuntimeError("no")

    kept = Kept.__new__(Kept)
    Slotted.__dict__["thing"].__set__(kept, THING)
    return kept


def slots_from_an_iterator():
    class Kept:
        __slots__ = iter(["thing"])

    kept = Kept()
    kept.thing = THING
    return kept


def slot_named_by_a_text():
    class Kept:
        __slots__ = "thing"

    kept = Kept()
    kept.thing = THING
    return kept


def slot_beside_others():
    @dataclass(slots=True, weakref_slot=True)
    class Kept:
        none: object
        thing: object

    return Kept(None, THING)


@pytest.mark.parametrize(
    "make",
    [private_slot, inherited_slot, overridden_slot, slots_from_an_iterator, slot_named_by_a_text, slot_beside_others],
)
def test_objects_are_found_in_slots_of_every_kind(make):
    assert find(make(), "it", attributes=True).value is THING


def test_slots_that_hold_no_objects_are_not_looked_into():
    @dataclass(slots=True, weakref_slot=True)
    class Light:
        number: int

    class Open(Light):
        __slots__ = ("__dict__",)

    assert find([Light(1), Open(1)], "it", attributes=True) is None


def test_what_is_to_be_left_alone_is_not_looked_into():
    class Promise(Plain):
        pass

    assert find(Promise(thing=THING), "result", attributes=True)
    leave_alone(Promise)
    leave_alone(Promise)
    assert find([Promise(thing=THING)], "result", attributes=True) is None
    assert find([Promise(thing=THING), THING], "result", attributes=True).place == "result[1]"
