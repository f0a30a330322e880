"""A kazoo client that is the user's own: it is used, and left as it was."""

import pytest
from kazoo.client import KazooClient

import zkfleet
from tests.conftest import wait_for
from zkfleet import Status
from zkfleet.errors import BadInput, WaitTimedOut
from zkfleet.testing.zookeeper import four_letters


@pytest.fixture
def client(hosts):
    client = KazooClient(hosts)
    client.start()
    yield client
    client.stop()
    client.close()


def test_a_given_client_is_used_and_not_closed(client, kazoo):
    with zkfleet.connect(client=client) as registry:
        registry.import_tree("/svc\n  /providers\n")
        registration = registry.register("/svc/providers", "h:1")
        view = registry.providers("/svc/providers")
        assert kazoo.exists("/svc/providers/h:1").ephemeralOwner == client.client_id[0]
        assert list(view) == ["h:1"]
    assert registration.status is Status.CLOSED
    assert client.connected
    assert client.get_children("/svc/providers") == []


def test_its_own_watches_go_on(client, kazoo):
    heard = []
    with zkfleet.connect(client=client) as registry:
        registry.import_tree("/svc\n/other\n")
        client.get_children("/other", watch=heard.append)
        view = registry.children("/svc")
        kazoo.create("/svc/a")
        kazoo.create("/other/b")
        view.wait_until(lambda v: list(v) == ["a"])
        wait_for(lambda: heard)
        client.get_children("/other", watch=heard.append)
    kazoo.create("/other/c")
    wait_for(lambda: len(heard) == 2)


def test_nothing_is_left_on_it(client):
    before = len(client.state_listeners), dict(client._connection.__dict__)
    with zkfleet.connect(client=client) as registry:
        registry.import_tree("/svc\n")
        assert list(registry.children("/svc")) == []
    assert len(client.state_listeners) == before[0]
    assert client._connection.handler is client.handler
    for name in ("_read_watch_event", "_read_socket", "_invoke", "_send_request", "_expand_client_hosts"):
        assert getattr(client._connection, name).__func__ is getattr(type(client._connection), name)


def test_two_registries_may_use_it_and_one_may_leave(client, kazoo):
    kazoo.create("/svc")
    with zkfleet.connect(client=client) as first:
        view = first.children("/svc")
        with zkfleet.connect(client=client) as second:
            assert list(second.children("/svc")) == []
        kazoo.create("/svc/a")
        view.wait_until(lambda v: list(v) == ["a"], timeout=3)


def test_a_watch_of_its_owner_on_the_same_path_survives_ours(client, kazoo):
    kazoo.create("/svc")
    heard = []
    client.DataWatch("/svc", lambda data, stat: heard.append(data))
    with zkfleet.connect(client=client) as registry:
        registry.properties("/svc").close()
    kazoo.set("/svc", b"{}")
    wait_for(lambda: heard[-1] == b"{}")


@pytest.mark.slow
@pytest.mark.faults
def test_its_session_is_its_owner_s_to_lose(hosts, proxy):
    client, states = KazooClient(proxy.hosts + hosts[hosts.index("/") :], timeout=1.0), []
    client.start()
    client.add_listener(states.append)
    registry = zkfleet.connect(client=client)
    former = client.client_id[0]
    proxy.refuse()
    with zkfleet.connect(hosts) as other:
        wait_for(lambda: f"0x{former:x}" not in four_letters(port_of(other), "dump"), timeout=20)
    proxy.heal()
    wait_for(lambda: states.count("CONNECTED") == 1, timeout=20)
    assert "LOST" in states
    registry.close()
    client.stop()
    client.close()


def port_of(registry):
    return registry.session.client.hosts[0][1]


@pytest.mark.slow
@pytest.mark.faults
def test_closing_without_a_link_says_what_is_left_in_its_session(hosts, proxy, kazoo):
    client = KazooClient(proxy.hosts + hosts[hosts.index("/") :], timeout=10)
    client.start()
    kazoo.ensure_path("/svc/providers")
    registry = zkfleet.connect(client=client, timeout=1)
    registry.register("/svc/providers", "h:1")
    proxy.refuse()
    wait_for(lambda: registry.statistics().state == "suspended")
    with pytest.raises(WaitTimedOut, match="h:1 could not be removed"):
        registry.close()
    proxy.heal()
    client.stop()
    client.close()


def test_it_is_started_if_it_was_not(hosts):
    client = KazooClient(hosts)
    with zkfleet.connect(client=client) as registry:
        assert registry.exists("/")
    assert client.connected
    client.stop()
    client.close()


@pytest.mark.parametrize("options", [{"hosts": "h:1"}, {"auth": [("digest", "u:p")]}, {"tls": zkfleet.TLS()}])
def test_what_it_has_already_is_not_given_again(client, options):
    with pytest.raises(BadInput):
        zkfleet.connect(client=client, **options)
