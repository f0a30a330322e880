"""What docs/blobs.md says of blobs, with servers of which one takes over from the other."""

import contextlib

import pytest
from ZODB.blob import Blob

import zkfleet.zeo
from tests.conftest import wait_for
from tests.zeo import making
from zkfleet.zeo import Server

pytestmark = pytest.mark.slow


@pytest.fixture
def servers(fleet, tmp_path):
    """A server with blobs, and a standby of it."""
    storage = f"<filestorage 1>\npath {tmp_path}/Data.fs\nblob-dir {tmp_path}/blobs\n</filestorage>"
    config = making.a_config(
        address="127.0.0.1", zookeeper=fleet.session.hosts, path="/db", storage=storage, more="standby on"
    )
    with Server(config) as first:
        wait_for(lambda: first.is_serving)
        with Server(config) as second:
            yield first, second


def add(database, name, data):
    with database.transaction() as connection:
        connection.root()[name] = Blob(data)


def read(database, name):
    with database.transaction() as connection, connection.root()[name].open() as file:
        return file.read()


def files(folder):
    return {file.relative_to(folder) for file in folder.rglob("*.blob")}


@pytest.mark.parametrize("shared", [False, True])
def test_blobs_are_read_and_written_after_a_takeover(fleet, servers, tmp_path, shared):
    first, second = servers
    folder = tmp_path / ("blobs" if shared else "cache")
    options = {"blob_dir": str(folder), "shared_blob_dir": shared, "wait_timeout": 10}
    with contextlib.closing(zkfleet.zeo.DB(fleet, "/db", **options)) as database:
        add(database, "before", b"1" * 100_000)
        first.close()
        wait_for(lambda: second.is_serving)
        assert read(database, "before") == b"1" * 100_000
        add(database, "after", b"2" * 100_000)
        assert len(files(tmp_path / "blobs")) == 2
    # Whoever has nothing yet gets both from the server that took over.
    other = {} if shared else {"blob_dir": str(tmp_path / "other")}
    with contextlib.closing(zkfleet.zeo.DB(fleet, "/db", **options | other)) as database:
        assert read(database, "before") + read(database, "after") == b"1" * 100_000 + b"2" * 100_000
    assert (tmp_path / "other").exists() is not shared


def test_a_blob_in_the_cache_is_read_while_there_is_no_server(fleet, servers, tmp_path):
    first, second = servers
    with contextlib.closing(
        zkfleet.zeo.DB(fleet, "/db", blob_dir=str(tmp_path / "cache"), wait_timeout=10)
    ) as database:
        add(database, "kept", b"kept")
        with database.transaction() as connection:
            blob = connection.root()["kept"]
            blob._p_activate()
            second.close()
            first.close()
            wait_for(lambda: not database.storage.is_connected())
            with blob.open() as file:
                assert file.read() == b"kept"


def test_two_clients_can_have_one_cache_of_blobs_whose_size_is_kept(fleet, servers, tmp_path):
    options = {"blob_dir": str(tmp_path / "cache"), "blob_cache_size": 100_000, "wait_timeout": 10}
    with (
        contextlib.closing(zkfleet.zeo.DB(fleet, "/db", **options)) as one,
        contextlib.closing(zkfleet.zeo.DB(fleet, "/db", **options)) as other,
    ):
        for number in range(20):
            add(one, str(number), bytes([number]) * 20_000)
        assert read(other, "3") == bytes([3]) * 20_000
        wait_for(lambda: sum(file.stat().st_size for file in (tmp_path / "cache").rglob("*.blob")) <= 140_000)
        assert read(one, "3") == read(other, "3")
    assert len(files(tmp_path / "blobs")) == 20
