"""Packs that are stopped at each of their records, and servers that end while one is under way."""

import contextlib
import itertools
import threading
import time

import pytest
import ZODB
from persistent.mapping import PersistentMapping
from persistent.TimeStamp import TimeStamp
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.FileStorage.fspack import FileStoragePacker
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import StorageError
from ZODB.serialize import referencesf

from tests.zeo import making
from zkfleet.zeo import Server
from zkfleet.zeo.pack_guard import PackGuard

OBJECTS = 8


def change_all(db, words, number=OBJECTS):
    """Make objects, or change them."""
    with db.transaction() as connection:
        for one in range(number):
            connection.root().setdefault(one, PersistentMapping())["words"] = words


@pytest.fixture
def file(tmp_path):
    """A FileStorage with something to pack."""
    with contextlib.closing(ZODB.DB(str(tmp_path / "Data.fs"))) as db:
        for words in ("first", "second", "third"):
            change_all(db, words)
    return tmp_path / "Data.fs"


def second_change(storage):
    """The time of the last transaction but one: what is older is packed, and what is later is copied as it is."""
    *_, second, _third = storage.iterator()
    return TimeStamp(second.tid).timeTime()


class Allowed:
    """Says yes some times, and then no; `asked` is how often it was asked."""

    def __init__(self, times):
        self.times, self.asked = times, 0

    def __call__(self):
        self.asked += 1
        return self.asked <= self.times


def pack(file, times):
    """Pack a file while the guard is allowed to go on."""
    with contextlib.closing(FileStorage(str(file))) as storage:
        guard = PackGuard({"1": storage}, Allowed(times))
        with guard.inside("1"):
            storage.pack(second_change(storage), referencesf)


@pytest.mark.slow
def test_a_pack_that_is_stopped_at_any_record_changes_nothing_and_frees_the_storage(file):
    before = file.read_bytes()
    for times in itertools.count():
        try:
            pack(file, times)
            break
        except StorageError:
            assert file.read_bytes() == before
            assert not file.with_name("Data.fs.pack").exists()
    assert times > 4 * OBJECTS  # it looked, or copied, each of them more than once
    assert len(file.read_bytes()) < len(before)


def test_after_a_pack_that_was_stopped_one_commits_and_packs(file):
    with contextlib.closing(ZODB.DB(str(file))) as db:
        allowed = Allowed(30)
        PackGuard({"1": db.storage}, allowed)
        with pytest.raises(StorageError, match="stopped, and has changed nothing"):
            db.pack()
        allowed.times = 10_000
        change_all(db, "fourth")
        db.pack()


def test_no_pack_begins_when_the_server_ends(file):
    with contextlib.closing(FileStorage(str(file))) as storage:
        guard = PackGuard({"1": storage}, lambda: True)
        guard.stop()
        with pytest.raises(StorageError), guard.inside("1"):
            raise AssertionError("it began")
        guard.wait_until_none()


def test_the_filestorage_below_others_is_guarded_and_others_are_left_alone(file):
    with contextlib.closing(FileStorage(str(file))) as storage:
        below = DemoStorage(base=storage, changes=MappingStorage())
        guard = PackGuard({"below": below, "memory": MappingStorage()}, lambda: True)
        with guard.inside("memory"):
            guard.stop()
            guard.wait_until_none()  # nobody waits for the other one
        with pytest.raises(StorageError, match="stopped"):
            storage.pack(second_change(storage), referencesf)


@pytest.mark.slow
def test_a_server_that_ends_stops_its_pack_and_the_next_one_loses_nothing(tmp_path, monkeypatch):
    copy, begun = FileStoragePacker.copyDataRecords, threading.Event()

    def copy_slowly(self, *where):
        begun.set()
        time.sleep(0.02)  # as in a large database
        return copy(self, *where)

    file = tmp_path / "Data.fs"
    config = making.a_config(address="127.0.0.1", storage=making.a_filestorage(file))
    with contextlib.closing(ZODB.DB(str(file))) as db:
        for number in range(100):
            change_all(db, str(number), 1)
    monkeypatch.setattr(FileStoragePacker, "copyDataRecords", copy_slowly)
    first = Server(config).start()
    with contextlib.closing(making.a_client((first.address.host, first.address.port))) as client:
        packing = making.Attempt(lambda: client.pack(time.time()))
        assert begun.wait(10)
        first.close()
    monkeypatch.undo()
    assert isinstance(packing.outcome(), Exception)
    assert not file.with_name("Data.fs.pack").exists()
    with Server(config) as second:
        address = (second.address.host, second.address.port)
        with contextlib.closing(making.a_client(address)) as client:
            client.pack(time.time())
            last = making.store_and_finish(client)
    file.with_name("Data.fs.index").unlink()
    with contextlib.closing(FileStorage(str(file))) as storage:
        assert storage.lastTransaction() == last
