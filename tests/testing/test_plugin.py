"""The fixtures that we ship, in a project of their own."""

import contextlib
import time

import pytest

import zkfleet
from tests.conformance.wire import Closed, Wire
from tests.conftest import wait_for
from zkfleet.errors import WaitTimedOut
from zkfleet.testing import Clock, DevServer
from zkfleet.testing.plugin import ZooKeeper
from zkfleet.testing.zookeeper import four_letters

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow

TESTS = """
import threading
import zkfleet

def until(condition):
    for _ in range(1000):
        if condition():
            return True
        threading.Event().wait(0.01)
    return False

def test_a_server_is_empty_and_my_own(zookeeper):
    registry = zookeeper.connect()
    assert registry.export_tree() == ""
    registry.import_tree("/svc\\n  /providers\\n")

def test_it_is_another_one_for_every_test(zookeeper):
    assert zookeeper.connect().export_tree() == ""

def test_it_can_be_broken(zookeeper):
    registry = zookeeper.connect(session_timeout=2)
    registry.import_tree("/svc\\n  /providers\\n")
    registration = registry.register("/svc/providers", "h:1")
    former = registry.session.session_id
    zookeeper.expire_session(registry)
    assert until(lambda: registry.session.session_id not in (0, former))
    registration.wait_until_registered(5)
    zookeeper.restart()
    view = registry.providers("/svc/providers")
    assert until(lambda: list(view) == ["h:1"] and view.stale_since is None)
    zookeeper.pause()
    assert until(lambda: view.stale_since)
    zookeeper.resume()
    assert until(lambda: view.stale_since is None)
    zookeeper.wipe()
    with zkfleet.connect(zookeeper.hosts) as operator:
        assert operator.export_tree() == ""
"""


@pytest.mark.parametrize(("options", "kind"), [([], "DevServer"), (["--zookeeper=real"], "ZooKeeperServer")])
def test_every_test_has_a_server_that_it_may_break(pytester, options, kind):
    pytester.makeconftest('pytest_plugins = ["zkfleet.testing.plugin"]')
    pytester.makepyfile(
        TESTS + f"\ndef test_the_kind(zookeeper):\n    assert type(zookeeper.server).__name__ == {kind!r}\n"
    )
    pytester.runpytest_subprocess("-W", "error", *options).assert_outcomes(passed=4)


def test_a_test_that_ends_with_its_server_paused_waits_for_nothing(own_zookeeper):
    made = ZooKeeper(own_zookeeper)
    made.connect()
    made.pause()
    made.close()
    # The real one may keep an empty set for a while; behind it is how many sessions there are.
    assert four_letters(own_zookeeper.port, "dump").splitlines()[1].endswith("/(0):")


def test_expiring_a_session_of_a_paused_server_says_what_to_do_and_does_nothing(own_zookeeper):
    made = ZooKeeper(own_zookeeper)
    registry = made.connect()
    made.pause()
    begun = time.monotonic()
    with pytest.raises(WaitTimedOut, match="no answer") as caught:
        made.expire_session(registry)
    assert time.monotonic() - begun < 8
    assert "resume()" in caught.value.hint
    made.resume()
    assert registry.export_tree() == ""
    former = registry.session.session_id
    made.expire_session(registry)
    wait_for(lambda: registry.session.session_id not in (0, former))
    made.close()


def test_a_clock_stands_still_until_it_is_moved():
    clock = Clock(5)
    assert (clock(), clock()) == (5, 5)
    clock.advance(2.5)
    assert clock() == 7.5
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


def test_sessions_end_when_the_clock_is_moved_and_neither_silence_nor_pings_change_that():
    clock = Clock()
    with (
        DevServer(tick=0.1, clock=clock) as server,
        zkfleet.connect(server.hosts, session_timeout=0.5) as pinging,
        contextlib.closing(Wire(server.hosts, timeout=500)) as silent,
    ):
        former = pinging.session.session_id
        sessions = {former, silent.session}
        for moved in (0.0, 0.3):
            clock.advance(moved)
            begun, received = time.monotonic(), server.core.received
            # Until both would be over by the clock on the wall.
            wait_for(lambda: server.core.received > received + 2 and time.monotonic() > begun + 1)  # noqa: B023
            assert set(server.core.sessions.timeouts) == sessions
        clock.advance(60)
        wait_for(lambda: pinging.session.session_id not in (0, former))
        assert not set(server.core.sessions.timeouts) & sessions
        with pytest.raises(Closed):
            silent.read()
