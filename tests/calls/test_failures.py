import pickle
import threading
import weakref
from dataclasses import dataclass

import pytest
from twisted.python.failure import Failure

from tests.calls.things import Counter
from zkfleet.calls.failures import clean


class Awkward(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")

    def __repr__(self):
        raise AssertionError("no repr")


class Unspeakable(Exception):
    def __str__(self):
        raise AssertionError("no str")

    __repr__ = __str__


class Unpicklable(KeyError):
    def __init__(self, *args):
        super().__init__(*args)
        self.lock = threading.Lock()


@dataclass(frozen=True)
class Frozen(Exception):
    number: int


class Kept:
    """Something in a frame."""


def failed(error, cause=None):
    """An error that was raised, with something in its frame that can be watched."""
    kept = Kept()
    try:
        raise error from cause
    except BaseException as exc:
        return exc, weakref.ref(kept)


def test_no_frames_are_kept_and_the_way_is_told():
    error, kept = failed(KeyError("no"))
    failure = clean(error)
    assert kept() is None
    assert failure.value is error
    assert error.__traceback__ is None
    assert "in failed" in failure.getTraceback()
    assert failure.getErrorMessage() == "'no'"


@pytest.mark.parametrize("how", ["cause", "context", "group", "of a group"])
def test_the_frames_of_what_led_to_it_are_not_kept_either(how):
    first, kept = failed(ValueError("first"))
    match how:
        case "cause":
            error, _ = failed(KeyError("no"), first)
        case "context":
            error, _ = failed(KeyError("no"))
            error.__context__ = first
        case "group":
            error, _ = failed(ExceptionGroup("several", [first]))
        case _:
            error, _ = failed(KeyError("no"), ExceptionGroup("several", [first]))
    clean(error)
    assert kept() is None


def test_causes_in_a_ring_are_no_trap():
    one, other = KeyError(), ValueError()
    one.__cause__, other.__cause__ = other, one
    assert clean(one).check(KeyError)


def test_a_failure_stays_the_failure_that_it_is():
    try:
        raise KeyError("no")
    except KeyError:
        failure = clean(Failure())
    assert failure.check(LookupError)
    assert "test_a_failure_stays" in failure.getTraceback()
    assert failure.value.__traceback__ is None


@pytest.mark.parametrize("error", [KeyError("no"), OSError(2, "no"), SystemExit(3)])
def test_what_can_be_pickled_comes_back_as_it_was(error):
    failure = pickle.loads(pickle.dumps(clean(failed(error)[0])))
    assert type(failure) is Failure
    assert type(failure.value) is type(error)
    assert failure.value.args == error.args
    assert "in failed" in failure.getTraceback()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Awkward(1, 2), "Awkward: 1 and 2"),
        (Frozen(1), "Frozen: 1"),
        (Unpicklable("no"), "Unpicklable: 'no'"),
        (KeyError(lambda: None), "KeyError: <function"),
        (KeyError(Counter()), "KeyError: <tests.calls.things.Counter"),
        (type("Local", (Exception,), {})("here"), "Local: here"),
    ],
)
def test_what_cannot_be_pickled_is_told_instead(error, text):
    clean_one = clean(failed(error)[0])
    failure = pickle.loads(pickle.dumps(clean_one))
    assert type(failure.value) is Exception
    assert text in failure.getErrorMessage()
    assert failure.check(type(error)) is type(error)
    assert clean_one.value is error


class Leading:
    """Something that leads back to a Failure; it knows how often it was pickled."""

    asked = 0

    def __getstate__(self):
        self.asked += 1
        return self.__dict__


def test_an_error_that_leads_back_to_its_failure_is_pickled():
    leading = Leading()
    leading.failure = clean(failed(KeyError(leading))[0])
    failure = pickle.loads(pickle.dumps(leading.failure))
    assert failure.check(KeyError)
    assert failure.value.args[0].failure is failure
    assert leading.asked == 2


def test_pickles_are_small():
    def deep(number):
        big = ["x" * 1000] * 100
        return deep(number - 1) if number else big[number + 1000]

    with pytest.raises(IndexError) as caught:
        deep(20)
    assert len(pickle.dumps(clean(caught.value))) < 2000


def test_errors_that_cannot_be_told_are_logged_all_the_same():
    for error in (Awkward(1, 2), Unspeakable()):
        failure = clean(failed(error)[0])
        assert type(error).__name__ in failure.getTraceback()
        assert type(error).__name__ in str(failure)
