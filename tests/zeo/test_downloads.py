"""Blobs whose download was broken: by the end of a process, of a connection, or by a full disk."""

import errno
import os
import stat
import threading
from contextlib import closing

import pytest
import transaction
from ZEO.Exceptions import ClientDisconnected
from ZODB.blob import Blob

import zkfleet.zeo
from tests.conftest import wait_for
from tests.zeo.making import a_config
from tests.zeo.test_client import database
from tests.zeo.test_move import ProxyOfReplies
from zkfleet.zeo.downloads import Download, Downloads

CONTENT = os.urandom(1000) * 2000


def a_download(tmp_path, *chunks, over=True):
    download = Download(str(tmp_path / "a.blob"))
    for chunk in chunks:
        download.add(chunk)
    if over:
        download.end()
    return download


@pytest.mark.parametrize("size", [6, None])
def test_a_whole_blob_gets_its_name_and_nobody_may_write_to_it(tmp_path, size):
    (tmp_path / "a.blob.dl").write_bytes(b"what a process left that was killed")
    a_download(tmp_path, b"one", b"two").finish(size)
    assert (tmp_path / "a.blob").read_bytes() == b"onetwo"
    assert stat.S_IMODE((tmp_path / "a.blob").stat().st_mode) == stat.S_IREAD
    assert os.listdir(tmp_path) == ["a.blob"]


@pytest.mark.parametrize(("over", "size"), [(True, 7), (True, 5), (False, 6), (False, None)])
def test_a_blob_that_is_not_whole_gets_no_name(tmp_path, over, size):
    download = a_download(tmp_path, b"one", b"two", over=over)
    with pytest.raises(ClientDisconnected, match=r"a\.blob.* is not whole: \d+ bytes came"):
        download.finish(size)
    download.drop()
    assert os.listdir(tmp_path) == []


def test_a_piece_that_cannot_be_written_is_an_error_for_the_one_who_asked(tmp_path):
    (tmp_path / "a.blob.dl").symlink_to("/dev/full")
    download = a_download(tmp_path, b"x" * 100_000, b"y")
    with pytest.raises(OSError, match="No space left"):
        download.finish(None)
    download.drop()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_gone_is_an_error_for_the_one_who_asked(tmp_path):
    download = a_download(tmp_path / "gone", b"x")
    with pytest.raises(FileNotFoundError, match="gone"):
        download.finish(None)
    download.drop()


def test_pieces_that_nobody_waits_for_are_dropped(tmp_path):
    noted = []
    downloads = Downloads(lambda oid, serial: str(tmp_path / "a.blob"), noted.append)
    downloads.add(b"oid", b"serial", b"x")
    downloads.stop(b"oid", b"serial")
    downloads.finish(b"oid", b"serial", None)
    assert (noted, os.listdir(tmp_path)) == ([], [])


# -- with real servers


@pytest.fixture
def served(fleet, tmp_path):
    """A server with a blob; it is registered at `/own`."""
    fleet.import_tree("/own\n")
    storage = f"<filestorage>\n  path {tmp_path}/Data.fs\n  blob-dir {tmp_path}/blobs\n</filestorage>"
    config = a_config(address="127.0.0.1", zookeeper=fleet.session.hosts, path="/own", storage=storage)
    with zkfleet.zeo.Server(config) as server:
        with database(fleet, "/own", blob_dir=str(tmp_path / "first")) as found, found.transaction() as connection:
            connection.root()["file"] = Blob(CONTENT)
        yield server


def read(found):
    with (
        closing(found.open(transaction.TransactionManager())) as connection,
        connection.root()["file"].open() as file,
    ):
        return file.read()


def path_of(found):
    with closing(found.open(transaction.TransactionManager())) as connection:
        oid = connection.root()["file"]._p_oid  # loading its state would download it
    found.storage.fshelper.createPathForOID(oid)
    return found.storage.fshelper.getBlobFilename(oid, found.storage.load(oid)[1])


def files(folder):
    return [file.name for file in folder.rglob("*.blob*")]


@pytest.mark.slow
def test_what_a_killed_process_left_in_the_cache_is_no_part_of_the_blob(fleet, served, tmp_path):
    with database(fleet, "/own", blob_dir=str(tmp_path / "cache")) as found:
        with open(path_of(found) + ".dl", "wb") as file:
            file.write(CONTENT[:100_000])
        assert read(found) == CONTENT
    assert len(files(tmp_path / "cache")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("make", ["ours", "plain"])
def test_a_blob_whose_download_broke_is_asked_for_again_from_its_beginning(fleet, zeo, served, tmp_path, make):
    port = served.address.port
    if make == "plain":
        served.close()
        port = zeo(blobs=tmp_path / "blobs").port
    broke = threading.Event()

    def make_send():
        passed = []

        def send(end, data):
            passed.append(len(data))
            if sum(passed) > len(CONTENT) / 2 and not broke.is_set():
                broke.set()
                raise ConnectionResetError
            end.sendall(data)

        return send

    with ProxyOfReplies(port, make_send) as proxy:
        fleet.register("/db", ("127.0.0.1", proxy.port))
        with database(fleet, "/db", blob_dir=str(tmp_path / "cache"), wait_timeout=10) as found:
            with pytest.raises(ClientDisconnected):
                read(found)
            assert broke.is_set()
            assert files(tmp_path / "cache") == []
            wait_for(found.storage.is_connected)
            assert read(found) == CONTENT
            assert len(files(tmp_path / "cache")) == 1


@pytest.mark.slow
def test_a_full_disk_is_told_and_breaks_no_connection(fleet, served, tmp_path):
    with database(fleet, "/own", blob_dir=str(tmp_path / "cache")) as found:
        os.symlink("/dev/full", path_of(found) + ".dl")
        with pytest.raises(OSError, match="No space left") as caught:
            read(found)
        assert caught.value.errno == errno.ENOSPC
        assert found.storage.outages.number == 0
        assert read(found) == CONTENT


@pytest.mark.slow
def test_a_server_of_ours_says_how_long_a_blob_is(fleet, served, tmp_path):
    with database(fleet, "/own", blob_dir=str(tmp_path / "cache")) as found:
        said, finish = [], found.storage._server.client.downloads.finish

        def finish_and_note(oid, serial, size):
            said.append(size)
            finish(oid, serial, size)

        found.storage._server.client.downloads.finish = finish_and_note
        assert read(found) == CONTENT
        assert said == [len(CONTENT)]
