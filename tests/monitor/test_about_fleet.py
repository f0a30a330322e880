import json
import subprocess
import sys

import pytest
import transaction
import ZODB
from persistent.mapping import PersistentMapping

import zkfleet
from tests.conftest import wait_for
from tests.monitor.conftest import ask
from zkfleet.calls import threads
from zkfleet.monitor import start
from zkfleet.monitor.registries import unregistered
from zkfleet.testing import Proxy

WITHOUT = """
import sys
from zkfleet.monitor.called import calls
from zkfleet.monitor.registries import registrations, session, views, unregistered
from zkfleet.monitor.wording import as_text
print(as_text(session()), as_text(registrations()), as_text(views()), as_text(calls()), unregistered())
print([name for name in ("zkfleet.registry", "zkfleet.calls", "ZODB", "kazoo") if name in sys.modules])
"""


@pytest.fixture
def address(tmp_path):
    with start(str(tmp_path / "m.sock")) as started:
        yield started.address


def rows(address, command, registry):
    """What a command says of one registry of this process."""
    found = json.loads(ask(address, f"json {command}"))["answer"]
    return [row for row in found if row["hosts"] == registry.session.hosts]


def test_the_session_is_told(address, registry):
    [row] = rows(address, "session", registry)
    said = registry.statistics()
    assert row["session"] == f"{said.session_id:x}"
    assert (row["state"], row["reconnects"], row["registrations"], row["timeout"]) == ("connected", 0, 0, 5.0)


def test_registrations_are_told_with_their_problem(address, registry):
    registry.import_tree("/db\n")
    with registry.register("/db", "h:1"), registry.register("/none", "h:2", wait=False) as lost:
        wait_for(lambda: lost.problem)
        good, bad = sorted(rows(address, "registrations", registry), key=lambda row: row["path"])
        assert "h:2 is pending at /none" in ask(address, "ready")
    assert (good["path"], good["addresses"], good["status"], good["problem"]) == ("/db", "h:1", "registered", "")
    assert (bad["path"], bad["status"]) == ("/none", "pending")
    assert "/none" in bad["problem"]
    assert "/none" not in ask(address, "ready")


def test_servers_are_told_as_they_were_in_zc_zk(address, registry):
    registry.import_tree("/db\n/web\n")
    with registry.register("/db", "h:1", weight=7), registry.register("/web", "h:2"), registry.lock("/web", "x"):
        [db] = [one for one in json.loads(ask(address, "servers")) if one["path"] == "/db"]
        assert (db["address"], db["weight"]) == ("h:1", 7)
        with registry.register("/web", "h:3"):
            assert sorted(ask(address, "servers /web").split()) == ["h:2", "h:3"]
        assert ask(address, "servers /web") == "h:2\n"
        assert ask(address, "servers /none") == "\n"
        [told] = json.loads(ask(address, "json servers /db"))["answer"]
        assert (told["address"], told["path"], told["properties"]["weight"]) == ("h:1", "/db", 7)
    assert ask(address, "servers /web") == "\n"


def test_a_lock_that_is_waited_for_is_no_reason_to_be_out_of_work(registry, hosts):
    registry.import_tree("/db\n")
    with zkfleet.connect(hosts) as other, other.lock("/db", "main").wait_until_held(10), registry.lock("/db", "main"):
        assert "/db" not in unregistered()


def test_views_are_told_and_gone_when_they_are_closed(address, registry):
    registry.import_tree("/svc\n  threads = 3\n/lb\n  svc -> /svc\n")
    seen = registry.properties("/lb/svc")
    seen(lambda view: None)
    [row] = rows(address, "views", registry)
    assert (row["path"], row["kind"], row["real_path"], row["stale"]) == ("/lb/svc", "properties", "/svc", None)
    assert (row["subscribers"], row["watches"] >= 1, row["problem"]) == (1, True, "")
    seen.close()
    wait_for(lambda: not rows(address, "views", registry))


@pytest.mark.slow
def test_a_link_that_is_down_makes_views_stale_and_nothing_unregistered(address, zookeeper, hosts):
    with Proxy(zookeeper.port) as proxy:
        chroot = hosts.partition("/")[2]
        with zkfleet.connect(f"127.0.0.1:{proxy.port}/{chroot}") as registry:
            registry.import_tree("/svc\n")
            view, _kept = registry.children("/svc"), registry.register("/svc", "h:1")
            proxy.refuse()
            wait_for(lambda: view.stale_since)
            [row] = rows(address, "session", registry)
            assert row["state"] == "suspended"
            [row] = rows(address, "views", registry)
            assert row["stale"] >= 0
            [row] = rows(address, "registrations", registry)
            assert row["status"] == "suspended"
            assert "h:1" not in ask(address, "ready")


def test_calls_are_counted(address):
    before = json.loads(ask(address, "json calls"))["answer"]
    database = ZODB.DB(None)
    with database.transaction() as connection:
        connection.root.main = PersistentMapping()
    connection = database.open()
    try:
        call = threads.run(connection.root.main.update, {"a": 1})
        assert call is None
    finally:
        transaction.abort()
        connection.close()
        database.close()
    after = json.loads(ask(address, "json calls"))["answer"]
    assert after["calls"] == before["calls"] + 1
    assert after["attempts"] == before["attempts"] + 1
    assert after["conflicts"] == sum(after["conflicts_by_class"].values())
    assert "in_flight" in ask(address, "calls")


@pytest.mark.slow
def test_a_process_without_them_is_not_made_to_load_them():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    assert "does not use zkfleet.calls" in done.stdout
    assert "no registry is open" in done.stdout
    assert done.stdout.endswith("[]\n")
