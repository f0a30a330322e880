"""Who has a session, and until when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkfleet.devserver.sessions import Sessions

TICK = 2.0
TIMES = st.floats(0, 1e7, allow_nan=False)


def a_table(secret=b"secret", first=1_700_000_000_000):
    return Sessions(secret, first, tick=TICK, shortest=4.0, longest=40.0)


@given(wanted=st.floats(-1e6, 1e6))
def test_what_is_granted_is_within_the_bounds_and_what_was_wanted_if_it_can_be(wanted):
    granted = a_table().granted(wanted)
    assert 4.0 <= granted <= 40.0
    assert granted == wanted or not 4.0 <= wanted <= 40.0


@given(now=TIMES, timeout=st.floats(4, 40))
def test_a_session_lives_its_timeout_and_at_most_a_tick_more(now, timeout):
    table = a_table()
    session = table.open(timeout, now=now)
    assert table.expired(now=now + timeout - 0.001) == []
    assert table.expired(now=now + timeout + TICK + 0.001) == [session]


@given(first=TIMES, later=st.floats(0, 3.9))
def test_a_sign_of_life_never_shortens_a_session(first, later):
    table = a_table()
    session = table.open(4.0, now=first)
    (before,) = table.deadlines()
    table.touch(session, now=first + later)
    (after,) = table.deadlines()
    assert after >= before
    assert after > first + later + 4.0


def test_deadlines_are_ends_of_ticks():
    table = a_table()
    for second in range(10):
        table.open(5.0, now=second)
    assert all(deadline % TICK == 0 for deadline in table.deadlines())


def test_ids_are_positive_64_bit_numbers_and_rise():
    table = a_table(first=1 << 60)
    ids = [table.open(4.0, now=0) for _ in range(100)]
    assert ids == sorted(set(ids))
    assert 0 < ids[0] <= ids[-1] < 1 << 63


def test_a_closed_session_is_forgotten_and_its_id_is_not_used_again():
    table = a_table()
    session = table.open(4.0, now=0)
    password = table.password(session)
    table.close(session)
    table.close(session)
    assert not table.resume(session, password, 4.0, now=0)
    assert table.open(4.0, now=0) != session


def test_only_the_right_password_takes_a_session_up_again():
    table = a_table()
    one, other = table.open(4.0, now=0), table.open(4.0, now=0)
    assert not table.resume(one, table.password(other), 10.0, now=1)
    assert not table.resume(one, b"", 10.0, now=1)
    assert table.timeouts[one] == 4.0
    assert table.resume(one, table.password(one), 10.0, now=1)
    assert table.timeouts[one] == 10.0


@pytest.mark.parametrize("session", [-(1 << 63), -1, 0, (1 << 63) - 1])
def test_any_id_has_a_password_that_another_secret_does_not_give(session):
    assert len(a_table().password(session)) == 16
    assert a_table().password(session) != a_table(b"another").password(session)
