"""Links that break and sessions that end, on one real server."""

import json
import os
import re
import threading
import time

import pytest

import zkfleet
from tests.conftest import wait_for
from zkfleet import Status
from zkfleet.errors import ChrootNotFound, ConnectFailed, ForkedSession, NotConnected, UnsupportedServer
from zkfleet.registry.hub import READINGS_AT_ONCE
from zkfleet.registry.session import server_version
from zkfleet.testing import Proxy, expire_session
from zkfleet.testing.zookeeper import four_letters, free_port

pytestmark = [pytest.mark.slow, pytest.mark.faults]


@pytest.fixture
def linked(hosts, proxy):
    """A registry whose link goes through the proxy, and the chroot's own hosts."""
    through = proxy.hosts + hosts[hosts.index("/") :]
    with zkfleet.connect(through, session_timeout=4, timeout=10) as registry:
        registry.import_tree("/svc\n  threads = 1\n  /providers\n")
        yield registry
        proxy.heal()


def test_a_short_break_touches_nothing_and_loses_nothing(linked, proxy, kazoo):
    registration = linked.register("/svc/providers", "h:1")
    view, calls = linked.providers("/svc/providers"), []
    view(lambda v: calls.append(sorted(v)))
    before = kazoo.exists("/svc/providers/h:1")
    proxy.refuse()
    wait_for(lambda: view.stale_since)
    assert registration.status is Status.SUSPENDED
    assert list(view) == ["h:1"]
    kazoo.create("/svc/providers/h:2", b"{}")
    proxy.heal()
    view.wait_until(lambda v: len(v) == 2 and v.stale_since is None)
    assert kazoo.exists("/svc/providers/h:1").czxid == before.czxid
    assert kazoo.exists("/svc/providers/h:1").version == before.version
    wait_for(lambda: calls == [["h:1"], ["h:1", "h:2"]])
    assert linked.statistics().expiries == 0
    assert linked.statistics().reconnects == 1


def test_what_was_deleted_and_made_anew_during_a_break_is_a_change(linked, proxy, kazoo):
    kazoo.create("/svc/providers/h:1", b"{}")
    view, calls = linked.providers("/svc/providers"), []
    view(lambda v: calls.append(dict(v)))
    proxy.refuse()
    wait_for(lambda: view.stale_since)
    kazoo.delete("/svc/providers/h:1")
    kazoo.create("/svc/providers/h:1", b"{}")
    proxy.heal()
    wait_for(lambda: len(calls) == 2)


def test_watches_are_there_again_after_a_break(linked, proxy, kazoo):
    view = linked.properties("/svc")
    proxy.cut()
    view.wait_until(lambda v: linked.statistics().reconnects == 1 and v.stale_since is None)
    kazoo.set("/svc", b'{"threads":2}')
    view.wait_until(lambda v: v["threads"] == 2)


def test_a_black_hole_suspends_and_a_longer_one_costs_the_session(linked, proxy, kazoo):
    registration = linked.register("/svc/providers", "h:1")
    proxy.black_hole()
    wait_for(lambda: registration.status is Status.SUSPENDED, timeout=10)
    wait_for(lambda: not kazoo.exists("/svc/providers/h:1"), timeout=10)
    proxy.heal()
    wait_for(lambda: registration.status is Status.REGISTERED, timeout=10)
    assert kazoo.exists("/svc/providers/h:1").ephemeralOwner == linked.session.session_id


def test_after_an_outage_of_20_seconds_the_link_is_back_within_a_second(hosts, proxy):
    with zkfleet.connect(proxy.hosts, session_timeout=10) as registry:
        view = registry.children("/")
        proxy.refuse()
        wait_for(lambda: view.stale_since)
        threading.Event().wait(20)
        healed = time.monotonic()
        proxy.heal()
        wait_for(lambda: registry.statistics().state == "connected", timeout=10)
        assert time.monotonic() - healed < 1


def test_closing_during_an_outage_ends_with_the_deadline(hosts, proxy):
    registry = zkfleet.connect(proxy.hosts, session_timeout=2, timeout=2)
    proxy.refuse()
    wait_for(lambda: registry.statistics().state == "suspended")
    begun = time.monotonic()
    registry.close()
    assert time.monotonic() - begun < 8


def test_requests_during_an_outage_end_with_a_clear_error(linked, proxy):
    linked.timeout = linked.session.timeout = 0.5
    proxy.refuse()
    wait_for(lambda: linked.statistics().state == "suspended")
    with pytest.raises(NotConnected, match="no link to"):
        linked.get_properties("/svc")
    with pytest.raises(NotConnected):
        linked.register("/svc/providers", "h:1")
    with pytest.raises(NotConnected):
        linked.import_tree("/svc\n  threads = 2\n")


