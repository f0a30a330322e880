import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkfleet.zeo.silence import GONE, Action, Silence

TICK = 0.5


def actions(silence, *, until, heard=lambda now: False, gone=lambda now: False):
    """What is done, and when, looking every half second."""
    now, done = 0.0, []
    while now <= until:
        if heard(now):
            silence.heard(now)
        action = silence.step(now=now, gone=gone(now))
        if action is not Action.NOTHING:
            done.append((now, action))
        now += TICK
    return done


def test_who_is_silent_is_asked_and_then_given_up():
    silence = Silence(5, 3, now=0)
    assert actions(silence, until=8) == [(5, Action.ASK), (8, Action.BREAK)]


def test_who_answers_is_kept():
    silence = Silence(5, 3, now=0)
    assert actions(silence, until=12, heard=lambda now: now in (5.5, 11)) == [(5, Action.ASK), (10.5, Action.ASK)]


def test_who_is_gone_from_the_registry_is_asked_at_once_and_given_up_soon():
    silence = Silence(5, 3, now=0)
    assert actions(silence, until=3, gone=lambda now: now >= 1) == [
        (1, Action.ASK),
        *((at, Action.BREAK) for at in (2, 2.5, 3)),
    ]
    assert GONE == 1


def test_who_is_gone_and_busy_with_a_commit_is_asked_at_once_and_has_its_time():
    silence = Silence(5, 3, now=0)
    steps = [silence.step(now=now, gone=True, commits=True) for now in (1, 2, 3.9, 4)]
    assert steps == [Action.ASK, Action.NOTHING, Action.NOTHING, Action.BREAK]


def test_nobody_is_asked_if_that_is_turned_off():
    assert actions(Silence(None, 3, now=0), until=100, gone=lambda now: True) == []


@pytest.mark.parametrize("interval", [5, None])
def test_who_owes_an_answer_is_given_up_when_it_does_not_come(interval):
    silence = Silence(interval, 3, now=0)
    assert [silence.step(now=now, owes=True) for now in (1, 3.9, 4)] == [Action.NOTHING, Action.NOTHING, Action.BREAK]
    silence.heard(now=4)
    assert silence.step(now=8) is Action.NOTHING


@given(
    st.floats(1, 20),
    st.floats(1, 20),
    st.sets(st.integers(0, 80).map(lambda n: n * TICK)),
    st.none() | st.integers(0, 40),
)
def test_nobody_is_given_up_who_was_heard_in_time_and_everybody_who_was_not(interval, timeout, heard, gone_at):
    silence = Silence(interval, timeout, now=0)
    done = actions(silence, until=40, heard=heard.__contains__, gone=lambda now: gone_at is not None and now >= gone_at)
    given_up = next((now for now, action in done if action is Action.BREAK), None)
    bound = interval + timeout + 2 * TICK
    last = max([0, *(at for at in heard if given_up is None or at <= given_up)])
    if given_up is None:
        assert 40 - last < bound
    else:
        assert given_up - last <= bound
        assert given_up - last >= min(timeout, GONE)
        if gone_at is None or given_up < gone_at:
            assert given_up - last >= timeout
