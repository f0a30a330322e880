from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkfleet.calls.deciding import (
    Answer,
    AskOutcome,
    AwaitConnection,
    Course,
    Fail,
    Failure,
    Finish,
    Retry,
    Trouble,
)
from zkfleet.calls.policy import Policy
from zkfleet.errors import CommitUnknown

CONFLICT = Failure(OSError("conflict"), Trouble.CONFLICT)
AWAY = Failure(ConnectionError("away"), Trouble.DISCONNECTED)
LOST = Failure(ConnectionError("lost"), Trouble.DISCONNECTED, committing=True, marker="m")
BROKEN = replace(AWAY, error=ConnectionError("broken"), sending=True)
WRONG = Failure(KeyError("wrong"), Trouble.OTHER)


def orders(policy, *failures, chance=1.0):
    course = Course(policy)
    return [course.failed(failure, chance=chance) for failure in failures]


def test_the_fifth_conflict_is_the_last():
    *first, last = orders(Policy(), *[CONFLICT] * 5)
    assert all(isinstance(order, Retry) for order in first)
    assert last == Fail(CONFLICT.error)


def test_pauses_between_conflicts_double_up_to_their_maximum():
    policy = Policy(max_transaction_errors=None, conflict_delay=1, max_conflict_delay=10)
    assert [order.after for order in orders(policy, *[CONFLICT] * 6)] == [1, 2, 4, 8, 10, 10]
    assert [order.after for order in orders(policy, *[CONFLICT] * 3, chance=0.25)] == [0.25, 0.5, 1]


def test_a_hundred_thousand_conflicts_are_no_problem():
    policy = Policy(max_transaction_errors=None)
    course = Course(policy)
    for _ in range(100_000):
        last = course.failed(CONFLICT, chance=1)
    assert last == Retry(policy.max_conflict_delay)


def test_waits_for_the_connection_grow_up_to_their_maximum():
    waits = [order.at_most for order in orders(Policy(), *[AWAY] * 14)]
    assert waits == [5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 60, 60]


def test_conflicts_and_lost_connections_are_counted_apart():
    *first, last = orders(Policy(), *[AWAY] * 20, *[CONFLICT] * 5)
    assert not any(isinstance(order, Fail) for order in first)
    assert last == Fail(CONFLICT.error)


def test_the_fifth_connection_that_is_lost_in_the_commit_is_the_last():
    *first, last = orders(Policy(), *[BROKEN, AWAY] * 4, BROKEN)
    assert {type(order) for order in first} == {AwaitConnection}
    assert last.error is BROKEN.error
    assert "5 times" in last.note


def test_a_connection_that_is_lost_in_the_second_phase_counts_as_well():
    course, told = Course(Policy(max_lost_commits=3)), []
    for failure in [LOST, BROKEN, LOST]:
        course.failed(failure, chance=1) if failure is BROKEN else None
        told.append(course.told(Answer.NOT_COMMITTED, "", failure, chance=1) if failure is LOST else None)
    assert isinstance(told[-1], Fail)


def test_lost_connections_may_be_without_limit():
    assert {type(order) for order in orders(Policy(max_lost_commits=None), *[BROKEN] * 50)} == {AwaitConnection}


def test_there_is_a_pause_after_a_lost_connection_though_none_is_wanted():
    policy = Policy(conflict_delay=0, max_conflict_delay=0)
    pauses = [order.at_least for order in orders(policy, *[AWAY] * 12)]
    assert pauses == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1, 1, 1, 1, 1]
    assert orders(policy, AWAY, chance=0)[0].at_least == 0.005


def test_no_pause_is_longer_than_the_patience_of_the_policy():
    policy = Policy(initial_backoff=0.005, backoff_increment=0, max_backoff=0.005, conflict_delay=0)
    assert {(order.at_least, order.at_most) for order in orders(policy, *[AWAY] * 20)} == {(0.005, 0.005)}


def test_other_errors_are_final():
    assert orders(Policy(), WRONG) == [Fail(WRONG.error)]


def test_limits_of_a_class_go_before_those_of_its_kind():
    policy = Policy(max_errors={LookupError: 3, OSError: None, ConnectionError: 1})
    assert [type(order) for order in orders(policy, *[WRONG] * 3)] == [Retry, Retry, Fail]
    assert {type(order) for order in orders(policy, *[CONFLICT] * 50)} == {Retry}
    assert orders(policy, AWAY) == [Fail(AWAY.error)]


def test_of_several_limits_that_of_the_nearest_class_counts():
    policy = Policy(max_errors={Exception: 1, KeyError: 2})
    assert [type(order) for order in orders(policy, WRONG, WRONG)] == [Retry, Fail]


def test_a_connection_that_is_lost_in_the_commit_is_asked_about_before_anything_else():
    policy = Policy(max_errors={ConnectionError: 1})
    assert orders(policy, LOST) == [AskOutcome()]


@pytest.mark.parametrize("failure", [CONFLICT, AWAY, LOST, WRONG])
def test_whatever_goes_wrong_in_the_second_phase_is_asked_about(failure):
    assert orders(Policy(), replace(failure, committing=True)) == [AskOutcome()]


def test_what_was_committed_is_finished():
    assert Course(Policy()).told(Answer.COMMITTED, "", LOST, chance=0) == Finish()


def test_what_was_not_committed_is_tried_again():
    assert isinstance(Course(Policy()).told(Answer.NOT_COMMITTED, "", LOST, chance=0), AwaitConnection)


def test_what_nobody_knows_is_an_error_with_its_marker():
    order = Course(Policy()).told(Answer.UNKNOWN, "because", LOST, chance=0)
    assert isinstance(order.error, CommitUnknown)
    assert order.error.marker == "m"
    assert "because" in str(order.error)


failures = st.sampled_from([CONFLICT, AWAY, BROKEN, LOST, WRONG])


@given(st.lists(st.tuples(failures, st.sampled_from(Answer)), max_size=40), st.floats(0, 1), st.integers(1, 8))
def test_what_may_be_committed_is_never_repeated_unasked(met, chance, limit):
    course, conflicts, losses = Course(Policy(max_transaction_errors=limit, max_lost_commits=limit)), 0, 0
    for failure, answer in met:
        order = course.failed(failure, chance=chance)
        conflicts += failure is CONFLICT
        losses += failure is BROKEN or (failure is LOST and answer is Answer.NOT_COMMITTED)
        assert isinstance(order, AskOutcome) == failure.committing
        if failure.committing:
            order = course.told(answer, "", failure, chance=chance)
            again = isinstance(order, Retry | AwaitConnection)
            assert again == (answer is Answer.NOT_COMMITTED and losses < limit)
        if isinstance(order, Fail):
            assert failure is WRONG or limit in (conflicts, losses) or answer is Answer.UNKNOWN
            return
        assert max(conflicts, losses) < limit or isinstance(order, Finish)


@given(st.integers(1, 200), st.floats(0, 1), st.floats(0, 5), st.floats(0, 5))
def test_no_pause_is_longer_than_its_maximum(count, chance, delay, longest):
    policy = Policy(max_transaction_errors=None, conflict_delay=delay, max_conflict_delay=longest)
    assert all(0 <= order.after <= longest for order in orders(policy, *[CONFLICT] * count, chance=chance))


@pytest.mark.parametrize("answer", Answer)
def test_a_call_that_may_happen_twice_never_fails_for_a_lost_connection(answer):
    order = Course(Policy(on_unknown="retry")).told(answer, "", LOST, chance=0)
    assert not isinstance(order, Fail)
