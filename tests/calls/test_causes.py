import asyncio

import pytest

from zkfleet.calls import find_commit
from zkfleet.errors import CommittedAlready, CommitUnknown


def raised(error, *, cause=None, context=None):
    error.__cause__, error.__context__ = cause, context
    return error


KNOWN = CommittedAlready()
CANCELLED = raised(asyncio.CancelledError(), cause=KNOWN)


@pytest.mark.parametrize(
    "error",
    [
        KNOWN,
        CANCELLED,
        raised(asyncio.CancelledError(), cause=CANCELLED),
        raised(TimeoutError(), cause=CANCELLED),
        raised(TimeoutError(), context=CANCELLED),
        raised(ValueError("of the program"), cause=raised(TimeoutError(), context=CANCELLED)),
    ],
    ids=["itself", "cancelled", "twice", "timeout", "timeout of Python 3.11.2", "program"],
)
def test_an_error_leads_to_what_became_of_the_commit(error):
    assert find_commit(error) is KNOWN


@pytest.mark.parametrize(
    "error",
    [
        None,
        ValueError("no"),
        asyncio.CancelledError(),
        TimeoutError(),
        raised(TimeoutError(), context=asyncio.CancelledError()),
        raised(asyncio.CancelledError(), context=CommitUnknown("an earlier call", None)),
        raised(TimeoutError(), context=CommitUnknown("an earlier call", None)),
        raised(asyncio.CancelledError(), cause=ValueError("no"), context=CANCELLED),
    ],
)
def test_without_one_nothing_was_committed(error):
    assert find_commit(error) is None


def test_causes_in_a_ring_are_no_trap():
    one, other = KeyError(), ValueError()
    one.__cause__, other.__cause__ = other, one
    assert find_commit(one) is None
