"""No claim takes what a living session has: all that may happen, some moves deep, and walks that go deeper."""

import random

import pytest

from tests.registry.contest import Contest, Taken
from zkfleet.registry import operations
from zkfleet.registry.claim import Status


def one_holds_and_two_wait(*, is_lock=True, faults=0):
    contest = Contest(is_lock=is_lock)
    for at in [contest.enter(), contest.enter(), contest.enter()]:
        contest.link(at)
        while contest.sides[at].order is not None:
            contest.answer(at)
    for side in contest.sides:
        side.told = True
    assert [side.claim.status for side in contest.sides] == [Status.REGISTERED, Status.BLOCKED, Status.BLOCKED]
    contest.faults = faults
    return contest


def two_wait_for_a_dead_holder_s(*, is_lock=True, faults=0):
    """Return the state in which a holder was killed, its session lives, and two others have been told."""
    contest = one_holds_and_two_wait(is_lock=is_lock, faults=faults + 1)
    contest.do(("kill", 0))
    contest.sides.pop()  # nobody starts it again
    contest.disturb()
    return contest


def two_wait_for_one_that_closes(*, is_lock=True, faults=0):
    contest = one_holds_and_two_wait(is_lock=is_lock, faults=faults)
    contest.close(0)
    return contest


def search(start, depth):
    """Go through all that may happen in so many moves; return how many states that are."""
    seen, edge = {start.key()}, [start]
    for _ in range(depth):
        following = []
        for state in edge:
            for move in state.moves():
                one = state.copied()
                one.do(move)
                one.check()
                if (key := one.key()) not in seen:
                    seen.add(key)
                    following.append(one)
        edge = following
    return len(seen)


def walk(chance, moves):
    """Let something happen, and then something else, among three processes."""
    contest = Contest()
    for _ in range(3):
        contest.enter()
    for _ in range(moves):
        contest.do(chance.choice(contest.moves()))
        contest.check()


@pytest.mark.parametrize(("start", "faults"), [(two_wait_for_a_dead_holder_s, 0), (two_wait_for_one_that_closes, 1)])
def test_the_search_finds_what_an_equal_version_allows(monkeypatch, start, faults):
    monkeypatch.setattr(operations, "rising", lambda version: 0)
    with pytest.raises(Taken):
        search(start(is_lock=False, faults=faults), 7)


def test_a_version_that_rises_keeps_two_from_replacing_one_registration():
    assert search(two_wait_for_a_dead_holder_s(is_lock=False), 9) > 500


@pytest.mark.parametrize(
    ("start", "faults", "depth"),
    [
        (two_wait_for_a_dead_holder_s, 0, 30),
        (two_wait_for_a_dead_holder_s, 1, 5),
        (two_wait_for_one_that_closes, 1, 6),
    ],
)
def test_nobody_takes_a_living_session_s_lock(start, faults, depth):
    assert search(start(faults=faults), depth) > 500


@pytest.mark.parametrize("seed", range(20))
def test_nobody_does_so_on_long_ways_either(seed):
    walk(random.Random(seed), 100)


@pytest.mark.parametrize("version", [0, 1, 14, 15, 16, 17, 31, 10_000])
def test_what_replaces_a_registration_has_another_version(version):
    assert operations.rising(version) != version
    assert operations.rising(version) < operations.VERSIONS
