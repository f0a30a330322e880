"""Does the checker of histories find what is wrong, and nothing else?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.history import APPEND, DONE, MAKE, NOT_DONE, PUT, TAKE, UNKNOWN, Operation, breaches, read_log

ALL = [
    Operation(APPEND, "a1", DONE),
    Operation(APPEND, "a2", NOT_DONE),
    Operation(APPEND, "a3", UNKNOWN),
    Operation(PUT, "p1", DONE),
    Operation(PUT, "p2", DONE),
    Operation(TAKE, "p2", DONE),
    Operation(TAKE, "p2", NOT_DONE),
    Operation(PUT, "p3", UNKNOWN),
    Operation(MAKE, "m1", DONE),
    Operation(MAKE, "m1", NOT_DONE),
    Operation(MAKE, "m2", UNKNOWN),
]


@pytest.mark.parametrize("appended", [["a1"], ["a1", "a3"]])
@pytest.mark.parametrize("present", [{"p1", "m1"}, {"p1", "p3", "m1", "m2"}])
def test_a_history_that_is_as_it_was_told_is_right(appended, present):
    assert list(breaches(ALL, appended=appended, present=present)) == []


@pytest.mark.parametrize(
    ("appended", "present", "what"),
    [
        ([], {"p1", "m1"}, "append a1"),  # lost
        (["a1", "a1"], {"p1", "m1"}, "append a1"),  # doubled
        (["a1", "a2"], {"p1", "m1"}, "append a2"),  # it was called not sent
        (["a1", "a3", "a3"], {"p1", "m1"}, "append a3"),  # an unknown one happened twice
        (["a1", "x"], {"p1", "m1"}, "nobody appended"),
        (["a1"], {"m1"}, "p1"),  # lost
        (["a1"], {"p1", "p2", "m1"}, "p2"),  # still there
        (["a1"], {"p1"}, "make m1"),
    ],
)
def test_what_is_wrong_is_found(appended, present, what):
    [found] = breaches(ALL, appended=appended, present=present)
    assert what in found


@pytest.mark.parametrize(
    "more", [Operation(TAKE, "p2", DONE), Operation(TAKE, "p9", DONE), Operation(MAKE, "m1", DONE)]
)
def test_what_two_cannot_both_have_done_is_found(more):
    assert list(breaches([*ALL, more], appended=["a1"], present={"p1", "m1"}))


@given(st.lists(st.sampled_from([DONE, NOT_DONE, UNKNOWN])), st.data())
def test_of_appends_every_count_is_judged(outcomes, data):
    count = data.draw(st.integers(0, 6))
    operations = [Operation(APPEND, "x", outcome) for outcome in outcomes]
    wrong = list(breaches(operations, appended=["x"] * count, present=set()))
    done, unknown = outcomes.count(DONE), outcomes.count(UNKNOWN)
    assert bool(wrong) == (not done <= count <= done + unknown)


def test_an_operation_without_an_end_is_unknown():
    lines = ["begin append a1\n", "end done\n", "begin put p1\n", "end not-"]
    assert list(read_log(lines)) == [Operation(APPEND, "a1", DONE), Operation(PUT, "p1", UNKNOWN)]
