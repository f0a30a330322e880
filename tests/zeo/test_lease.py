"""The lease against a model of an ensemble whose member dies at the worst moment."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from zkfleet.registry import Standing
from zkfleet.zeo.lease import MARGIN, RENEWED_EVERY, Exchange, Lease

T = 12.0
OURS = Standing(7, 41, linked_at=0.0)


def test_a_fresh_connection_has_been_heard_by_the_leader():
    lease = Lease().confirmed(OURS, Exchange(1, 1), timeout=T)
    assert lease.ends_at == T - MARGIN * T
    assert (lease.holds(10.9, 41), lease.holds(11, 41), lease.holds(1, 42)) == (True, False, False)


def test_what_was_answered_a_quarter_of_the_timeout_before_has_been_heard():
    lease = Lease().confirmed(OURS, Exchange(20, 21), timeout=T)
    assert not lease.holds(21, 41)
    assert not lease.confirmed(OURS, Exchange(23, 23), timeout=T).holds(23, 41)
    assert lease.confirmed(OURS, Exchange(24, 24), timeout=T).ends_at == 20 + 11


def test_renewed_in_time_it_never_ends():
    lease, every = Lease(), RENEWED_EVERY * T
    for n in range(100):
        lease = lease.confirmed(OURS, Exchange(n * every, n * every + 0.1), timeout=T)
        assert lease.holds((n + 3) * every, 41)
    assert len(lease.exchanges) < 5


def test_a_lock_that_is_not_ours_ends_it_at_once():
    lease = Lease().confirmed(OURS, Exchange(1, 1), timeout=T)
    assert lease.confirmed(Standing(7, 0, 0.0), Exchange(2, 2), timeout=T).ends_at == -inf


def test_another_tenure_owes_nothing_to_the_one_before():
    lease = Lease().confirmed(OURS, Exchange(1, 1), timeout=T)
    assert not lease.confirmed(Standing(7, 50, 0.0), Exchange(20, 20), timeout=T).holds(20, 50)
    assert lease.confirmed(Standing(8, 50, -5.0), Exchange(2, 2), timeout=T).exchanges == (Exchange(2, 2),)


def test_nothing_holds_without_a_lock():
    assert not Lease().holds(0, 0)


gaps = st.floats(0, T / 2)
fractions = st.floats(0, 1)


@given(
    linked=st.floats(0, 3 * T),
    exchanges=st.lists(st.tuples(gaps, gaps, fractions), min_size=1, max_size=30),
    half_tick=st.floats(T / 100, T / 4),
    phase=fractions,
    arrival=fractions,
)
def test_it_is_over_before_the_session_can_be(linked, exchanges, half_tick, phase, arrival):
    # Requests are made one after the other: (pause, time for the answer, part of it until the member got it).
    lease, now, arrived = Lease(), linked, []
    for pause, took, way in exchanges:
        asked = now + pause
        now = asked + took
        arrived.append(asked + way * took)
        lease = lease.confirmed(Standing(7, 41, linked), Exchange(asked, now), timeout=T)
        # The leader gets this one, and then the member dies.
        at_leader = arrived[-1] + arrival * (now - arrived[-1])
        report = at_leader - (at_leader - phase * half_tick) % half_tick
        heard = max([linked, *(at for at in arrived if at <= report)])
        assert lease.ends_at + MARGIN * T <= heard + T + 1e-6
