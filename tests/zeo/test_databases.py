import contextlib
import json
import logging
import shutil
import subprocess
import sys
import time

import pytest
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.blob import BlobStorage
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage
from ZODB.serialize import referencesf
from ZODB.utils import load_current, z64

from tests.zeo import making
from zkfleet.zeo.databases import identify, is_transient


def identity_of(file, **options):
    read_only = options.pop("server_read_only", False)
    with contextlib.closing(FileStorage(str(file), **options)) as storage:
        return identify(storage, read_only=read_only)


def sidecar(file):
    return file.with_name(file.name + ".zkfleet")


def change_root(file, times=1):
    with contextlib.closing(ZODB.DB(FileStorage(str(file)))) as db:
        for number in range(times):
            with db.transaction() as connection:
                connection.root()["number"] = number


def pack(file):
    with contextlib.closing(FileStorage(str(file))) as storage:
        storage.pack(time.time() + 1, referencesf)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "Data.fs"


def test_a_database_keeps_its_identity(file):
    identity = identity_of(file)
    assert len(identity) == 32
    assert identity_of(file) == identity


def test_new_databases_differ(tmp_path):
    assert identity_of(tmp_path / "a.fs") != identity_of(tmp_path / "b.fs")


def test_it_is_stamped_once(file):
    identity_of(file)
    size = file.stat().st_size
    identity_of(file)
    assert file.stat().st_size == size


def test_a_new_database_has_the_root_that_zodb_makes(tmp_path):
    identity_of(tmp_path / "ours.fs")
    with contextlib.closing(ZODB.DB(MappingStorage())) as db:
        theirs = load_current(db.storage, z64)[0]
    with contextlib.closing(FileStorage(str(tmp_path / "ours.fs"))) as storage:
        assert load_current(storage, z64)[0] == theirs
        with contextlib.closing(ZODB.DB(storage)) as db, db.transaction() as connection:
            assert isinstance(connection.root(), PersistentMapping)


def test_what_is_there_is_not_touched(file):
    change_root(file)
    with contextlib.closing(FileStorage(str(file))) as storage:
        before = load_current(storage, z64)[0]
        identify(storage)
        assert load_current(storage, z64)[0] == before


def test_it_needs_no_class_of_the_application(file, monkeypatch):
    module = type(sys)("no_such_application")
    module.Thing = type("Thing", (PersistentMapping,), {"__module__": "no_such_application"})
    monkeypatch.setitem(sys.modules, "no_such_application", module)
    with contextlib.closing(ZODB.DB(FileStorage(str(file)))) as db, db.transaction() as connection:
        connection.root()["thing"] = module.Thing()
        connection.root()["odd"] = module.Thing  # in the root's own record
    monkeypatch.delitem(sys.modules, "no_such_application")
    assert identity_of(file) == identity_of(file)


@pytest.mark.parametrize("forget", [False, True], ids=["with its file", "the data alone"])
def test_it_outlives_a_pack(file, forget):
    identity = identity_of(file)
    pack(file)
    if forget:
        sidecar(file).unlink()
    assert identity_of(file) == identity


def test_it_outlives_changes_of_the_root(file):
    identity = identity_of(file)
    change_root(file, times=20)
    sidecar(file).unlink()
    assert identity_of(file) == identity


def test_the_data_are_left_alone_while_any_revision_says_it(file):
    # A client that was about to change the root would have a conflict for it.
    identity_of(file)
    change_root(file)
    before = file.read_bytes()
    identity_of(file)
    assert file.read_bytes() == before


def test_the_file_beside_it_remembers_what_a_pack_removed(file):
    identity = identity_of(file)
    change_root(file)
    pack(file)
    assert identity_of(file) == identity
    sidecar(file).unlink()
    assert identity_of(file) == identity


def test_a_copy_is_the_same_database(file, tmp_path):
    identity = identity_of(file)
    copy = tmp_path / "elsewhere.fs"
    shutil.copy(file, copy)
    assert identity_of(copy) == identity


def test_copied_transactions_bring_it(file, tmp_path):
    identity = identity_of(file)
    with (
        contextlib.closing(FileStorage(str(file))) as source,
        contextlib.closing(FileStorage(str(tmp_path / "copy.fs"))) as target,
    ):
        target.copyTransactionsFrom(source)
        assert identify(target) == identity


def test_if_they_differ_the_data_are_right(file, caplog):
    identity = identity_of(file)
    sidecar(file).write_text(json.dumps({"database": "0" * 32}))
    assert identity_of(file) == identity
    assert json.loads(sidecar(file).read_text()) == {"database": identity}
    assert "identity_differs" in caplog.text


@pytest.mark.parametrize("rubbish", [b"", b"\xff", b"[]", b'{"database": 7}', b"{"])
def test_rubbish_beside_it_says_nothing(file, rubbish):
    identity = identity_of(file)
    sidecar(file).write_bytes(rubbish)
    assert identity_of(file) == identity
    assert json.loads(sidecar(file).read_text()) == {"database": identity}


@pytest.mark.parametrize("how", [{"read_only": True}, {"server_read_only": True}])
def test_what_is_read_only_is_remembered_beside_it(file, how):
    change_root(file)
    before = file.read_bytes()
    identity = identity_of(file, **how)
    assert identity
    assert file.read_bytes() == before
    assert identity_of(file) == identity


