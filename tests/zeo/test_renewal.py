"""A storage in memory is a new database each time that its server starts, and clients go on with it."""

from contextlib import ExitStack

import pytest
from persistent.mapping import PersistentMapping
from ZEO.Exceptions import ClientDisconnected

import zkfleet.zeo
from tests.conftest import wait_for
from tests.zeo.making import a_config, a_filestorage, free_port
from tests.zeo.test_client import count, database
from zkfleet.errors import WrongDatabase
from zkfleet.zeo.cache_file import Kept, remembered

pytestmark = pytest.mark.slow

IN_MEMORY = ["<mappingstorage 1>\n</mappingstorage>", "<demostorage 1>\n</demostorage>"]


@pytest.fixture
def serve(fleet):
    """Starts a server of ours on a storage; what it returns ends it."""
    with ExitStack() as ending:

        def start(storage, port=0):
            config = a_config(
                address=f"127.0.0.1:{port or free_port()}", zookeeper=fleet.session.hosts, path="/db", storage=storage
            )
            return ending.enter_context(zkfleet.zeo.Server(config))

        yield start


@pytest.mark.parametrize("storage", IN_MEMORY, ids=["mapping", "demo"])
@pytest.mark.parametrize("on_behind", ["wait", "clear"])
def test_clients_go_on_with_a_server_that_was_started_again(fleet, serve, storage, on_behind, caplog):
    server = serve(storage)
    with database(fleet, "/db", on_behind=on_behind) as found:
        with found.transaction() as connection:
            connection.root()["old"] = PersistentMapping()
        former = found.storage.database
        server.close()
        serve(storage)
        wait_for(lambda: found.storage.database != former and found.storage.is_connected())
        with found.transaction() as connection:
            assert "old" not in connection.root()
            connection.root()["new"] = 1
        with found.transaction() as connection:
            assert list(connection.root()) == ["new"]
        assert found.storage.database not in ("", former)
    assert caplog.text.count("zeo_database_renewed") == 1


def test_no_object_of_the_former_database_is_taken_for_one_of_the_new(fleet, serve):
    server = serve(IN_MEMORY[0])
    with database(fleet, "/db") as found:
        with found.transaction() as connection:
            connection.root()["it"] = PersistentMapping()
        server.close()
        serve(IN_MEMORY[0])
        with database(fleet, "/db") as other, other.transaction() as connection:
            connection.root()["it"] = Other()
        wait_for(found.storage.is_connected)
        with found.transaction() as connection:
            assert type(connection.root()["it"]) is Other


class Other(PersistentMapping):
    """Another class."""


def test_a_client_that_refuses_hears_what_to_do(fleet, serve):
    server = serve(IN_MEMORY[0])
    with database(fleet, "/db", on_behind="refuse") as found:
        count(found)
        server.close()
        serve(IN_MEMORY[0])
        with pytest.raises(WrongDatabase) as caught:
            found.storage.ping()
        assert "on_behind='clear'" in caught.value.hint


def test_a_client_that_was_told_which_database_to_expect_takes_no_other(fleet, serve):
    server = serve(IN_MEMORY[0])
    with database(fleet, "/db") as found:
        identity = found.storage.database
    with database(fleet, "/db", database=identity) as found:
        server.close()
        serve(IN_MEMORY[0])
        with pytest.raises(WrongDatabase):
            found.storage.ping()


@pytest.mark.parametrize("kinds", [("kept", "memory"), ("memory", "kept")])
def test_only_what_is_in_memory_takes_the_place_of_what_was(fleet, serve, tmp_path, kinds):
    storages = {"kept": a_filestorage(tmp_path / "Data.fs"), "memory": IN_MEMORY[0]}
    server = serve(storages[kinds[0]])
    with database(fleet, "/db") as found:
        count(found)
        server.close()
        serve(storages[kinds[1]])
        with pytest.raises(WrongDatabase):
            found.storage.ping()


def test_a_database_in_memory_that_is_still_there_is_gone_back_to(fleet, serve, zeo):
    one = serve(IN_MEMORY[0])
    with database(fleet, "/db", wait_timeout=1) as found:
        count(found)
        with fleet.register("/db", ("127.0.0.1", free_port()), database={"1": found.storage.database}):
            one.close()
            serve(IN_MEMORY[0])
            with pytest.raises(ClientDisconnected, match="it serves the database"):
                found.storage.ping()
        wait_for(found.storage.is_connected)


def test_a_cache_that_is_kept_is_cleared_for_a_new_database(fleet, serve, tmp_path):
    kept = {"cache": str(tmp_path / "kept.zec")}
    server = serve(IN_MEMORY[0])
    with database(fleet, "/db", **kept) as found:
        count(found)
        former = remembered(found.storage._cache)
    assert former.transient
    server.close()
    serve(IN_MEMORY[0])
    with database(fleet, "/db", **kept) as found:
        assert count(found) == 1
        assert remembered(found.storage._cache) == Kept(found.storage.database, transient=True) != former
