"""The fixtures that we ship, in a project of their own."""

import pytest

from zkfleet.testing import Clock

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


def test_a_clock_stands_still_until_it_is_moved():
    clock = Clock(5)
    assert (clock(), clock()) == (5, 5)
    clock.advance(2.5)
    assert clock() == 7.5
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)
