"""Members that are killed, paused and restarted, on an ensemble of three."""

import threading
import time

import pytest

import zkfleet
from tests.conftest import wait_for
from zkfleet import Status

pytestmark = [pytest.mark.slow, pytest.mark.faults]
SERVERS = [f"h:{port}" for port in range(1, 6)]
TIMEOUT = 5.0
BACK_WITHIN = TIMEOUT + 2


@pytest.fixture
def fleet(ensemble):
    """Two registries, one that provides and one that looks, and what its callbacks saw."""
    with (
        zkfleet.connect(ensemble.hosts, session_timeout=TIMEOUT, timeout=30) as provider,
        zkfleet.connect(ensemble.hosts, session_timeout=TIMEOUT, timeout=30) as reader,
    ):
        provider.import_tree("/svc\n  threads = 1\n  /providers\n")
        registrations = [provider.register("/svc/providers", server) for server in SERVERS]
        view, seen = reader.providers("/svc/providers"), []
        view.wait_until(lambda v: list(v) == SERVERS)
        view(lambda v: seen.append(list(v)))
        yield provider, reader, registrations, view, seen


def check_all_is_well(fleet, ensemble):
    """Soon after the ensemble has a leader every registration is there once, and every view equals a fresh read."""
    _, _, registrations, view, seen = fleet
    ensemble.leader()
    deadline = time.monotonic() + BACK_WITHIN
    wait_for(lambda: all(r.status is Status.REGISTERED for r in registrations), timeout=BACK_WITHIN)
    view.wait_until(lambda v: list(v) == SERVERS and v.stale_since is None, deadline - time.monotonic())
    with zkfleet.connect(ensemble.hosts, timeout=30) as fresh:
        now = fresh.providers("/svc/providers")
        assert list(now) == SERVERS
        assert dict(now) == dict(view)
    assert all(set(state) <= set(SERVERS) for state in seen)


def test_the_leader_is_killed(fleet, ensemble):
    leader = ensemble.leader()
    leader.kill()
    check_all_is_well(fleet, ensemble)
    leader.start()
    check_all_is_well(fleet, ensemble)


def test_a_member_is_paused_for_20_seconds(fleet, ensemble):
    member = ensemble.leader()
    member.pause()
    threading.Event().wait(20)
    check_all_is_well(fleet, ensemble)
    member.resume()
    check_all_is_well(fleet, ensemble)


def test_the_data_of_all_members_are_wiped(fleet, ensemble):
    provider, _, _, view, _ = fleet
    ensemble.wipe()
    wait_for(lambda: view.problem or not view or view.stale_since, timeout=30, what="the loss to be noticed")
    with zkfleet.connect(ensemble.hosts, timeout=30) as operator:
        operator.import_tree("/svc\n  threads = 1\n  /providers\n")
    check_all_is_well(fleet, ensemble)
    assert provider.get_properties("/svc") == {"threads": 1}


def test_all_members_are_killed_and_restarted(fleet, ensemble):
    _, _, registrations, view, _ = fleet
    for member in ensemble.members:
        member.kill()
    wait_for(lambda: view.stale_since, what="the view to be stale")
    assert list(view) == SERVERS
    wait_for(lambda: all(r.status is Status.SUSPENDED for r in registrations), what="the suspension")
    ensemble.start()
    check_all_is_well(fleet, ensemble)
