"""Two servers of one file never give the same object id."""

from contextlib import closing

import pytest
import transaction
import ZEO
from persistent.mapping import PersistentMapping
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage
from ZODB.utils import p64, u64

import zkfleet.zeo
from tests.conftest import wait_for
from tests.zeo.making import a_config, a_filestorage, free_port
from zkfleet.zeo.databases import identify
from zkfleet.zeo.oid_supply import skip_given_oids


@pytest.fixture
def file(tmp_path):
    """The file of a database that is in use."""
    with closing(FileStorage(str(tmp_path / "Data.fs"))) as storage:
        identify(storage)
    return tmp_path / "Data.fs"


def given(file, count=300):
    """Return the ids that a server gives, of which none is committed."""
    with closing(FileStorage(str(file))) as storage:
        skip_given_oids(storage)
        return {storage.new_oid() for _ in range(count)}


def test_no_server_gives_what_another_gave(file):
    every = [given(file) for _ in range(20)]
    assert len(set().union(*every)) == sum(map(len, every))


def test_a_database_without_objects_begins_at_the_beginning(tmp_path):
    assert p64(1) in given(tmp_path / "new.fs")


def test_a_storage_that_is_read_is_left_alone(file):
    with closing(FileStorage(str(file), read_only=True)) as storage:
        skip_given_oids(storage)


@pytest.mark.parametrize("kind", [MappingStorage, DemoStorage])
def test_storages_that_keep_the_account_themselves_are_left_alone(kind):
    with closing(kind()) as storage:
        identify(storage)
        skip_given_oids(storage)
        first, second = storage.new_oid(), storage.new_oid()
        assert u64(second) == u64(first) + 1


@pytest.mark.slow
def test_a_plain_client_goes_on_with_ids_of_the_server_before(file):
    """What it adds takes no other object's place, though the next server's clients added more meanwhile."""
    address = ("127.0.0.1", free_port())
    config = a_config(address=f"{address[0]}:{address[1]}", storage=a_filestorage(file))
    server = zkfleet.zeo.Server(config).start()
    with closing(ZEO.DB(address, wait_timeout=20)) as one, closing(one.open(transaction.TransactionManager())) as mine:
        mine.root()["one"] = PersistentMapping()
        mine.transaction_manager.commit()
        late = PersistentMapping()
        mine.add(late)
        server.close()
        server = zkfleet.zeo.Server(config).start()
        try:
            with closing(ZEO.DB(address, wait_timeout=20)) as other, other.transaction() as connection:
                for n in range(30):
                    connection.root()[n] = PersistentMapping(n=n)
            wait_for(one.storage.is_connected)
            mine.sync()
            assert [mine.root()[n]["n"] for n in range(30)] == list(range(30))
            mine.root()["late"] = late
            for n in range(30):
                mine.root()[f"new{n}"] = PersistentMapping()
            mine.transaction_manager.commit()
            with one.transaction() as connection:
                assert len({value._p_oid for value in connection.root().values()}) == 62
        finally:
            server.close()
