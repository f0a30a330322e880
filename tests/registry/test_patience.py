"""How long a member of the ensemble is waited for: the deadlines, without a clock."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from zkfleet.registry.patience import SHORTEST, SILENCE, Patience

timeouts = st.floats(0.5, 60)
addresses = st.integers(1, 9)
TINY = 1e-6


def reach(patience, members, rounds=40):
    """Try members, each a pair of seconds for dial and answer, until one grants a session; return the seconds."""
    now = 0.0
    for _ in range(rounds):
        patience.begin_round(len(members))
        for dial, answer in members:
            allowed = patience.dial()
            now += min(dial, allowed)
            if dial < allowed:
                patience.greet(now)
                left = patience.left(now)
                now += min(answer, left)
                if answer < left:
                    patience.link(10.0, now)
                    return now
            patience.give_up()
    raise AssertionError("no member was reached")


@given(timeouts, addresses)
def test_a_round_in_which_nobody_answers_leaves_time_for_another_within_the_session(timeout, number):
    patience = Patience(timeout)
    patience.begin_round(number)
    left_after_silence = timeout * (1 - SILENCE)
    assert number * patience.seconds <= max(left_after_silence / 2, number * SHORTEST)


@given(timeouts, addresses, st.integers(0, 50))
def test_nobody_is_waited_for_longer_than_a_fair_share_of_the_timeout(timeout, number, rounds):
    patience = Patience(timeout)
    for _ in range(rounds):
        patience.begin_round(number)
        patience.give_up()
    patience.begin_round(number)
    assert 0 < patience.seconds <= timeout / number
    if rounds > 10:
        assert patience.seconds == timeout / number


@given(timeouts, addresses)
def test_all_members_are_waited_for_alike_in_one_round_and_longer_in_the_next(timeout, number):
    patience = Patience(timeout)
    before = 0.0
    for _ in range(4):
        patience.begin_round(number)
        allowed = set()
        for _ in range(number):
            allowed.add(patience.dial())
            patience.give_up()
        [seconds] = allowed
        assert seconds == timeout / number or seconds > before
        before = seconds


@given(timeouts)
def test_refused_connections_make_nobody_more_patient(timeout):
    patience = Patience(timeout)
    patience.begin_round(1)
    first = patience.dial()
    for _ in range(10):
        patience.begin_round(1)
        assert patience.dial() == first


@given(timeouts, st.lists(st.booleans(), max_size=6))
def test_a_member_that_is_well_is_reached_in_the_first_round_whoever_is_dead_or_mute(timeout, others):
    others = [(inf, 0.0) if dead else (0.01, inf) for dead in others]
    members = [*others, (0.01, 0.01)]
    patience = Patience(timeout)
    patience.begin_round(len(members))
    seconds = patience.seconds
    assert reach(Patience(timeout), members) <= len(others) * (seconds + 0.01) + 0.02 + TINY


@given(timeouts, st.integers(1, 5), st.floats(0.05, 0.9))
def test_an_ensemble_that_is_slow_is_reached_all_the_same(timeout, number, part):
    seconds = timeout / number * part
    first = max(timeout / number / 20, min(SHORTEST, timeout / number))
    # Twice a round's seconds for dial and answer, and the doubled rounds before cost as much once more.
    assert reach(Patience(timeout), [(seconds, seconds)] * number) <= number * 8 * max(seconds, first)


@given(timeouts, st.lists(st.floats(0, 30), max_size=8))
def test_a_link_is_given_up_after_two_thirds_of_the_timeout_without_a_byte(granted, pauses):
    patience = Patience(5.0)
    patience.begin_round(3)
    patience.dial()
    patience.greet(0.0)
    patience.link(granted, 1.0)
    now = 1.0
    for pause in pauses:
        now += pause
        assert patience.left(now) <= granted * SILENCE - pause + TINY
        patience.hear(now)
    assert abs(patience.left(now) - granted * SILENCE) < TINY


def test_a_handshake_that_trickles_in_is_not_waited_for_any_longer():
    patience = Patience(10.0)
    patience.begin_round(1)
    patience.dial()
    patience.greet(0.0)
    before = patience.left(0.4)
    patience.hear(0.4)
    assert patience.left(0.4) == before


def test_what_was_granted_counts_and_not_what_was_asked_for():
    patience = Patience(60.0)
    patience.begin_round(2)
    patience.greet(0.0)
    patience.link(4.0, 0.0)
    patience.begin_round(2)
    assert patience.dial() <= 2.0


def test_before_a_session_is_granted_nothing_is_known_to_be_silent():
    # A client that somebody else connected: how long its session may be silent is not known.
    patience = Patience(1.0)
    patience.hear(0.0)
    assert patience.left(1000.0) == inf
