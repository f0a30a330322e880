import contextlib
import logging
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections import Counter

import pytest
from persistent.mapping import PersistentMapping
from ZEO.Exceptions import ClientDisconnected
from ZEO.StorageServer import StorageServer
from ZODB import DB
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage
from ZODB.utils import z64

from tests.conftest import wait_for
from tests.foreign import WORST, does_nothing
from tests.zeo import making
from zkfleet.zeo.insides import state_of
from zkfleet.zeo.storage_server import REPAIRS


def status(server):
    return server.server_status("1")


def address(server):
    return server.acceptor.addr


def test_all_repairs_can_be_made():
    assert not any(state_of(REPAIRS).values())


@pytest.mark.slow
def test_after_a_transaction_timeout_others_commit():
    with (
        making.a_server(transaction_timeout=1) as server,
        making.a_holder(address(server)),
    ):
        started = time.monotonic()
        making.commit(address(server))
        assert 0.5 < time.monotonic() - started < 2
        assert status(server)["active_txns"] == 0
        assert status(server)["waiting"] == 0
        assert status(server)["lock_time"] is None


@pytest.mark.slow
def test_plain_zeo_never_gives_the_lock_on():
    """If this fails, ZEO has been repaired, and our repair can go."""
    with making.a_server(kind=StorageServer, transaction_timeout=0.3) as server, making.a_holder(address(server)):
        other = making.Attempt(making.commit, address(server))
        assert other.outcome(2) is None
        assert status(server)["active_txns"] == 2
        wedged = server.lock_managers["1"].locked
        wedged.call_soon_threadsafe(wedged.notify_disconnected)
        assert isinstance(other.outcome(), bytes)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False], ids=["shared folder", "folder of its own"])
def test_the_record_of_a_blob_is_stored_once_and_the_index_is_used_at_the_next_start(tmp_path, caplog, shared):
    folder = tmp_path / "blobs"

    def open_storage():
        return FileStorage(str(tmp_path / "Data.fs"), blob_dir=str(folder))

    def open_database(server):
        own = folder if shared else tmp_path / f"cache{server.acceptor.addr[1]}"
        return contextlib.closing(DB(making.a_client(address(server), blob_dir=str(own), shared_blob_dir=shared)))

    with making.a_server(open_storage()) as server, open_database(server) as db:
        for words in (b"first", b"second"):  # a new one, and one that is changed
            with db.transaction() as connection:
                connection.root.others = PersistentMapping(words=words)
                connection.root.blob = getattr(connection.root, "blob", None) or Blob()
                with connection.root.blob.open("w") as file:
                    file.write(words)
    storage = open_storage()
    assert "Ignoring index" not in caplog.text
    for stored in storage.iterator():
        assert max(Counter(record.oid for record in stored).values()) == 1
    with (
        making.a_server(storage) as server,
        open_database(server) as db,
        db.transaction() as connection,
        connection.root.blob.open() as file,
    ):
        assert file.read() == b"second"


def test_a_timeout_closes_the_connection_of_the_slow_one():
    with making.a_server(transaction_timeout=0.05) as server, making.a_holder(address(server)) as (storage, t):
        wait_for(lambda: status(server)["connections"] == 0 or storage._connection_generation > 1)
        with pytest.raises(ClientDisconnected):
            storage.tpc_finish(t)
        assert making.commit(address(server))


def test_who_is_in_time_is_left_alone():
    with making.a_server(transaction_timeout=0.2) as server, making.a_holder(address(server)) as (storage, t):
        storage.tpc_finish(t)
        with making.a_transaction(storage) as another:
            making.store_root(storage, another)
            storage.tpc_vote(another)
            storage.tpc_finish(another)
        assert status(server)["timeout-thread-is-alive"] is True


def test_a_timeout_needs_no_thread():
    before = threading.active_count()
    with making.a_server(transaction_timeout=5):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


@pytest.mark.parametrize("break_it", ["undecodable", "invalid method", "failing call"])
def test_a_client_that_is_sent_away_gives_the_lock_back(break_it):
    with making.a_server() as server, making.a_holder(address(server)) as (storage, _):
        client = storage._server.client
        protocol = client.protocol
        wrong = {
            "undecodable": lambda: protocol.write_message(b"what?"),
            "invalid method": lambda: protocol.call_async("no_such_method", ()),
            "failing call": lambda: protocol.call_async("storea", (b"", b"", b"", 7)),
        }
        client.loop.call_soon_threadsafe(wrong[break_it])
        wait_for(lambda: status(server)["active_txns"] == 0)
        assert making.commit(address(server))


class FailingDisk(MappingStorage):
    """Cannot say that it has aborted."""

    def tpc_abort(self, transaction):
        super().tpc_abort(transaction)
        raise OSError("disk")


def test_an_abort_that_fails_keeps_nobody_from_committing(caplog):
    with making.a_server(FailingDisk(), transaction_timeout=0.05) as server, making.a_holder(address(server)):
        wait_for(lambda: "transaction_not_aborted" in caplog.text)
        assert making.commit(address(server))


def test_accepted_sockets_notice_silence():
    with making.a_server() as server, contextlib.closing(making.a_client(address(server))):
        [connection] = server.connections
        sock = connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10


