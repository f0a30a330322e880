"""A forked child can do nothing with its parent's databases, and does them no harm."""

import json
import os
import signal
import traceback
from contextlib import closing

import pytest
import transaction
import zc.lockfile
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.utils import z64

import zkfleet.zeo
from tests.conftest import wait_for
from tests.zeo.test_client import count, database
from zkfleet.errors import ForkedSession

pytestmark = pytest.mark.slow


class Child:
    """A forked child that runs a function; its result goes through JSON."""

    def __init__(self, function):
        self._out, write = os.pipe()
        self._stop, self._go = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(write)
            return
        code = 1
        try:
            os.close(self._go)
            os.write(write, json.dumps(function()).encode())
            os.close(write)
            os.read(self._stop, 1)  # until the parent lets us go
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)

    def result(self):
        said = b""
        while more := os.read(self._out, 1 << 16):
            said += more
        os.close(self._out)
        return json.loads(said or '"it failed"')

    def ends(self):
        os.close(self._stop)
        os.close(self._go)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def in_child(function):
    child = Child(function)
    result = child.result()
    assert child.ends() == 0
    return result


def refused(calls):
    """The names of those calls that are refused."""
    found = []
    for name, call in calls.items():
        try:
            call()
        except ForkedSession:
            found.append(name)
        except Exception as exc:
            found.append(f"{name}: {exc!r}")
    return found


@pytest.fixture
def server(fleet, zeo, tmp_path):
    server = zeo(blobs=tmp_path / "blobs")
    fleet.register("/db", server.address)
    return server


def test_a_child_is_refused_whatever_it_does(fleet, server, tmp_path):
    with database(fleet, "/db", blob_dir=str(tmp_path / "cache")) as found, closing(found.open()) as connection:
        root, storage = connection.root(), found.storage
        root["m"], root["file"] = PersistentMapping(value="old"), Blob(b"contents")
        transaction.commit()
        with root["file"].open() as file:
            assert file.read() == b"contents"
        root["m"]["value"], serial = root["m"]["value"], root["file"]._p_serial
        transaction.commit()
        tid = storage.lastTransaction()
        log = storage.iterator()
        next(log)
        other = transaction.TransactionManager()
        with closing(found.open(other)) as second, closing(found.open(at=tid)) as historical:
            second.root()["m"]["value"]
            calls = {
                "an object in memory": lambda: root["m"]["value"],
                "begin": transaction.begin,
                "begin another": other.begin,
                "open": found.open,
                "open as it was": lambda: found.open(at=tid).root()["m"]["value"],
                "as it was": lambda: historical.root()["file"].open(),
                "with": lambda: count(found),
                "sync": connection.sync,
                "sync storage": lambda: storage.sync(),
                "load": lambda: storage.load(z64),
                "loadBefore": lambda: storage.loadBefore(z64, b"\xff" * 8),
                "blob": lambda: storage.loadBlob(root_file, serial),
                "blob file": lambda: storage.openCommittedBlobFile(root_file, serial),
                "new_oid": storage.new_oid,
                "lastTransaction": storage.lastTransaction,
                "history": lambda: storage.history(z64),
                "undoLog": storage.undoLog,
                "undo": lambda: (found.undo(tid), transaction.commit()),
                "iterator": storage.iterator,
                "iterator that began": lambda: next(log),
                "prefetch": lambda: storage.prefetch([z64], tid),
                "pack": found.pack,
                "ping": storage.ping,
                "wait": lambda: zkfleet.zeo.wait_until_connected(storage, 1),
            }
            root_file = root["file"]._p_oid
            assert set(calls) == set(in_child(lambda: refused(calls)))
        assert root["m"]["value"] == "old"


def test_a_child_may_end_and_close_what_it_cannot_use(fleet, server):
    with database(fleet, "/db") as found:
        storage = found.storage
        count(found)

        def end():
            transaction.abort()
            transaction.commit()
            found.close()
            storage.close()
            return "done"

        with closing(found.open()) as connection:
            connection.root()["n"]
            assert in_child(end) == "done"
        assert count(found) == 2


def test_a_child_closes_though_another_thread_was_just_telling_of_changes(fleet, server):
    with database(fleet, "/db") as found, closing(found.open()) as connection:
        count(found)
        adapter = found._mvcc_storage

        def end():
            signal.alarm(10)
            found.close()
            return "done"

        with adapter._lock, connection._storage._lock:
            assert in_child(end) == "done"


def test_a_child_reads_with_a_database_of_its_own(fleet, server):
    hosts = fleet.session.hosts
    with database(hosts, "/db") as found:
        count(found)

        def read():
            with database(hosts, "/db") as own:
                return count(own)

        assert in_child(read) == 2
        assert count(found) == 3


def test_a_child_keeps_neither_the_connection_nor_the_cache(fleet, server, tmp_path):
    kept = {"cache": str(tmp_path / "kept.zec")}
    with database(fleet, "/db", **kept) as found:
        count(found)
        child = Child(lambda: "there")
        child.result()
    try:
        wait_for(lambda: server.status()["connections"] == 0, what="the server sees that the parent has gone")
        with database(fleet, "/db", **kept) as found:
            assert count(found) == 2
    finally:
        assert child.ends() == 0


def test_the_end_of_a_child_neither_writes_to_the_cache_nor_unlocks_it(fleet, server, tmp_path):
    file = tmp_path / "kept.zec"
    with database(fleet, "/db", cache=str(file)) as found:
        count(found)
        cache = found.storage._cache
        cache.f.flush()
        before = file.read_bytes()
        cache.f.seek(20)
        cache.f.write(b"something that the parent is about to write")

        def end():
            cache.f.close()
            cache._lock_file.close()

        in_child(end)
        assert file.read_bytes() == before
        with pytest.raises(zc.lockfile.LockError):
            zc.lockfile.LockFile(f"{file}.lock")
