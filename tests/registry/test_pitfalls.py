"""What ZooKeeper and kazoo do behind a client's back, each provoked on the real server."""

import pytest
from kazoo.protocol.serialization import Sync

import zkfleet
from tests.conftest import wait_for
from zkfleet import Status
from zkfleet.registry import life
from zkfleet.registry.wire import MultiRead, RemoveWatches, rooted
from zkfleet.testing import expire_session

PROVIDERS = "/svc/providers"


@pytest.fixture
def audited(hosts, monkeypatch):
    """A registry that looks at everything again twice a second."""
    monkeypatch.setattr(life, "AUDIT_SECONDS", 0.5)
    with zkfleet.connect(hosts, session_timeout=5) as registry:
        registry.import_tree("/svc\n  /providers\n")
        yield registry


@pytest.fixture
def tree(registry):
    registry.import_tree("/svc\n  /providers\n")
    return registry


def sent_by(registry, monkeypatch):
    """Return the list that every request is added to from now on, before it is really sent."""
    requests, send = [], registry.session.send

    def record(request, then):
        requests.append(request)
        send(request, then)

    monkeypatch.setattr(registry.session, "send", record)
    return requests


@pytest.mark.slow
def test_a_standard_watch_that_took_the_place_of_ours_is_healed_by_the_audit(audited, kazoo):
    # ZOOKEEPER-4466: up to 3.8 it replaces a recursive watch of the same connection and path.
    view = audited.providers(PROVIDERS)
    audited.session.client.exists(PROVIDERS, watch=lambda event: None)
    kazoo.set(PROVIDERS, b"")  # takes both watches away
    kazoo.create(f"{PROVIDERS}/h:1", b'{"pid":1}')
    view.wait_until(lambda v: "h:1" in v, timeout=10)
    kazoo.set(f"{PROVIDERS}/h:1", b'{"pid":2}')
    view.wait_until(lambda v: v["h:1"] == {"pid": 2}, timeout=10)


@pytest.mark.slow
def test_a_watch_that_the_server_lost_is_found_by_the_audit(audited, kazoo):
    view = audited.providers(PROVIDERS)
    for number in (1, 2):
        gone = []
        request = RemoveWatches(rooted(audited.session.client.chroot, PROVIDERS))
        audited.session.send(request, lambda value, error, zxid, gone=gone: gone.append(error))
        wait_for(lambda gone=gone: gone == [None])
        kazoo.create(f"{PROVIDERS}/h:{number}", b"{}")
        view.wait_until(lambda v, number=number: len(v) == number, timeout=10)


def test_the_list_events_of_a_standard_child_watch_are_not_taken_for_ours(tree, kazoo, monkeypatch):
    # ZOOKEEPER-4475: a recursive watcher is sent them too.
    view = tree.providers("/svc")
    tree.session.client.get_children(PROVIDERS, watch=lambda event: None)
    requests = sent_by(tree, monkeypatch)
    kazoo.create(f"{PROVIDERS}/deep", b"")
    kazoo.create("/svc/h:1", b"{}")
    view.wait_until(lambda v: "h:1" in v)
    reads = [read.path for request in requests if isinstance(request, MultiRead) for read in request.reads]
    assert reads == ["/svc/h:1"]


def test_one_provider_that_joins_costs_one_read(tree, kazoo, monkeypatch):
    for number in range(50):
        kazoo.create(f"{PROVIDERS}/h:{number + 1}", b"{}")
    view = tree.providers(PROVIDERS)
    requests = sent_by(tree, monkeypatch)
    kazoo.create(f"{PROVIDERS}/new:1", b"{}")
    view.wait_until(lambda v: "new:1" in v)
    assert [[read.path for read in request.reads] for request in requests] == [[f"{PROVIDERS}/new:1"]]


@pytest.mark.slow
def test_a_new_session_syncs_before_it_reads(tree, hosts, monkeypatch):
    # The member that it got may lag behind what the old session saw.
    view = tree.children(PROVIDERS)
    requests = sent_by(tree, monkeypatch)
    expire_session(hosts, tree.session.client.client_id)
    wait_for(lambda: tree.statistics().expiries == 1)
    view.wait_until(lambda v: v.stale_since is None)
    assert isinstance(requests[0], Sync)
    assert any(isinstance(request, MultiRead) for request in requests)


@pytest.mark.slow
def test_a_session_that_was_replaced_without_a_word_is_noticed(hosts, proxy, kazoo):
    # kazoo goes from suspended to connected, as if nothing had been lost.
    through = proxy.hosts + hosts[hosts.index("/") :]
    with zkfleet.connect(through, session_timeout=4) as registry:
        registry.import_tree("/svc\n  /providers\n")
        registration = registry.register(PROVIDERS, "h:1")
        former, tap = registry.session.session_id, registry.session.tap
        absent = []
        tap.forget_session(tap.grants)
        proxy.cut()
        while not registry.statistics().expiries or registration.status is not Status.REGISTERED:
            if not kazoo.exists(f"{PROVIDERS}/h:1"):
                absent.append(True)
        assert not absent
        wait_for(lambda: kazoo.exists(f"{PROVIDERS}/h:1").ephemeralOwner == registry.session.session_id)
        assert registry.session.session_id != former
        assert registration.status is Status.REGISTERED
