import contextlib
import copy
import json
import shutil
import subprocess
import sys
import threading
import time
import zlib

import pytest
import ZEO
import ZODB
from persistent import Persistent
from persistent.mapping import PersistentMapping
from ZODB.blob import BlobStorage
from ZODB.Connection import TransactionMetaData
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage
from ZODB.scripts import repozo
from ZODB.serialize import referencesf
from ZODB.utils import load_current, z64

from tests.zeo import making
from zkfleet.errors import BadInput
from zkfleet.zeo import Server, roots
from zkfleet.zeo.databases import give, identify, look
from zkfleet.zeo.roots import with_identity
from zkfleet.zeo.transience import is_transient


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
    identity = identity_of(tmp_path / "ours.fs")
    with contextlib.closing(ZODB.DB(MappingStorage())) as db:
        theirs = load_current(db.storage, z64)[0]
    with contextlib.closing(FileStorage(str(tmp_path / "ours.fs"))) as storage:
        assert load_current(storage, z64)[0] == with_identity(theirs, identity)
        with contextlib.closing(ZODB.DB(storage)) as db, db.transaction() as connection:
            assert isinstance(connection.root(), PersistentMapping)
            assert dict(connection.root()) == {}


def test_what_is_there_is_not_touched(file):
    """An application sees what it saw before, and writes what it wrote before."""
    with contextlib.closing(ZODB.DB(FileStorage(str(file)))) as db, db.transaction() as connection:
        connection.root().update(number=7, mapping=PersistentMapping(a=1), values=[1, "two", (3.0,), {4}])
    identity = identity_of(file)
    with contextlib.closing(ZODB.DB(FileStorage(str(file)))) as db, db.transaction() as connection:
        root = connection.root()
        assert type(root) is PersistentMapping
        assert sorted(root) == ["mapping", "number", "values"]
        assert dict(root["mapping"]) == {"a": 1}
        assert root["values"] == [1, "two", (3.0,), {4}]
        assert copy.copy(root) == root
        assert identity not in repr(root)
        root.clear()
    assert identity_of(file) == identity


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


@pytest.mark.parametrize("times", [1, 150])
@pytest.mark.parametrize("packed", [False, True])
def test_it_outlives_changes_of_the_root(file, times, packed):
    identity = identity_of(file)
    change_root(file, times=times)
    if packed:
        pack(file)
    sidecar(file).unlink()
    assert identity_of(file) == identity


def test_the_data_are_left_alone_when_they_say_it(file):
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
    assert json.loads(sidecar(file).read_text())["database"] == identity
    assert "identity_differs" in caplog.text


@pytest.mark.parametrize("rubbish", [b"", b"\xff", b"[]", b'{"database": 7}', b"{"])
def test_rubbish_beside_it_says_nothing(file, rubbish):
    identity = identity_of(file)
    sidecar(file).write_bytes(rubbish)
    assert identity_of(file) == identity
    assert json.loads(sidecar(file).read_text())["database"] == identity


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
        raise NotImplementedError


def test_a_storage_without_a_history_has_it_too():
    storage = Forgetful()
    assert identify(storage) == identify(storage) == look(storage).root


class Odd(Persistent):
    """No mapping."""


def change_odd_root(storage, record=None):
    stored, serial = load_current(storage, z64)
    t = TransactionMetaData()
    storage.tpc_begin(t)
    storage.store(z64, serial, record or stored, "", t)
    storage.tpc_vote(t)
    storage.tpc_finish(t)


def with_an_odd_root(storage):
    with contextlib.closing(ZODB.DB(storage)) as db, db.transaction() as connection:
        odd = Odd()
        connection.add(odd)
    record, _ = load_current(storage, odd._p_oid)
    change_odd_root(storage, record)
    return storage


class Open(MappingStorage):
    """Stays open."""

    def close(self):
        pass


class ForgetfulAndOpen(Forgetful, Open):
    pass


def test_a_root_of_another_kind_has_it_in_the_log():
    storage = with_an_odd_root(Open())
    identity = identify(storage)
    found = look(storage)
    assert (found.root, found.log) == ("", identity)
    assert identify(storage) == identity