def test_the_log_names_the_client(caplog):
    with making.a_server() as server, contextlib.closing(making.a_client(address(server))) as client:
        [connection] = server.connections
        assert connection.addr == client._server.client.protocol.sm_protocol.transport.get_extra_info("sockname")


def test_the_identity_is_told_to_clients():
    with making.a_server(identities={"1": "abc"}) as server, contextlib.closing(making.a_client(address(server))) as it:
        assert it._info["zkfleet.database"] == "abc"


def test_without_an_identity_nothing_is_said():
    with making.a_server(identities={}) as server, contextlib.closing(making.a_client(address(server))) as it:
        assert "zkfleet.database" not in it._info


def test_who_may_no_longer_commit_does_not():
    allowed, storage = [True], MappingStorage()
    with making.a_server(storage, may_commit=lambda: allowed[0]) as server:
        before = storage.lastTransaction()
        with making.a_holder(address(server)) as (client, t):
            allowed[0] = False
            with pytest.raises(ClientDisconnected):
                client.tpc_finish(t)
        assert isinstance(making.Attempt(making.commit, address(server)).outcome(), ClientDisconnected)
        wait_for(lambda: status(server)["active_txns"] == 0)
        assert storage.lastTransaction() == before


# -- the end


def test_a_drain_lets_who_holds_the_lock_finish():
    with making.a_server() as server, making.a_holder(address(server)) as (storage, t):
        server.drain(10)
        wait_for(lambda: server.draining)
        tid = storage.tpc_finish(t)
        assert server.storages["1"].lastTransaction() == tid
        wait_for(server.event_loop.is_closed)


def test_a_drain_sends_others_away_at_once():
    with making.a_server() as server, making.a_holder(address(server)) as (storage, t):
        waiting = making.Attempt(making.commit, address(server))
        wait_for(lambda: status(server)["waiting"] == 1)
        server.drain(10)
        assert isinstance(waiting.outcome(), ClientDisconnected)
        assert not server.event_loop.is_closed()
        storage.tpc_finish(t)


def test_a_drain_takes_in_nobody():
    with making.a_server() as server, making.a_holder(address(server)) as (storage, t):
        server.drain(10)
        wait_for(lambda: server.draining)
        wait_for(lambda: refused(address(server)))
        storage.tpc_finish(t)


def refused(where):
    try:
        socket.create_connection(where, 1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_drain_ends_in_time():
    with making.a_server() as server, making.a_holder(address(server)) as (storage, t):
        server.drain(0.05)
        wait_for(server.event_loop.is_closed)
        assert status(server)["active_txns"] == 0
        with pytest.raises(ClientDisconnected):
            storage.tpc_finish(t)


def test_an_abort_ends_a_drain():
    with making.a_server() as server, making.a_holder(address(server)):
        server.drain(60)
        wait_for(lambda: server.draining)
        server.abort()
        wait_for(server.event_loop.is_closed)


def test_connections_that_never_spoke_do_not_delay_the_end():
    with making.a_server() as server, socket.create_connection(address(server)) as silent:
        wait_for(lambda: server.connections)
        started = time.monotonic()
        server.drain(60)
        wait_for(server.event_loop.is_closed)
        assert time.monotonic() - started < 0.5
        assert silent.recv(4) == struct.pack(">I", 2)


@pytest.fixture
def encrypted(tmp_path):
    """A server's TLS context."""
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    made = f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=zeo -keyout {key} -out {certificate}"
    subprocess.run(made.split(), check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


def begin_a_handshake(link):
    """Say hello, hear the server's answer, and say no more."""
    heard, to_say = ssl.MemoryBIO(), ssl.MemoryBIO()
    half = ssl._create_unverified_context().wrap_bio(heard, to_say)
    with contextlib.suppress(ssl.SSLWantReadError):
        half.do_handshake()
    link.sendall(to_say.read())
    assert link.recv(1)


@pytest.mark.slow
def test_a_handshake_that_hangs_does_not_delay_the_end(encrypted):
    with making.a_server(ssl=encrypted) as server, socket.create_connection(address(server)) as link:
        begin_a_handshake(link)
        started = time.monotonic()
        server.drain(60)
        wait_for(server.event_loop.is_closed)
        assert time.monotonic() - started < 0.5


def test_the_end_may_be_asked_for_twice_and_after_it():
    with making.a_server() as server:
        server.drain(1)
        server.drain(1)
        wait_for(server.event_loop.is_closed)
        server.drain(1)
        server.abort()


def test_what_a_client_calls_itself_begins_no_line_of_the_log(caplog):
    caplog.set_level(logging.INFO)
    for label in (WORST, WORST * 1000, [WORST]):
        with (
            making.a_server() as server,
            contextlib.closing(making.a_client(address(server), client_label=label)) as storage,
        ):
            storage.history(z64)  # what was sent before has arrived
            [connection] = server.connections
            assert does_nothing(connection.zeo_storage.presented() + "\n", lines=1)
            assert len(connection.zeo_storage.presented()) <= 200
    told = [record for record in caplog.records if record.name.startswith(("ZEO.StorageServer", "ZEO.asyncio.server"))]
    assert any(r"\x1b[2J" in record.getMessage() for record in told)
    assert all(does_nothing(record.getMessage() + "\n", lines=1) for record in told)