def test_without_any_place_there_is_none(file, caplog):
    change_root(file)
    sidecar(file).mkdir()
    assert identity_of(file, read_only=True) == ""
    assert "database_without_identity" in caplog.text


def test_nothing_is_left_of_a_file_that_cannot_be_written(file):
    sidecar(file).mkdir()
    assert identity_of(file)
    assert [path.name for path in file.parent.iterdir() if path.name.startswith(sidecar(file).name + ".")] == []


def test_storages_in_memory_have_one_for_life():
    one, other = MappingStorage(), MappingStorage()
    assert identify(one) == identify(one)
    assert identify(one) != identify(other)


def demo(file, changes=None):
    return DemoStorage(base=FileStorage(str(file), read_only=True), changes=changes)


def test_what_lies_over_a_database_in_a_file_of_its_own_is_that_database(file, tmp_path):
    # It is as a copy is.
    identity = identity_of(file)
    for _ in range(2):
        with contextlib.closing(demo(file, FileStorage(str(tmp_path / "changes.fs")))) as storage:
            assert not is_transient(storage)
            assert identify(storage) == identity


def test_what_lies_over_a_database_in_memory_is_another_one_at_each_start(file):
    # Two starts from one base go different ways, and neither is the way of the base.
    found = {identity_of(file)}
    for _ in range(2):
        with contextlib.closing(demo(file)) as storage:
            assert is_transient(storage)
            found.add(identify(storage))
            assert identify(storage) in found
    assert len(found) == 3


@pytest.mark.parametrize("make", [MappingStorage, DemoStorage, lambda: BlobStorage("blobs", MappingStorage())])
def test_what_is_in_memory_is_transient(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with contextlib.closing(make()) as storage:
        assert is_transient(storage)
        assert identify(storage)
        storage.cleanup()


def test_what_is_in_files_or_of_unknown_kind_is_not_transient(file, tmp_path):
    with contextlib.closing(BlobStorage(str(tmp_path / "blobs"), FileStorage(str(file)))) as storage:
        assert not is_transient(storage)
    assert not is_transient(Forgetful())


def test_clients_are_told_what_is_transient():
    for transient in (set(), {"1"}):
        with (
            making.a_server(identities={"1": "abc"}, transient=transient) as server,
            contextlib.closing(making.a_client(server.acceptor.addr)) as storage,
        ):
            assert is_transient(storage) is bool(transient)
            assert ("zkfleet.transient" in storage._info) is bool(transient)


class Forgetful(MappingStorage):
    """Keeps data, and nothing about transactions."""

    def history(self, oid, size=1):
        return [{**revision, "extension": {}} for revision in super().history(oid, size)]


def test_a_storage_that_keeps_none_has_none(caplog):
    # It would be another after each restart, and its clients would take it for another database.
    assert identify(Forgetful()) == ""
    assert "database_without_identity" in caplog.text


def test_a_client_of_a_server_passes_on_what_that_says():
    with (
        making.a_server(identities={"1": "abc"}) as server,
        contextlib.closing(making.a_client(server.acceptor.addr)) as storage,
    ):
        assert identify(storage) == "abc"


def test_the_database_of_a_server_without_identities_is_left_alone():
    with (
        making.a_server(identities={}) as server,
        contextlib.closing(making.a_client(server.acceptor.addr)) as storage,
    ):
        before = server.storages["1"].lastTransaction()
        assert identify(storage) == ""
        assert server.storages["1"].lastTransaction() == before


FULL = """
import logging, resource, sys
from ZODB.FileStorage import FileStorage
from zkfleet.zeo.databases import identify, is_transient
logging.basicConfig(level=logging.WARNING)
storage = FileStorage(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
print(repr(identify(storage)))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
storage.close()
"""


@pytest.mark.slow
def test_a_full_disk_keeps_nobody_from_serving(file):
    change_root(file)
    before = file.read_bytes()
    done = subprocess.run([sys.executable, "-c", FULL, file, "16"], check=True, capture_output=True, text=True)
    assert done.stdout == "''\n"
    assert "identity_not_stamped" in done.stderr
    assert "database_without_identity" in done.stderr
    assert file.read_bytes() == before
    assert identity_of(file)


@pytest.mark.slow
def test_a_disk_that_is_almost_full_has_room_for_the_file(file):
    change_root(file)
    room = str(file.stat().st_size + 20)
    done = subprocess.run([sys.executable, "-c", FULL, file, room], check=True, capture_output=True, text=True)
    assert "identity_not_stamped" in done.stderr
    assert done.stdout == f"{identity_of(file)!r}\n"


def test_a_history_that_cannot_be_read_is_told(caplog):
    class Broken(MappingStorage):
        def history(self, oid, size=1):
            raise ImportError("no such application")

    with caplog.at_level(logging.WARNING):
        assert identify(Broken()) == ""
    assert "history_not_read" in caplog.text


def test_a_file_that_was_empty_is_warned_of_once(tmp_path, caplog):
    for _ in range(2):
        with contextlib.closing(FileStorage(str(tmp_path / "Data.fs"))) as storage:
            identify(storage)
    assert caplog.text.count("database_is_new") == 1