def test_a_root_of_another_kind_has_it_beside_the_data_after_packs(file):
    change_root(file)
    with contextlib.closing(FileStorage(str(file))) as storage:
        change_odd_root(storage, load_current(with_an_odd_root(Open()), z64)[0])
    config = making.a_config(address="127.0.0.1:0", storage=making.a_filestorage(file))
    identities = set()
    for packed_by_the_server in (True, False):
        with (
            Server(config) as server,
            contextlib.closing(making.a_client((server.address.host, server.address.port))) as client,
        ):
            identities.add(client._info["zkfleet.database"])
            change_odd_root(client)
            if packed_by_the_server:
                client.pack(time.time() + 1, wait=True)
        pack(file)
        with contextlib.closing(FileStorage(str(file), read_only=True)) as storage:
            found = look(storage)
        assert (found.root, found.log, found.known) == ("", "", found.beside)
    identities.add(identity_of(file))
    assert len(identities) == 1


def test_a_storage_that_keeps_none_has_none(caplog):
    # It would be another after each restart, and its clients would take it for another database.
    assert identify(with_an_odd_root(ForgetfulAndOpen())) == ""
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
from zkfleet.errors import BadInput
from zkfleet.zeo import Server, roots
from zkfleet.zeo.databases import give, identify, look
from zkfleet.zeo.roots import with_identity
from zkfleet.zeo.transience import is_transient
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


def test_a_file_that_was_empty_is_warned_of_once(tmp_path, caplog):
    for _ in range(2):
        with contextlib.closing(FileStorage(str(tmp_path / "Data.fs"))) as storage:
            identify(storage)
    assert caplog.text.count("database_is_new") == 1


# -- what is not known


def without_an_identity(file):
    """Data that were never served."""
    change_root(file)
    return file


def test_data_that_are_not_those_that_were_here_get_a_new_one(file, tmp_path, caplog):
    before = identity_of(file)
    file.unlink()
    shutil.copy(without_an_identity(tmp_path / "other.fs"), file)
    assert identity_of(file) not in ("", before)
    assert "identity_is_new" in caplog.text
    assert "zkfleet zeo identify" in caplog.text
    assert any(record.levelname == "ERROR" for record in caplog.records)


def test_a_file_that_was_emptied_is_another_database(file, caplog):
    before = identity_of(file)
    file.unlink()
    assert identity_of(file) not in ("", before)
    assert "database_is_new" in caplog.text


def test_what_may_not_be_written_and_is_not_known_is_not_claimed(file, tmp_path, caplog):
    change_root(file)
    identity_of(file, read_only=True)
    file.unlink()
    shutil.copy(without_an_identity(tmp_path / "other.fs"), file)
    assert identity_of(file, read_only=True) == ""
    assert "database_without_identity" in caplog.text


def test_what_may_not_be_written_is_known_while_it_has_what_it_had(file):
    change_root(file)
    identity = identity_of(file, read_only=True)
    change_root(file, times=3)
    assert identity_of(file, read_only=True) == identity


def test_data_that_never_had_one_are_told_of(file, caplog):
    change_root(file)
    identity = identity_of(file)
    assert f"identity_is_new storage={file} database={identity}: it had none" in caplog.text


def earlier(file, *, changes=0):
    """Data as an earlier zkfleet left them: it says in the log alone who they are, and beside them."""
    identity = "e" * 32
    with contextlib.closing(FileStorage(str(file))) as storage:
        t = TransactionMetaData("", "", {"zkfleet.database": identity})
        storage.tpc_begin(t)
        data, serial = load_current(storage, z64)
        storage.store(z64, serial, data, "", t)
        storage.tpc_vote(t)
        storage.tpc_finish(t)
    change_root(file, times=changes)
    sidecar(file).write_text(json.dumps({"database": identity}))
    return identity


@pytest.mark.parametrize("changes", [0, 150])
def test_what_an_earlier_zkfleet_wrote_into_the_log_counts(file, changes):
    change_root(file)
    identity = earlier(file, changes=changes)
    sidecar(file).unlink()
    assert identity_of(file) == identity
    pack(file)
    sidecar(file).unlink()
    assert identity_of(file) == identity


