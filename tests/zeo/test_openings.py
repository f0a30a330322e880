import contextlib
import gc
import gzip
import os

import pytest
from ZODB.FileStorage import FileStorage

from tests.zeo import making
from zkfleet.errors import BadInput, Unavailable
from zkfleet.zeo import Server
from zkfleet.zeo.config import database
from zkfleet.zeo.databases import identify
from zkfleet.zeo.openings import kind_of
from zkfleet.zeo.runner import options_of
from zkfleet.zeo.settings import read_settings


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The bytes of a database."""
    file = tmp_path_factory.mktemp("good") / "Data.fs"
    with contextlib.closing(FileStorage(str(file))) as storage:
        identify(storage)
    return file.read_bytes()


# ZODB leaves open what it opened before it fails.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _closed():
    yield
    gc.collect()


def opened(section):
    with Server(making.a_config(address="127.0.0.1:0", storage=section)):
        pass


NO_FILESTORAGE = {
    "text": (lambda data: b"some words " * 9, "it is a text", "path"),
    "gzip": (gzip.compress, "compressed by gzip", "gunzip"),
    "short": (lambda data: b"abc", "3 bytes long", "backup"),
    "Python 2": (lambda data: b"FS21" + data[4:], "Python 2", "zodbupdate"),
    "pickle": (lambda data: b"\x80\x03}q\x00.", "unknown kind", "path"),
}


@pytest.mark.parametrize("what", NO_FILESTORAGE)
def test_a_file_that_is_no_filestorage_is_called_what_it_is(what, data, tmp_path, caplog):
    make, kind, hint = NO_FILESTORAGE[what]
    file = tmp_path / "Data.fs"
    made = make(data)
    file.write_bytes(made)
    with pytest.raises(BadInput) as caught:
        opened(making.a_filestorage(file))
    assert str(file) in str(caught.value)
    assert kind in str(caught.value)
    assert hint in caught.value.hint
    assert file.read_bytes() == made
    assert not any(record.exc_info for record in caplog.records)


def test_so_is_one_below_another_storage(tmp_path):
    (tmp_path / "Data.fs").write_text("some words " * 9)
    inner = making.a_filestorage(tmp_path / "Data.fs", "").replace("<filestorage >", "<filestorage>")
    with pytest.raises(BadInput, match="it is a text"):
        opened(f"<demostorage 1>\n{inner}\n</demostorage>")


def test_a_directory_is_no_file(tmp_path):
    (tmp_path / "Data.fs").mkdir()
    with pytest.raises(Unavailable, match=r"Data\.fs: Is a directory") as caught:
        opened(making.a_filestorage(tmp_path / "Data.fs"))
    assert "name the file in it" in caught.value.hint


def test_a_file_that_is_not_there_is_not_made_for_reading(tmp_path):
    section = f"<filestorage 1>\npath {tmp_path}/Data.fs\nread-only true\n</filestorage>"
    with pytest.raises(Unavailable, match="No such file"):
        opened(section)
    assert os.listdir(tmp_path) == []


def test_a_folder_for_blobs_may_be_none(tmp_path):
    (tmp_path / "blobs").write_text("no folder")
    section = f"<filestorage 1>\npath {tmp_path}/Data.fs\nblob-dir {tmp_path}/blobs\n</filestorage>"
    with pytest.raises(Unavailable, match="blobs: Not a directory"):
        opened(section)


@pytest.mark.parametrize("inside", [False, True])
def test_blobs_are_not_deleted_because_their_data_are_not_there(inside, tmp_path):
    """A FileStorage that makes a new file empties the folder: the disk with the file was not mounted, perhaps."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "precious").write_text("a blob")
    section = (
        f"<filestorage{'' if inside else ' 1'}>\npath {tmp_path}/Data.fs\nblob-dir {tmp_path}/blobs\n</filestorage>"
    )
    with pytest.raises(BadInput, match="has blobs, which a new file would delete"):
        opened(f"<demostorage 1>\n{section}\n</demostorage>" if inside else section)
    assert (tmp_path / "blobs" / "precious").read_text() == "a blob"
    assert not (tmp_path / "Data.fs").exists()


def test_what_nobody_foresaw_is_told_with_its_traceback(data, tmp_path, caplog):
    (tmp_path / "Data.fs").write_bytes(data)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / ".layout").write_text("a new one")
    section = f"<filestorage 1>\npath {tmp_path}/Data.fs\nblob-dir {tmp_path}/blobs\n</filestorage>"
    with pytest.raises(Unavailable, match="KeyError: 'a new one'"):
        opened(section)
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_names_who_asks(data, tmp_path):
    (tmp_path / "Data.fs").write_bytes(data)
    (tmp_path / "Data.fs").chmod(0)
    with pytest.raises(Unavailable) as caught:
        opened(making.a_filestorage(tmp_path / "Data.fs"))
    assert f"uid {os.geteuid()}" in caught.value.hint


def test_who_has_the_file_is_named(tmp_path):
    with (
        contextlib.closing(FileStorage(str(tmp_path / "Data.fs"))),
        pytest.raises(Unavailable, match=f"has a storage open .pid {os.getpid()}"),
    ):
        opened(making.a_filestorage(tmp_path / "Data.fs"))


def test_a_damaged_index_is_no_harm(data, tmp_path):
    (tmp_path / "Data.fs").write_bytes(data)
    (tmp_path / "Data.fs.index").write_bytes(b"rubbish")
    opened(making.a_filestorage(tmp_path / "Data.fs"))


def test_kinds_are_told_by_how_they_begin():
    assert kind_of(b"")[0] == "0 bytes long"
    assert kind_of(b"FS3")[0] == "3 bytes long"
    assert "SQLite" in kind_of(b"SQLite format 3\0")[0]
    assert "unknown" in kind_of(b"\0" * 16)[0]


NO_CONFIGURATION = {
    "gzip": (gzip.compress(b"x"), "is no configuration: it is compressed by gzip", "gunzip"),
    "FileStorage": (b"FS30\xff\xfe", "is no configuration: it is a FileStorage", "-f FILE"),
    "Latin 1": ("# a text in German: für\n".encode("latin-1"), "is no text in UTF-8", "save it as UTF-8"),
}


@pytest.mark.parametrize("read", [read_settings, database, lambda file: options_of(["-C", str(file)])])
@pytest.mark.parametrize("what", NO_CONFIGURATION)
def test_a_configuration_that_is_no_text_is_called_what_it_is(what, read, tmp_path):
    data, kind, hint = NO_CONFIGURATION[what]
    (tmp_path / "zeo.conf").write_bytes(data)
    with pytest.raises(BadInput) as caught:
        read(tmp_path / "zeo.conf")
    assert str(tmp_path / "zeo.conf") in str(caught.value)
    assert kind in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.slow
def test_a_process_says_it_in_two_lines_and_is_not_started_again(tmp_path):
    (tmp_path / "Data.fs").write_text("some words " * 9)
    config = making.a_config(address="127.0.0.1:0", storage=making.a_filestorage(tmp_path / "Data.fs"))
    with making.ServerProcess(tmp_path, config) as server:
        assert server.ends() == 2
        assert "Traceback" not in server.log
        assert "error: storage '1':" in server.log
        assert "hint: is the path" in server.log
