"""A client's files: its cache is its own, and a folder that it shares with its server is the server's."""

import os
import shutil
import subprocess
import sys
import threading
from contextlib import closing

import pytest
from ZODB.blob import Blob, FilesystemHelper

import zkfleet.zeo
from tests.zeo.making import a_config
from tests.zeo.test_client import database
from zkfleet.errors import BadInput
from zkfleet.zeo.blobs import check_shared, token_of


class Store:
    """What has a folder for blobs."""

    def __init__(self, folder):
        self.fshelper = FilesystemHelper(str(folder))
        self.fshelper.create()


def test_a_folder_has_one_token_whoever_asks_first(tmp_path):
    store, tokens = Store(tmp_path), []
    threads = [threading.Thread(target=lambda: tokens.append(token_of(store))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 8
    assert len(set(tokens)) == 1
    assert tokens[0]
    assert sorted(os.listdir(tmp_path)) == [".layout", ".zkfleet", "tmp"]


FULL = """
import resource, signal, sys
from tests.zeo.test_blobs import Store
from zkfleet.zeo.blobs import token_of

store = Store(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
print([token_of(store) for _ in range(3)])
"""


def test_on_a_full_disk_there_is_no_token_and_nothing_is_left(tmp_path):
    store = Store(tmp_path)
    before = sorted(tmp_path.iterdir())
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path], check=True, capture_output=True, text=True)
    assert done.stdout == "['', '', '']\n"
    assert sorted(tmp_path.iterdir()) == before
    assert token_of(store)


def test_a_storage_without_a_folder_has_no_token(tmp_path):
    assert token_of(object()) == ""
    cache = Store(tmp_path)
    cache.fshelper.layout_name = "zeocache"
    assert token_of(cache) == ""


def test_a_folder_is_the_servers_if_it_has_its_token(tmp_path):
    right, other = (Store(tmp_path / name) for name in ("right", "other"))
    token = token_of(right)
    assert check_shared(str(tmp_path / "right"), token, server="s:1")
    assert not check_shared(str(tmp_path / "other"), "", server="s:1")
    with pytest.raises(BadInput, match=r"s:1: blob_dir '.*/other' .* this one has none"):
        check_shared(str(tmp_path / "other"), token, server="s:1")
    token_of(other)
    with pytest.raises(BadInput, match=f"and the server's has {token}"):
        check_shared(str(tmp_path / "other"), token, server="s:1")


@pytest.fixture
def served(fleet, tmp_path):
    storage = f"<filestorage>\n  path {tmp_path}/Data.fs\n  blob-dir {tmp_path}/blobs\n</filestorage>"
    config = a_config(address="127.0.0.1", zookeeper=fleet.session.hosts, path="/db", storage=storage)
    with zkfleet.zeo.Server(config) as server:
        yield server


def shared(folder, **options):
    return {"blob_dir": str(folder), "shared_blob_dir": True, "wait_timeout": 10, **options}


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["nowhere", "empty", "copy", "another"])
def test_a_folder_that_is_not_the_servers_is_refused_when_a_client_is_opened(fleet, served, tmp_path, folder):
    (tmp_path / "empty").mkdir()
    token_of(Store(tmp_path / "another"))
    shutil.copytree(tmp_path / "blobs", tmp_path / "copy")
    with pytest.raises(BadInput, match="is not the folder of this server") as caught:
        zkfleet.zeo.client(fleet, "/db", **shared(tmp_path / folder))
    assert caught.value.hint


@pytest.mark.slow
def test_the_servers_folder_is_taken_by_whatever_name(fleet, served, tmp_path):
    (tmp_path / "link").symlink_to("blobs")
    with database(fleet, "/db", **shared(tmp_path / "link")) as found, found.transaction() as connection:
        connection.root()["file"] = Blob(b"contents")
    with (
        database(fleet, "/db", **shared(tmp_path / "blobs")) as found,
        found.transaction() as connection,
        connection.root()["file"].open() as file,
    ):
        assert file.read() == b"contents"


@pytest.mark.slow
def test_of_a_plain_servers_folder_it_is_said_that_it_is_not_known(fleet, zeo, tmp_path, caplog):
    server = zeo(blobs=tmp_path / "blobs")
    fleet.register("/db", server.address)
    with pytest.raises(BadInput, match="there is no such folder"):
        zkfleet.zeo.client(fleet, "/db", **shared(tmp_path / "nowhere"))
    zkfleet.zeo.client(fleet, "/db", **shared(tmp_path / "blobs")).close()
    assert caplog.text.count(f"zeo_blobs_unchecked server={server.address}") == 1


@pytest.mark.slow
def test_a_cache_of_blobs_and_a_servers_folder_are_not_taken_for_each_other(fleet, served, tmp_path):
    with pytest.raises(BadInput, match="is a server's, and no cache of blobs"):
        zkfleet.zeo.client(fleet, "/db", blob_dir=str(tmp_path / "blobs"))
    zkfleet.zeo.client(fleet, "/db", blob_dir=str(tmp_path / "cache")).close()
    with pytest.raises(BadInput, match="is a client's cache of blobs"):
        zkfleet.zeo.client(fleet, "/db", **shared(tmp_path / "cache"))
    with pytest.raises(BadInput, match="shared_blob_dir needs blob_dir"):
        zkfleet.zeo.client(fleet, "/db", shared_blob_dir=True)


# -- the cache's file


def test_a_cache_file_that_another_process_has_is_an_error_that_names_both(fleet, tmp_path):
    file = tmp_path / "one-1.zec"
    code = "import sys, zc.lockfile; lock = zc.lockfile.LockFile(sys.argv[1]); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code, f"{file}.lock"], stdin=-1, stdout=-1) as other:
        other.stdout.readline()
        with pytest.raises(BadInput, match=f"the cache file {file} is in use by process {other.pid}") as caught:
            zkfleet.zeo.client(fleet, "/db", wait=False, client="one", var=str(tmp_path))
        assert "cache=" in caught.value.hint
        other.communicate(b"\n")
    one = zkfleet.zeo.client(fleet, "/db", wait=False, cache=str(file))
    with closing(one), pytest.raises(BadInput, match="is in use by this process"):
        zkfleet.zeo.client(fleet, "/db", wait=False, cache=str(file))


def test_a_cache_file_that_cannot_be_made_is_an_error_that_names_it(fleet):
    with pytest.raises(BadInput, match=r"/nowhere/one-1.zec.lock"):
        zkfleet.zeo.client(fleet, "/db", wait=False, client="one", var="/nowhere")