def test_a_reader_that_waits_goes_on_after_the_break(linked, proxy):
    proxy.refuse()
    wait_for(lambda: linked.statistics().state == "suspended")
    read = []
    reader = threading.Thread(target=lambda: read.append(linked.get_properties("/svc")))
    reader.start()
    proxy.heal()
    reader.join(10)
    assert read == [{"threads": 1}]


def test_a_session_that_ends_while_everything_goes_on_is_replaced(linked, hosts, kazoo):
    made = [linked.register("/svc/providers", f"h:{port}") for port in range(1, 21)]
    view = linked.providers("/svc/providers")
    for _ in range(3):
        expire_session(hosts, linked.session.client.client_id)
        former = linked.statistics().expiries
        wait_for(lambda former=former: linked.statistics().expiries > former, timeout=10)
        wait_for(lambda: all(r.status is Status.REGISTERED for r in made), timeout=10)
        assert len(kazoo.get_children("/svc/providers")) == 20
    view.wait_until(lambda v: len(v) == 20 and v.stale_since is None)


def test_a_wiped_ensemble_takes_everything_back_when_the_tree_is_there_again(own_zookeeper):
    tree = "/svc\n  threads = 1\n  /providers\n"
    with zkfleet.connect(own_zookeeper.hosts, session_timeout=2) as registry:
        # The new data must begin at earlier zxids than the client has seen.
        for number in range(200):
            registry.import_tree(f"/svc\n  threads = {number}\n  /providers\n")
        registration = registry.register("/svc/providers", "h:1")
        view = registry.providers("/svc/providers")
        own_zookeeper.wipe()
        with zkfleet.connect(own_zookeeper.hosts) as operator:
            operator.import_tree(tree)
            operator.providers("/svc/providers").wait_until(lambda v: list(v) == ["h:1"], 15)
        wait_for(lambda: registration.status is Status.REGISTERED)
        view.wait_until(lambda v: list(v) == ["h:1"] and v.stale_since is None)


def test_a_server_that_is_killed_and_restarted_finds_everything_again(own_zookeeper):
    # Longer than Java takes to come back on a busy machine: the session is to live on.
    with zkfleet.connect(own_zookeeper.hosts, session_timeout=10) as registry:
        registry.import_tree("/svc\n  /providers\n")
        registration = registry.register("/svc/providers", "h:1")
        view, seen = registry.providers("/svc/providers"), []
        view(lambda v: seen.append(sorted(v)))
        own_zookeeper.restart()
        wait_for(lambda: registration.status is Status.REGISTERED and view.stale_since is None, timeout=15)
        assert list(view) == ["h:1"]
        assert all(state == ["h:1"] for state in seen)


def test_no_zookeeper_is_an_error_that_names_the_hosts_and_the_seconds():
    port = free_port()
    with pytest.raises(ConnectFailed, match=rf"127\.0\.0\.1:{port} within 0\.5 s.*refused"):
        zkfleet.connect(f"127.0.0.1:{port}", timeout=0.5)


def test_waiting_for_zookeeper_goes_on_until_it_is_there(tmp_path, caplog):
    from zkfleet.testing import ZooKeeperServer

    server = ZooKeeperServer(tmp_path / "late")
    found = []

    def connect():
        found.append(zkfleet.connect(server.hosts, timeout=0.3, wait=True))

    waiter = threading.Thread(target=connect)
    waiter.start()
    wait_for(lambda: "zookeeper_unreachable" in caplog.text)
    with server:
        waiter.join(20)
        [registry] = found
        assert registry.exists("/")
        registry.close()


def test_a_chroot_that_is_not_there_is_named(zookeeper):
    with pytest.raises(ChrootNotFound, match="ends with a chroot that is not there: /no/such/chroot"):
        zkfleet.connect(zookeeper.hosts + "/no/such/chroot")


def test_versions_are_read_from_the_server_s_own_words():
    assert server_version("Zookeeper version: 3.8.0-11+deb12u2--1, built on x\nLatency: 0") == (3, 8, 0)
    assert server_version("srvr is not executed because it is not in the whitelist.") is None


def test_a_server_that_is_too_old_is_refused(zookeeper, monkeypatch):
    # Nobody packages one that is: the real server answers, and we ask for more.
    monkeypatch.setattr("zkfleet.registry.session.OLDEST_SERVER", (99, 0))
    with pytest.raises(UnsupportedServer, match=r"runs ZooKeeper 3\.\d"):
        zkfleet.connect(zookeeper.hosts)


