import pytest

from zkfleet.errors import BadInput, ServerBehind, Unavailable, WrongDatabase
from zkfleet.zeo.reasons import Reasons

ONE, TWO = ("127.0.0.1", 1), ("127.0.0.1", 2)
WRONG = WrongDatabase("127.0.0.1:1", found="a", expected="b")
BEHIND = ServerBehind("127.0.0.1:1", has="1", seen="2")
MISSING = BadInput("127.0.0.1:3: it has no storage 'x'")


def reasons(*problems, waits_for_behind=True):
    made = Reasons(waits_for_behind=waits_for_behind)
    for address, problem in problems:
        made.note(address, problem, now=1.0)
    return made


def test_the_same_problem_is_news_once():
    made = reasons()
    assert made.note(ONE, OSError("refused"), now=1)
    assert not made.note(ONE, OSError("refused"), now=2)
    assert made.note(ONE, BEHIND, now=3)
    assert not made.note(ONE, ServerBehind("127.0.0.1:1", has="2", seen="3"), now=4)
    made.forget(ONE)
    assert made.note(ONE, OSError("refused"), now=5)


def test_a_failure_counts_for_the_search_that_it_is_of():
    made = reasons((ONE, OSError("refused")))
    assert made.has_failed(ONE, since=1.0)
    assert not made.has_failed(ONE, since=1.1)
    made.rest(TWO, until=9.0)
    assert not made.has_failed(TWO, since=0.0)


def test_who_stumbles_rests_longer_and_is_forgiven():
    made = reasons()
    assert [made.stumbled(ONE), made.stumbled(ONE)] == [1, 2]
    made.rest(ONE, until=5.0)
    assert not made.may_be_tried(ONE, now=4.9)
    assert made.may_be_tried(ONE, now=5.0)
    assert made.may_be_tried(TWO, now=0.0)
    made.forgive(ONE)
    assert made.may_be_tried(ONE, now=0.0)
    assert made.stumbled(ONE) == 1


@pytest.mark.parametrize(
    ("problems", "left_out", "waits", "is_final"),
    [
        ([], {}, True, False),
        ([(ONE, WRONG)], {}, True, True),
        ([(ONE, WRONG), (TWO, OSError("refused"))], {}, True, False),
        ([(ONE, BEHIND)], {}, True, False),
        ([(ONE, BEHIND)], {}, False, True),
        ([], {"127.0.0.1:3": MISSING}, True, True),
        ([(ONE, WRONG)], {"127.0.0.1:3": MISSING}, True, True),
        ([(ONE, WRONG)], {"127.0.0.1:3": Unavailable("it drains")}, True, False),
    ],
)
def test_it_is_final_if_a_person_must_mend_every_server(problems, left_out, waits, is_final):
    final = reasons(*problems, waits_for_behind=waits).final([address for address, _ in problems], left_out)
    assert (final is not None) == is_final


def test_who_was_not_yet_tried_may_do_better():
    assert reasons((ONE, WRONG)).final([ONE, TWO], {}) is None


def test_a_final_error_is_a_new_one_each_time():
    made = reasons((ONE, WRONG))
    one, other = made.final([ONE], {}), made.final([ONE], {})
    assert one is not other
    assert str(one) == str(other) == str(WRONG)
    assert (one.found, one.expected, one.hint) == ("a", "b", WRONG.hint)


def test_what_is_said_names_each_server_once():
    assert reasons().why([], {}) == "no server is registered"
    said = reasons((ONE, OSError("refused"))).why([ONE, TWO], {"127.0.0.1:3": MISSING})
    assert said == "127.0.0.1:1: refused; 127.0.0.1:2: no answer yet; 127.0.0.1:3: it has no storage 'x'"
