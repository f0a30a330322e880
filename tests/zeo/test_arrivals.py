import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import struct
import threading

import pytest
import uvloop
from ZEO.asyncio.marshal import encoder

from tests.conftest import wait_for
from tests.zeo import making
from tests.zeo.plain import sized
from tests.zeo.test_messages import repeated
from tests.zeo.test_storage_server import address, begin_a_handshake
from zkfleet.zeo import asking
from zkfleet.zeo.arrivals import DEFAULT_MOST, FEWEST, KEPT, room_for


def framed(*messages):
    return b"".join(struct.pack(">I", len(one)) + one for one in messages)


@contextlib.contextmanager
def a_link(where, *messages):
    """A connection that sends messages."""
    with socket.create_connection(where, 10) as link:
        link.sendall(framed(*messages))
        yield link


def ends(link):
    """Wait for the other side's end of a connection, and return what it sent before."""
    heard = b""
    with contextlib.suppress(ConnectionError):
        while more := link.recv(4096):
            heard += more
    return heard


@pytest.fixture
def encrypted(certificates):
    """A server's TLS context."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    return context


# -- what is sent


def call(name, arguments=b")"):
    """A call as a pickle: a number, no flag, and what is given for its name and arguments."""
    return b"\x80\x03(K\x01K\x00" + name + arguments + b"t."


REGISTER = b"X\x08\x00\x00\x00register"
EVIL = {
    "a name whose hash takes years": call(repeated(60, b"")[2:]),
    "an argument whose hash takes years": call(REGISTER, b"(" + repeated(60, b"")[2:] + b"Nt"),
    "a key whose hash takes years": call(b"}" + repeated(60, b"")[2:] + b"Ns"),
    "a nesting that has no hash": call(b")" + b"\x85" * 500_000),
    "a command": call(b"cbuiltins\nopen\n(X\x06\x00\x00\x00openedX\x01\x00\x00\x00wtR"),
    "a call before registering": encoder(b"Z5")(1, False, "loadBefore", (b"o" * 8, b"t" * 8)),
    "a long registration": encoder(b"Z5")(1, False, "register", ("1" * 100_000, False)),
    "no pickle": b"what?",
    "nothing": b"",
}


@pytest.mark.parametrize("what", EVIL)
def test_who_sends_what_no_client_sends_is_sent_away(what, caplog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with making.a_server() as server:
        with a_link(address(server), b"Z5", EVIL[what]) as link:
            assert ends(link) == framed(b"Z5")
        wait_for(lambda: not server.connections)
        assert making.commit(address(server))
    [said] = [record for record in caplog.records if "client_refused" in record.message]
    assert said.levelno == logging.WARNING
    assert len(said.message) < 300
    assert not any(record.exc_info for record in caplog.records)
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("greeting", [b"Z4", b"X5", b"Z", b"5", b"Z5" * 30, b"r" * 1000, b"\x00\xff"])
def test_who_greets_otherwise_is_sent_away(greeting, caplog):
    with making.a_server() as server, a_link(address(server), greeting) as link:
        assert ends(link) == framed(b"Z5")
    assert "client_refused" in caplog.text
    assert not any(record.exc_info for record in caplog.records)


def test_who_has_registered_may_not_send_it_either():
    with making.a_server() as server, contextlib.closing(making.a_client(address(server))) as storage:
        protocol = storage._server.client.protocol
        storage._server.client.loop.call_soon_threadsafe(protocol.write_message, EVIL["a name whose hash takes years"])
        wait_for(lambda: storage._connection_generation > 1)
        assert making.commit(address(server))


def test_the_other_encoding_is_looked_at_too(caplog):
    msgpack = pytest.importorskip("msgpack")
    for said in ([1, 0, [[]] * 9, []], [1, 0, 7, []], [1, 0, "no", []], {}, None):
        with making.a_server(msgpack=True) as server, a_link(address(server), b"M5", msgpack.packb(said)) as link:
            assert ends(link) == framed(b"M5")
    assert caplog.text.count("client_refused") == 5
    with making.a_server(msgpack=True) as server:
        assert making.commit(address(server))


def test_a_registration_may_come_in_pieces_and_with_what_follows():
    encode = encoder(b"Z5")
    calls = encode(1, False, "register", ("1", False)), encode(2, False, "tpc_begin", (b"x" * 100_000, b"", b"", {}))
    for size in (1, 7, 1 << 20):
        with making.a_server() as server, a_link(address(server)) as link, link.makefile("rb") as stream:
            data = framed(b"Z5", *calls)
            for at in range(0, 200, size):
                link.sendall(data[at : min(at + size, 200)])
            link.sendall(data[200:])
            assert sized(stream) == b"Z5"
            assert [b".reply" in sized(stream) for _ in calls] == [True, True]


# -- who is silent


@pytest.mark.parametrize("messages", [(), (b"Z5",)], ids=["silent", "greeted"])
def test_who_does_not_register_in_time_is_sent_away(messages, caplog):
    caplog.set_level(logging.INFO)
    with making.a_server(handshake_timeout=0.05) as server:
        with a_link(address(server), *messages) as link:
            assert ends(link) == framed(b"Z5")
        wait_for(lambda: not server.connections)
    assert "had not registered" in caplog.text


def test_who_has_registered_may_be_silent_for_long():
    with making.a_server(handshake_timeout=0.1) as server, contextlib.closing(making.a_client(address(server))) as it:
        [connection] = server.connections
        with a_link(address(server)) as other:
            ends(other)
        assert list(server.connections) == [connection]
        assert it._connection_generation == 1


def test_a_server_that_was_busy_has_nobody_to_blame():
    with making.a_server(handshake_timeout=0.2) as server, a_link(address(server)) as link:
        wait_for(lambda: server.connections)
        server.event_loop.call_soon_threadsafe(threading.Event().wait, 1.5)
        link.sendall(framed(b"Z5", encoder(b"Z5")(1, False, "register", ("1", False))))
        wait_for(lambda: any(one.has_registered for one in server.connections))


@pytest.mark.parametrize("greets", [True, False])
def test_who_does_not_agree_on_tls_in_time_is_sent_away(encrypted, greets):
    with making.a_server(ssl=encrypted, handshake_timeout=0.1) as server, a_link(address(server)) as link:
        if greets:
            begin_a_handshake(link)
        ends(link)
        wait_for(lambda: not server.connections)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_tls_goes_on_as_before(encrypted, loop, monkeypatch):
    monkeypatch.setattr("ZEO.asyncio.server.new_event_loop", loop)
    context = ssl._create_unverified_context()
    with making.a_server(ssl=encrypted) as server:
        assert making.commit(address(server), ssl=context)
        assert asking.ask("{}:{}".format(*address(server)), tls=context)["1"].connections == 0
        with contextlib.closing(making.a_client(address(server), ssl=context)):
            [connection] = server.connections
            assert connection._transport.get_extra_info("cipher")
            assert connection.name != repr(address(server))
        wait_for(lambda: not server.connections)


def test_who_speaks_no_tls_is_sent_away(encrypted, caplog):
    caplog.set_level(logging.INFO)
    with making.a_server(ssl=encrypted) as server, a_link(address(server), b"Z5") as link:
        ends(link)
        wait_for(lambda: not server.connections)
    assert "tls_failed" in caplog.text


# -- how many there may be


def test_the_oldest_silent_one_makes_room(caplog):
    with making.a_server(max_connections=2) as server, contextlib.ExitStack() as links:
        first = links.enter_context(a_link(address(server)))
        assert first.recv(6) == framed(b"Z5")
        storage = links.enter_context(contextlib.closing(making.a_client(address(server))))
        second = links.enter_context(a_link(address(server)))
        assert second.recv(6) == framed(b"Z5")
        assert ends(first) == b""
        assert storage._connection_generation == 1
        assert len(server.connections) == 2
    assert caplog.text.count("connections_refused") == 1


def test_when_all_are_clients_the_newcomer_is_sent_away():
    with making.a_server(max_connections=1) as server, contextlib.closing(making.a_client(address(server))) as storage:
        with a_link(address(server)) as link:
            assert ends(link) == b""
        assert making.store_and_finish(storage)
        storage.close()
        wait_for(lambda: not server.connections)
        assert making.commit(address(server))


def test_who_has_not_agreed_on_tls_counts(encrypted):
    with making.a_server(ssl=encrypted, max_connections=2) as server, contextlib.ExitStack() as links:
        silent = [links.enter_context(a_link(address(server))) for _ in range(5)]
        for one in silent[:3]:
            ends(one)
        assert len(server.connections) == 2
        assert making.commit(address(server), ssl=ssl._create_unverified_context())


def test_files_are_kept_back():
    assert room_for(None, files=1024, opened=20) == 1024 - 20 - KEPT
    assert room_for(None, files=1 << 20, opened=20) == DEFAULT_MOST
    assert room_for(None, files=-1, opened=20) == DEFAULT_MOST
    assert room_for(50, files=1024, opened=20) == 50
    assert room_for(5000, files=1024, opened=20) == 1024 - 20 - KEPT
    assert room_for(50_000, files=1 << 20, opened=20) == 50_000
    assert room_for(None, files=256, opened=20) == 256 - 20 - 64
    assert room_for(None, files=16, opened=20) == FEWEST


LIMITED = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256)); {making.SERVE}"


@pytest.mark.slow
def test_a_flood_of_silent_connections_keeps_nobody_out(tmp_path):
    """On uvloop, with few files: the storage has some for its blobs and for its index all the same."""
    port = making.free_port()
    config = making.a_config(address=f"127.0.0.1:{port}", storage=making.a_filestorage(tmp_path / "Data.fs"))
    where = ("127.0.0.1", port)
    with making.ServerProcess(tmp_path, config, code=LIMITED) as server, contextlib.ExitStack() as links:
        server.says("serving address")
        for _ in range(600):
            links.enter_context(a_link(where))
        assert making.commit(where)
        assert len(os.listdir(f"/proc/{server.pid}/fd")) <= 200
        assert making.commit(where)
        assert "connections_refused" in server.log
        server.signal(signal.SIGTERM)
        assert server.ends() == 0
        assert "Too many open files" not in server.log
        assert "Traceback" not in server.log
    assert (tmp_path / "Data.fs.index").exists()
