"""What callers and the log hear when a server is lost in the middle of requests."""

import logging
import socket
import threading
from contextlib import ExitStack, closing, contextmanager

import pytest
from ZEO.Exceptions import ClientDisconnected
from ZODB.blob import Blob
from ZODB.Connection import TransactionMetaData
from ZODB.utils import load_current, p64, z64

import zkfleet.zeo
from tests.conftest import wait_for
from tests.zeo.test_client import count, database

pytestmark = pytest.mark.slow


class Busy(threading.Thread):
    """A thread that calls a function until it is told to end, and keeps what it raises."""

    def __init__(self, function):
        super().__init__(daemon=True)
        self.errors, self._function, self._end = [], function, threading.Event()
        self.start()

    def run(self):
        while not self._end.is_set():
            try:
                self._function()
            except Exception as exc:
                self.errors.append(exc)

    def end(self):
        self._end.set()
        self.join(60)
        assert not self.is_alive()
        return self.errors


def lines(caplog):
    """What is logged of the loss, by whomever; a busy machine may lose its session with ZooKeeper, too."""
    others = ("zkfleet.registry", "zkfleet.zeo.storage", "kazoo")
    return [one for one in caplog.records if one.levelno >= logging.WARNING and not one.name.startswith(others)]


def test_the_loss_of_a_server_is_one_line_however_many_are_in_the_middle_of_calls(fleet, zeo, tmp_path, caplog):
    server = zeo(blobs=tmp_path / "blobs")
    fleet.register("/db", server.address)
    patient = {"wait_timeout": 60, "ping_interval": 60, "ping_timeout": 60}
    with database(fleet, "/db", blob_dir=str(tmp_path / "cache"), **patient) as found:
        count(found)
        storage, data = found.storage, load_current(found.storage, z64)[0]
        tid = storage.lastTransaction()

        def store():
            meta = TransactionMetaData("", "large")
            storage.tpc_begin(meta)
            try:
                for number in range(1000, 1500):
                    storage.store(p64(number), p64(1), data + b"x" * 1000, "", meta)
                storage.tpc_vote(meta)
            finally:
                storage.tpc_abort(meta)

        def prefetch():
            storage.prefetch(map(p64, range(200)), tid)
            storage.ping()

        def store_blob():
            with found.transaction() as connection, Blob().open("w") as file:
                file.write(b"x" * (1 << 20))
                connection.root()["blob"] = file.blob

        caplog.clear()
        threads = [Busy(one) for one in [store, store, prefetch, storage.ping, store_blob]]
        wait_for(lambda: server.status()["stores"] > 1000, 60)
        server.kill()
        wait_for(lambda: not storage.is_connected())
        again = zeo(port=server.port, blobs=tmp_path / "blobs")
        wait_for(storage.is_connected, 60)
        before = again.status()["stores"]
        wait_for(lambda: again.status()["stores"] > before + 1000, 60)
        errors = [error for thread in threads for error in thread.end()]
        assert [str(error) for error in errors if not str(error).startswith(f"{server.address}: ")] == []
        assert {type(error) for error in errors} == {ClientDisconnected}
        assert [record.getMessage().partition(" reason=")[0] for record in lines(caplog)] == [
            f"zeo_server_lost server={server.address}"
        ]


@contextmanager
def full():
    """An address where nobody accepts, and no more connections may wait."""
    with ExitStack() as ending, socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen(0)
        for _ in range(4):
            one = ending.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(door.getsockname())
        yield "{}:{}".format(*door.getsockname())


def test_a_server_that_gives_no_answer_is_told_with_the_reason(fleet, caplog):
    caplog.set_level(logging.INFO, "zkfleet.zeo")
    reason = "no connection could be made in 0.2 s"
    with full() as address:
        fleet.register("/db", address)
        with closing(zkfleet.zeo.client(fleet, "/db", wait=False, ping_timeout=0.2)) as storage:
            wait_for(lambda: f"zeo_server_not_reached server={address} reason={reason}" in caplog.text)
            with pytest.raises(ClientDisconnected, match=f"{address}: {reason}"):
                storage._wait(0.1)


def test_calls_that_may_not_wait_name_the_server_that_was_lost(fleet, zeo):
    server = zeo()
    fleet.register("/db", server.address)
    with closing(zkfleet.zeo.client(fleet, "/db", wait_timeout=10)) as storage:
        meta = TransactionMetaData("", "begun")
        storage.tpc_begin(meta)
        server.kill()
        wait_for(lambda: not storage.is_connected())
        for call in (
            lambda: storage._async("ping"),
            lambda: storage.store(z64, z64, b"", "", meta),
            lambda: storage.tpc_vote(meta),
        ):
            with pytest.raises(ClientDisconnected, match=f"^{server.address}: (the server closed|.*reset)"):
                call()
        storage.tpc_abort(meta)


def test_a_storage_that_never_met_a_server_says_so(fleet):
    with closing(zkfleet.zeo.client(fleet, "/db", wait=False)) as storage:
        for call in (storage.sortKey, lambda: storage._async("ping"), lambda: storage.history(z64)):
            with pytest.raises(ClientDisconnected, match=r"no server was met|no server is registered"):
                call()