def test_so_does_what_it_wrote_beside_the_data(file):
    change_root(file)
    identity = earlier(file, changes=1)
    pack(file)
    assert identity_of(file) == identity


# -- who knows better


def test_what_it_wrote_beside_the_data_is_not_believed_of_other_data_for_ever(file, tmp_path):
    change_root(file)
    identity = earlier(file)
    assert identity_of(file) == identity
    other = tmp_path / "other.fs"
    change_root(other)
    other.replace(file)
    assert identity_of(file) != identity


def test_an_identity_can_be_given(file):
    change_root(file)
    identity_of(file)
    with contextlib.closing(FileStorage(str(file))) as storage:
        give(storage, "a" * 32)
    assert identity_of(file) == "a" * 32


@pytest.mark.parametrize("wrong", ["", "a" * 31, "A" * 32, "g" * 32])
def test_what_is_none_is_not_given(file, wrong):
    with contextlib.closing(FileStorage(str(file))) as storage, pytest.raises(BadInput, match="no identity"):
        give(storage, wrong)


def test_what_is_not_kept_is_not_given(file):
    change_root(file)
    with (
        contextlib.closing(FileStorage(str(file), read_only=True)) as storage,
        pytest.raises(BadInput, match="not kept there"),
    ):
        give(storage, "a" * 32)


# -- backups, other stores and wrappers


def test_a_backup_by_repozo_is_the_same_database(file, tmp_path):
    identity = identity_of(file)
    change_root(file, times=150)
    with contextlib.closing(FileStorage(str(file))) as storage:
        storage.pack(time.time(), referencesf)
    backups, restored = tmp_path / "backups", tmp_path / "restored.fs"
    backups.mkdir()
    for options in (["-B", "-r", str(backups), "-f", str(file)], ["-R", "-r", str(backups), "-o", str(restored)]):
        repozo.main(options)
    assert identity_of(restored) == identity


def test_of_two_servers_of_one_store_both_take_what_the_first_one_wrote():
    """Both find none; one writes, and the other one is about to."""
    storage = MappingStorage()
    looked = threading.Barrier(2)

    class Shared:
        """One store, to whoever opens it: another process's view of it."""

        def __getattr__(self, name):
            return getattr(storage, name)

        def isReadOnly(self):
            looked.wait(10)
            return False

    attempts = [making.Attempt(identify, Shared()) for _ in range(2)]
    found = {one.outcome() for one in attempts}
    assert found == {look(storage).root}


@pytest.mark.parametrize("history", ["true", "false"])
def test_a_relstorage_is_the_same_database_after_packs_and_on_all_its_servers(history, tmp_path):
    pytest.importorskip("relstorage")
    (tmp_path / "store").mkdir()
    store = f"keep-history {history}\n<sqlite3>\ndata-dir {tmp_path}/store\n</sqlite3>"
    config = "%import relstorage\n" + making.a_config(
        address="127.0.0.1:0", storage=f"<relstorage 1>\n{store}\n</relstorage>"
    )

    def known(server):
        with contextlib.closing(making.a_client((server.address.host, server.address.port))) as client:
            return client._info["zkfleet.database"]

    with Server(config) as server:
        identity = known(server)
        with contextlib.closing(ZEO.DB((server.address.host, server.address.port))) as db:
            for number in range(5):
                with db.transaction() as connection:
                    connection.root()["number"] = number
            db.pack()
            with Server(config) as other:
                assert known(other) == identity
    with Server(config) as server:
        assert known(server) == identity


def test_a_compressed_root_carries_it_as_well():
    record = roots.new_root()
    changed = with_identity(b".z" + zlib.compress(record), "a" * 32)
    assert changed.startswith(b".z")
    assert zlib.decompress(changed[2:]) == with_identity(record, "a" * 32)
    assert roots.identity_in(changed) == "a" * 32


@pytest.mark.parametrize("record", [b"", b".z", b".z123", b"rubbish", b".enciphered", roots.new_root()[:-5]])
def test_a_record_that_is_not_understood_is_left_alone(record):
    assert with_identity(record, "a" * 32) is None
    assert roots.identity_in(record) == ""
