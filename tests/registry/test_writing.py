"""Is every write made once, and its outcome told as it is, when a request or its reply is lost?

A relay loses what goes to the server, or what comes from it; somebody else may
write meanwhile; then the link is healed.
"""

import threading

import pytest
from kazoo.security import make_acl

import zkfleet
from tests.conftest import wait_for
from zkfleet.errors import BadPath, NodeNotFound
from zkfleet.testing import Proxy

REQUEST, REPLY = "request", "reply"


@pytest.fixture
def relay(zookeeper):
    with Proxy(zookeeper.port) as relay:
        yield relay


@pytest.fixture
def other(hosts):
    """Somebody else, whose link holds."""
    with zkfleet.connect(hosts) as registry:
        yield registry


@pytest.fixture
def writer(hosts, relay, other):
    """A registry behind the relay, which has written before."""
    other.import_tree("/c\n  n = 0\n")
    with zkfleet.connect(relay.hosts + hosts[hosts.index("/") :], timeout=8) as registry:
        registry.make_node("/w")
        yield registry
        relay.heal()


def lose(relay, what):
    relay.swallow(requests=what == REQUEST, replies=what == REPLY)


def in_a_break(relay, lost, write, meanwhile, happened):
    """Begin a write that loses its request or reply, do something meanwhile, heal; return or raise what it does."""
    outcome = []

    def run():
        try:
            outcome.append(write())
        except Exception as exc:
            outcome.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    wait_for(happened if lost == REPLY else lambda: relay.swallowed)
    meanwhile()
    relay.heal()
    thread.join(10)
    assert not thread.is_alive()
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def increment(properties):
    return {**properties, "n": properties["n"] + 1}


@pytest.mark.parametrize("lost", [REQUEST, REPLY])
def test_no_increment_is_lost_or_doubled(writer, other, relay, lost):
    calls = []

    def change(properties):
        if not calls:
            lose(relay, lost)
        calls.append(properties)
        return increment(properties)

    in_a_break(
        relay,
        lost,
        lambda: writer.change_properties("/c", change),
        lambda: other.change_properties("/c", increment),
        lambda: other.get_properties("/c")["n"] == 1,
    )
    assert other.get_properties("/c")["n"] == 2
    assert len(calls) == (1 if lost == REPLY else 2)


# -- the marks, which nobody sees


@pytest.fixture
def nested(zookeeper, hosts, other):
    """A registry with a chroot of its own below this test's, in which it has written."""
    other.import_tree("/app\n  /sub\n    n = 1\n")
    with zkfleet.connect(f"{hosts}/app") as registry:
        registry.change_properties("/sub", increment)
        yield registry


def test_marks_are_seen_nowhere(nested, other, kazoo):
    assert kazoo.get_children("/app/.zkfleet")
    tree = "/sub\n  n = 2\n"
    assert nested.export_tree() == tree
    assert other.export_tree("/app") == "/app\n  /sub\n    n = 2\n"
    assert list(nested.walk("/")) == ["/", "/sub"]
    assert list(nested.children("/")) == ["sub"]
    assert sorted(nested.tree("/")) == ["/", "/sub"]
    assert nested.plan_tree("/sub\n  n = 2\n", trim=True).steps == ()
    assert nested.doctor() == []


def test_a_write_does_not_wake_whoever_follows_the_root(nested, other):
    calls = []
    nested.children("/")(lambda view: calls.append(list(view)))
    tree = nested.tree("/")
    other.change_properties("/app/sub", increment)
    tree.wait_until(lambda view: view["/sub"]["n"] == 3)
    with zkfleet.connect(nested.session.hosts) as third:
        third.change_properties("/sub", increment)
    tree.wait_until(lambda view: view["/sub"]["n"] == 4)
    assert calls == [["sub"]]


@pytest.mark.parametrize("path", ["/.zkfleet", "/app/.zkfleet/x", "/app/.zkfleet"])
def test_marks_are_nobodys_to_change(nested, other, path):
    with pytest.raises(BadPath, match="belongs to zkfleet"):
        other.make_node(path)
    with pytest.raises(BadPath, match="belongs to zkfleet"):
        other.delete_recursive(path)
    with pytest.raises(BadPath, match="belongs to zkfleet"):
        other.import_tree("/a\n  /b\n    /.zkfleet\n")


def test_a_chroot_is_deleted_with_its_marks_though_a_client_lives_there(nested, other, kazoo):
    assert other.delete_recursive("/app").deleted == ("/app/sub", "/app")
    assert not kazoo.exists("/app")
    with pytest.raises(NodeNotFound):
        nested.change_properties("/sub", increment)
    other.import_tree("/app\n  /sub\n    n = 1\n")
    nested.change_properties("/sub", increment)


def test_a_trim_takes_a_chroot_with_its_marks(nested, other, kazoo):
    other.import_tree("/top\n  /inner\n    /sub\n      n = 1\n")
    with zkfleet.connect(f"{other.session.hosts}/top/inner") as third:
        third.change_properties("/sub", increment)
        other.import_tree("/top\n", trim=True)
    assert kazoo.get_children("/top") == []


def test_a_registry_that_closes_leaves_no_mark(hosts, other, kazoo):
    with zkfleet.connect(hosts) as registry:
        registry.make_node("/x")
    assert kazoo.get_children("/.zkfleet") == []


def test_a_mark_that_somebody_deleted_is_made_anew(other, kazoo):
    other.make_node("/x")
    kazoo.delete("/.zkfleet", recursive=True)
    assert other.make_node("/y")


def test_without_permission_for_marks_writes_go_on_without(hosts, kazoo, caplog):
    kazoo.create("/sub", b'{"n":1}')
    kazoo.set_acls("/", [make_acl("world", "anyone", read=True, admin=True)])
    with zkfleet.connect(hosts) as registry:
        for _ in range(3):
            registry.change_properties("/sub", increment)
        assert registry.get_properties("/sub")["n"] == 4
    assert [record.levelname for record in caplog.records if "marks_refused" in record.message] == ["WARNING"]
