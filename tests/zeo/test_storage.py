"""What ZODB asks of a client storage: to begin once, in time, and in which order."""

from contextlib import closing

import pytest
from ZEO.Exceptions import ClientDisconnected
from ZODB.POSException import StorageTransactionError

import zkfleet.zeo
from tests.conftest import wait_for
from tests.zeo import making
from zkfleet.devserver import DevServer
from zkfleet.zeo import Server

pytestmark = pytest.mark.slow


def test_a_beginning_that_finds_no_server_ends_in_time_and_lets_others_begin(fleet, zeo):
    with closing(zkfleet.zeo.client(fleet, "/db", wait=False, wait_timeout=0.5)) as storage:
        for _ in range(2):
            with pytest.raises(ClientDisconnected, match="no server is registered"), making.a_transaction(storage):
                pass
        fleet.register("/db", zeo().address)
        wait_for(storage.is_connected)
        with making.a_transaction(storage):
            pass


def test_who_waits_for_another_commit_while_the_server_changes_begins_at_the_new_one(fleet, zeo):
    server = zeo()
    registration = fleet.register("/db", server.address)
    zkfleet.zeo.DB(fleet, "/db").close()  # which makes the root
    with closing(zkfleet.zeo.client(fleet, "/db", wait_timeout=20)) as storage:
        with making.a_transaction(storage):
            waiting = making.Attempt(lambda: making.store_and_finish(storage))
            server.kill()
            registration.close()
            wait_for(lambda: not storage.is_connected())
            assert waiting.outcome(0.1) is None
        assert waiting.outcome(0.1) is None
        fleet.register("/db", zeo().address)
        assert isinstance(waiting.outcome(20), bytes)


def test_a_transaction_that_begins_twice_is_under_way_still(fleet, zeo):
    fleet.register("/db", zeo().address)
    with closing(zkfleet.zeo.client(fleet, "/db")) as storage:
        with making.a_transaction(storage) as t:
            with pytest.raises(StorageTransactionError, match="Duplicate tpc_begin"):
                storage.tpc_begin(t)
            assert storage._boundary.inside
            storage._boundary.close()
            with pytest.raises(StorageTransactionError, match="Duplicate tpc_begin"):
                storage.tpc_begin(t)
            storage._boundary.open()
        assert not storage._boundary.inside


def test_all_clients_of_a_database_commit_in_the_same_order_however_they_name_it(fleet, tmp_path):
    fleet.import_tree("/db\n/app\n  main -> /db\n")
    config = making.a_config(
        address="127.0.0.1",
        zookeeper=fleet.session.hosts,
        path="/db",
        storage="\n".join(making.a_filestorage(tmp_path / f"{name}.fs", name) for name in "12"),
    )
    with Server(config), closing(zkfleet.zeo.client(fleet, "/db", wait_timeout=20)) as one:
        with closing(zkfleet.zeo.client(fleet.session.hosts, "/app/main")) as same:
            assert same.sortKey() == one.sortKey()
        with closing(zkfleet.zeo.client(fleet, "/db", storage="2")) as other:
            assert other.sortKey() != one.sortKey()


def test_the_order_does_not_change_when_the_database_says_which_it_is(fleet, zeo):
    server = zeo()
    with fleet.register("/db", server.address), closing(zkfleet.zeo.client(fleet, "/db", wait_timeout=20)) as storage:
        key = storage.sortKey()
        server.kill()
        wait_for(lambda: not storage.is_connected())
        config = making.a_config(
            address="127.0.0.1",
            zookeeper=fleet.session.hosts,
            path="/db",
            storage=making.a_filestorage(server.file),
        )
        with Server(config):
            wait_for(lambda: storage.database)
            assert storage.sortKey() == key


def test_databases_without_identity_are_told_apart_by_where_they_are(fleet, zeo):
    server = zeo()
    fleet.register("/db", server.address)
    keys = {sort_key(fleet.session.hosts, "/db")}
    with DevServer() as elsewhere, zkfleet.connect(elsewhere.hosts) as registry:
        registry.import_tree("/db\n/app\n  /db\n")
        with registry.register("/db", server.address), registry.register("/app/db", server.address):
            keys.add(sort_key(elsewhere.hosts, "/db"))
            keys.add(sort_key(elsewhere.hosts, "/app/db"))
            assert len(keys) == 3
            forwards = f"127.0.0.1:1,{elsewhere.hosts}"
            backwards = f"{elsewhere.hosts},127.0.0.1:1"
            assert sort_key(f"{forwards}/app", "/db") == sort_key(backwards, "/app/db")


def sort_key(hosts, path):
    with closing(zkfleet.zeo.client(hosts, path)) as storage:
        return storage.sortKey()
