"""Clients of a server that serves on what another server has: it is the same database to them."""

from contextlib import ExitStack, closing

import pytest
import transaction
import ZEO
from ZEO.Exceptions import ClientDisconnected

import zkfleet.zeo
from tests.conftest import wait_for
from tests.zeo.making import a_config
from tests.zeo.test_client import database
from zkfleet import calls
from zkfleet.calls import threads
from zkfleet.zeo import Outcome

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.usefixtures("quiet")]


@pytest.fixture
def between(fleet, link):
    """A server of ours on the link to a plain one; its clients find it at `/db`."""
    fleet.import_tree("/plain\n")
    hosts = fleet.session.hosts
    fleet.register("/plain", link.address)
    storage = f"<zkzeoclient>\n  zookeeper {hosts}\n  server /plain\n  wait-timeout 1\n</zkzeoclient>"
    config = "%import zkfleet.zeo\n" + a_config(address="127.0.0.1", zookeeper=hosts, path="/db", storage=storage)
    with zkfleet.zeo.Server(config) as server:
        yield server


@pytest.fixture(params=["ours", "plain"])
def client(request, fleet, between):
    with ExitStack() as opened:
        if request.param == "ours":
            yield opened.enter_context(database(fleet, "/db", wait_timeout=20))
        else:
            address = (between.address.host, between.address.port)
            yield opened.enter_context(closing(ZEO.DB(address, wait_timeout=20)))


def add(root):
    root["n"] = root.get("n", 0) + 1
    return root["n"]


def done(db, function):
    with db.transaction() as connection:
        return function(connection.root())


@pytest.mark.parametrize(
    ("call", "what", "expected"),
    [
        ("tpc_finish", "reply", Outcome.COMMITTED),
        ("tpc_finish", "request", Outcome.NOT_COMMITTED),
        ("vote", "reply", Outcome.NOT_COMMITTED),
    ],
)
def test_a_commit_that_is_lost_between_the_servers_can_be_asked_for(link, other, client, call, what, expected):
    done(client, add)
    manager = transaction.TransactionManager()
    with closing(client.open(manager)) as connection:
        marker = zkfleet.zeo.mark(manager.begin())
        add(connection.root())
        link.lose(call, what)
        with pytest.raises(ClientDisconnected):
            manager.commit()
        manager.abort()
    assert zkfleet.zeo.outcome(client, marker).outcome is expected
    n = 2 if expected is Outcome.COMMITTED else 1
    wait_for(lambda: done(other, lambda root: root["n"]) == n)
    assert done(client, add) == n + 1


def test_a_call_whose_reply_is_lost_between_the_servers_happens_once(fleet, between, link, other):
    with database(fleet, "/db", wait_timeout=20) as found:
        done(found, add)
        with closing(found.open(transaction.TransactionManager())) as connection:
            root = calls.ref(connection.root())
        link.lose("tpc_finish", "reply")
        threads.run(add, root)
        assert link.lost.is_set()
        wait_for(lambda: done(other, lambda root: root["n"]) == 2)


def test_what_is_read_while_the_other_server_is_away_may_be_tried_again(server, client, other):
    done(other, lambda root: root.update(big="x"))
    server.kill()
    with pytest.raises(ClientDisconnected):
        client.storage.history(b"\0" * 8)
    server.start()
    wait_for(client.storage.is_connected)
    assert done(client, lambda root: root["big"]) == "x"


def test_an_undo_is_done_and_seen_by_all(fleet, between, client, other):
    with database(fleet, "/db", wait_timeout=20) as third:
        done(client, add)
        done(client, add)
        wait_for(lambda: done(third, lambda root: root["n"]) == 2)
        manager = transaction.TransactionManager()
        client.undo(client.undoLog(0, -1)[0]["id"], manager.begin())
        manager.commit()
        for each in (client, third, other):
            wait_for(lambda each=each: done(each, lambda root: root["n"]) == 1)
