import pickle

import pytest

from zkfleet.calls import Policy, asyncio, threads, twisted
from zkfleet.calls.policy import LONGEST
from zkfleet.errors import BadInput


def test_the_old_names_have_the_old_values():
    policy = Policy()
    assert (policy.max_transaction_errors, policy.initial_backoff, policy.backoff_increment, policy.max_backoff) == (
        *(5, 5, 5),
        60,
    )


def test_a_policy_is_a_value():
    policy = Policy(deadline=1, max_errors={OSError: 2})
    assert policy == Policy(deadline=1, max_errors={OSError: 2})
    assert hash(policy) == hash(Policy(deadline=1, max_errors={OSError: 2}))
    assert pickle.loads(pickle.dumps(policy)) == policy
    with pytest.raises(AttributeError):
        policy.deadline = 2


def test_what_was_given_may_change_afterwards():
    limits = {OSError: 2}
    policy = Policy(max_errors=limits)
    limits[OSError] = 9
    assert policy.max_errors == {OSError: 2}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_transaction_errors", -1),
        ("max_transaction_errors", 1.5),
        ("max_transaction_errors", True),
        ("initial_backoff", 0),
        ("initial_backoff", "5"),
        ("backoff_increment", -1),
        ("max_backoff", float("nan")),
        ("max_backoff", float("inf")),
        ("conflict_delay", None),
        ("max_conflict_delay", -0.1),
        ("deadline", 0),
        ("deadline", LONGEST + 1),
        ("outcome_timeout", 1e10),
        ("outcome_timeout", 0),
        ("max_errors", {"OSError": 1}),
        ("max_errors", {KeyboardInterrupt: 1}),
        ("max_errors", {OSError: "never"}),
        ("on_unknown", "ignore"),
        ("results", "allow"),
    ],
)
def test_values_that_there_cannot_be_are_refused(name, value):
    with pytest.raises(BadInput, match=name):
        Policy(**{name: value})


@pytest.mark.parametrize("given", [None, {"deadline": 2}, Policy])
@pytest.mark.parametrize("door", [threads.run, asyncio.Partial, twisted.Partial])
def test_what_is_no_policy_is_refused(door, given):
    if given is None and door is twisted.Partial:
        given = 5  # there it stands for that of the class
    with pytest.raises(BadInput, match="is no zkfleet"):
        door(len, "", policy=given)
