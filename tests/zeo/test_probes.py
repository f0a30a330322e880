"""Whoever only looks whether a server is there leaves no trace in its log."""

import contextlib
import logging
import socket
import ssl
import struct

import pytest

from tests.conftest import wait_for
from tests.zeo import making

RUOK, GREETING = (struct.pack(">I", len(one)) + one for one in (b"ruok", b"Z5"))


def reset(link):
    """End a connection as checks of some load balancers do."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    link.close()


def go(link):
    link.close()


def hang_up(link):
    link.shutdown(socket.SHUT_WR)
    while link.recv(4096):
        pass
    link.close()


ENDS = {"RST": reset, "FIN": go, "half": hang_up}


@pytest.fixture(params=["bare", "TLS"])
def options(request, certificates):
    if request.param == "bare":
        return {}
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    return {"ssl": context}


def records(caplog, least):
    """What servers have logged, and asyncio for them."""
    return [
        record
        for record in caplog.records
        if record.levelno >= least and record.name.startswith(("ZEO", "zkfleet.zeo", "asyncio"))
    ]


@pytest.mark.parametrize(
    "sent", [b"", RUOK, GREETING, b"GET / HTTP/1.0\r\n\r\n"], ids=["nothing", "ruok", "Z5", "HTTP"]
)
@pytest.mark.parametrize("end", ENDS)
def test_a_probe_leaves_no_line_whoever_ends_it(options, sent, end, caplog):
    with making.a_server(**options) as server:
        caplog.set_level(logging.INFO)
        caplog.clear()
        with contextlib.suppress(ConnectionError):
            link = socket.create_connection(server.acceptor.addr, 10)
            wait_for(lambda: server.connections)
            link.sendall(sent)
            ENDS[end](link)
        wait_for(lambda: not server.connections)
        found = records(caplog, logging.INFO)
    strange = sent.startswith(b"GET") or ("ssl" in options and sent)
    assert strange or not found
    assert not records(caplog, logging.ERROR)


def test_a_client_is_logged_when_it_has_registered(caplog):
    caplog.set_level(logging.INFO)
    with making.a_server() as server, contextlib.closing(making.a_client(server.acceptor.addr)):
        [connection] = server.connections
        wait_for(lambda: "client_registered" in caplog.text)
        assert f"client_registered peer={connection.name} storage=1" in caplog.text
    wait_for(lambda: ") disconnected" in caplog.text)
    # The client's own words have been left alone.
    assert "Connected ZEO.asyncio.client" in caplog.text
    assert "Connected zkfleet" not in caplog.text


def test_for_debugging_all_is_there(caplog):
    caplog.set_level(logging.DEBUG)
    with making.a_server() as server, socket.create_connection(server.acceptor.addr, 10) as link:
        link.sendall(GREETING)
        wait_for(lambda: "received handshake" in caplog.text)
        reset(link)
        wait_for(lambda: "disconnected" in caplog.text)
    lines = [record for record in caplog.records if record.getMessage().startswith(("Connected zkfleet", "received"))]
    assert [record.levelname for record in lines] == ["DEBUG"] * 2