def in_a_child(function):
    """Run a function in a forked child and return what it returned, as JSON."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = function()
        except Exception as exc:
            answer = [type(exc).__name__, str(exc)]
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = json.loads(pipe.read())
    os.waitpid(pid, 0)
    return answer


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_process_leaves_its_parent_s_session_alone(registry, kazoo):
    registry.import_tree("/svc\n  /providers\n")
    registration = registry.register("/svc/providers", "h:1")
    name, message = in_a_child(lambda: registry.get_properties("/svc"))
    assert name == ForkedSession.__name__
    assert str(os.getpid()) in message
    view = registry.properties("/svc")
    for use in (
        lambda: view["x"],
        lambda: view.wait_until(lambda v: True),
        lambda: registration.update(weight=1),
        lambda: registration.status.value,
        registration.close,
    ):
        assert in_a_child(use)[0] == ForkedSession.__name__
    in_a_child(registry.close)
    assert registry.get_properties("/svc") == {}
    assert registration.status is Status.REGISTERED
    assert "weight" not in json.loads(kazoo.get("/svc/providers/h:1")[0])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_process_gets_a_session_of_its_own_if_asked(hosts, kazoo):
    kazoo.create("/a", b'{"x":1}')
    with zkfleet.connect(hosts, after_fork="reconnect") as registry:
        view = registry.properties("/a")
        parent = registry.session.session_id

        def child():
            seen = [registry.get_properties("/a"), registry.session.session_id != parent, view["x"]]
            kazoo_free = registry.properties("/a", watch=False)
            kazoo_free["x"] = 2
            view.wait_until(lambda v: v["x"] == 2)
            registry.close()
            return seen

        assert in_a_child(child) == [{"x": 1}, True, 1]
        view.wait_until(lambda v: v["x"] == 2)
        assert registry.session.session_id == parent


def watched(server):
    """How many watches a server keeps."""
    return int(re.search(r"zk_watch_count\t(\d+)", four_letters(server.port, "mntr"))[1])


def test_a_thousand_sessions_leave_nothing_behind(zookeeper, hosts):
    import gc

    import psutil

    process = psutil.Process()
    with zkfleet.connect(hosts) as registry:
        registry.children("/")
    before = (threading.active_count(), process.num_fds())
    watches = watched(zookeeper)
    for _ in range(1000):
        with zkfleet.connect(hosts) as registry:
            registry.children("/")
    gc.collect()
    wait_for(lambda: threading.active_count() <= before[0])
    assert process.num_fds() <= before[1] + 2
    wait_for(lambda: watched(zookeeper) <= watches)


def test_a_thousand_views_come_back_without_a_crowd_of_threads(hosts, proxy):
    through = proxy.hosts + hosts[hosts.index("/") :]
    with zkfleet.connect(through) as registry:
        registry.import_tree("".join(f"/n{number}\n" for number in range(1000)))
        views = [registry.children(f"/n{number}") for number in range(1000)]
        assert registry.statistics().watches == 1000
        idle, counts = threading.active_count(), []
        proxy.cut()
        wait_for(lambda: registry.statistics().reconnects == 1)

        def all_back():
            counts.append(threading.active_count())
            return not any(view.stale_since for view in views)

        wait_for(all_back, timeout=30)
        # The proxy's own relay of the new connection is one of them.
        assert max(counts) - idle <= 4


def test_many_views_do_not_press_a_recovering_server_down(hosts, proxy, monkeypatch):
    through = proxy.hosts + hosts[hosts.index("/") :]
    with zkfleet.connect(through) as registry:
        registry.import_tree("".join(f"/n{number}\n" for number in range(200)))
        views = [registry.children(f"/n{number}") for number in range(200)]
        ask, under_way, most, begun = registry.session.ask, [0], [0], []

        def counted(batch, then):
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
            begun.append(time.monotonic())

            def done(answer, error):
                under_way[0] -= 1
                then(answer, error)

            ask(batch, done)

        monkeypatch.setattr(registry.session, "ask", counted)
        proxy.cut()
        wait_for(lambda: registry.statistics().reconnects == 1)
        wait_for(lambda: not any(view.stale_since for view in views), timeout=30)
        assert most[0] <= READINGS_AT_ONCE
        assert max(begun) - min(begun) > 0.1, "they were not spread over time"


def test_a_proxy_relays_what_it_is_given(zookeeper):
    with Proxy(zookeeper.port) as relay, zkfleet.connect(relay.hosts) as registry:
        assert registry.exists("/")
