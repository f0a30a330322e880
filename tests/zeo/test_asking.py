import contextlib
import json
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import wait_for
from tests.zeo import making
from tests.zeo.asked import ZeoServer, listener
from zkfleet.errors import BadAddress, ConnectFailed, WaitTimedOut
from zkfleet.testing.zookeeper import free_port
from zkfleet.zeo.asking import ask, ask_all, parse

FIELDS = {
    "connections": 2,
    "loads": 3,
    "stores": 4,
    "commits": 5,
    "aborts": 6,
    "active_txns": 7,
    "lock_time": 1.5,
    "conflicts": 8,
    "conflicts_resolved": 9,
    "start": "Tue Nov 24 13:46:31 2026",
    "waiting": 10,
    "timeout-thread-is-alive": "stub",
    "last-transaction": "040d3b6600000000",
}


def sized(data):
    return struct.pack(">I", len(data)) + data


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ZeoServer(tmp_path_factory.mktemp("zeo"), storages=("1", "main")) as server:
        yield server


def test_a_server_says_what_it_serves(server):
    answer = ask(server.text)
    assert set(answer) == {"1", "main"}
    said = answer["main"]
    assert (said.connections, said.active, said.waiting, said.locked_at) == (0, 0, 0, None)
    assert said.last == "0" * 16


def test_our_servers_say_who_holds_the_commit_lock(tmp_path):
    with making.a_server() as server:
        address = f"127.0.0.1:{server.acceptor.addr[1]}"
        assert ask(address)["1"].lock_holder == ""
        with making.a_holder(("127.0.0.1", server.acceptor.addr[1]), "\x1b[2J/edit " + "x" * 500):
            said = ask(address)["1"]
            assert said.locked_at is not None
            host, _, described = said.lock_holder.partition(" ")
            assert host.startswith("127.0.0.1:")
            assert described.startswith(r"\x1b[2J/edit xxx")
            assert len(said.lock_holder) == 200 + len(r"\x1b") - 1
        wait_for(lambda: ask(address)["1"].lock_holder == "")


@pytest.mark.slow
def test_it_is_asked_on_a_unix_socket(tmp_path):
    with ZeoServer(tmp_path, unix=True) as server:
        assert set(ask(server.text)) == {"1"}


@pytest.fixture
def certificate(tmp_path):
    assert shutil.which("openssl"), "openssl makes the certificates: apt-get install openssl"
    key, cert = tmp_path / "key.pem", tmp_path / "crt.pem"
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=zeo -addext subjectAltName=IP:127.0.0.1,DNS:zeo"
    subprocess.run([*made.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


@pytest.mark.slow
def test_it_is_asked_by_tls(tmp_path, certificate, server):
    cert, key = certificate
    settings = f"<ssl>\ncertificate {cert}\nkey {key}\nauthenticate {cert}\n</ssl>"
    trusting = ssl.create_default_context(cafile=str(cert))
    trusting.load_cert_chain(cert, key)
    with ZeoServer(tmp_path, settings=settings) as encrypted:
        assert set(ask(encrypted.text, tls=trusting)) == {"1"}
        assert set(ask(encrypted.text, tls=trusting, server_name="zeo")) == {"1"}
        with pytest.raises(ConnectFailed, match="CERTIFICATE_VERIFY_FAILED"):
            ask(encrypted.text, tls=ssl.create_default_context())
        with pytest.raises(ConnectFailed):
            ask(encrypted.text)
        with pytest.raises(ConnectFailed, match="TLS"):
            ask(server.text, tls=trusting)


def test_nobody_there_is_said_at_once():
    with pytest.raises(ConnectFailed, match="refused"):
        ask(f"127.0.0.1:{free_port()}")
    with pytest.raises(ConnectFailed, match="No such file"):
        ask("/nowhere/zeo.sock")


@pytest.mark.slow
def test_a_frozen_server_is_given_up_in_time(tmp_path):
    with ZeoServer(tmp_path) as server:
        server.send(signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(WaitTimedOut, match=server.text):
            ask(server.text, timeout=0.5)
        assert time.monotonic() - began < 1.5


ENDLESS = struct.pack(">I", 1 << 20)


def trickle(link):
    while True:
        link.sendall(b"x")
        threading.Event().wait(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("said", "then"),
    [((), socket.socket.detach), ((sized(b"Z5"),), socket.socket.detach), ((sized(b"Z5"), ENDLESS), trickle)],
    ids=["silence", "half", "endless"],
)
def test_who_never_says_all_is_given_up_in_time(said, then):
    with listener(*said, then=then) as address:
        began = time.monotonic()
        with pytest.raises(WaitTimedOut, match="no answer within"):
            ask(address, timeout=0.3)
        assert time.monotonic() - began < 1.3


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "no ZEO server: it begins with b'HTTP'"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], "no ZEO server"),
        ([b"\x15\x03\x03\x00\x02\x02\x28"], "speaks TLS"),
        ([sized(b"hello")], "no ZEO server: it begins with b'hello'"),
        ([sized(b"Z5"), struct.pack(">I", 1 << 31)], "no ZEO server"),
        ([sized(b"Z5"), sized(b"{")], "cannot be read"),
        ([sized(b"Z5"), sized(b'{"1": {}}')], "cannot be read"),
        ([sized(b"Z5"), sized(b"")[:2]], "closed the connection"),
        ([], "closed the connection"),
    ],
)
def test_who_is_no_zeo_server_is_told_apart(said, why):
    with listener(*said, then=lambda link: link.recv(8)) as address, pytest.raises(ConnectFailed, match=why):
        ask(address, timeout=5)


@pytest.mark.slow
def test_all_are_asked_at_once_and_each_has_its_own_answer(server):
    with listener(then=socket.socket.detach) as one, listener(then=socket.socket.detach) as other:
        began = time.monotonic()
        answers = ask_all([one, server.text, other, "nonsense"], timeout=0.4)
        assert time.monotonic() - began < 1.2
    assert isinstance(answers[one], WaitTimedOut)
    assert isinstance(answers[other], WaitTimedOut)
    assert isinstance(answers["nonsense"], BadAddress)
    assert set(answers[server.text]) == {"1", "main"}


def test_a_server_without_storages_has_an_answer():
    with listener(sized(b"Z5"), sized(b"{}"), then=lambda link: link.recv(8)) as address:
        assert ask(address) == {}


def test_all_that_is_said_is_read():
    said = parse("a:1", json.dumps({"1": FIELDS}).encode())["1"]
    assert (said.connections, said.active, said.waiting) == (2, 7, 10)
    assert (said.commits, said.aborts, said.conflicts, said.conflicts_resolved) == (5, 6, 8, 9)
    assert (said.locked_at, said.last) == (1.5, FIELDS["last-transaction"])


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.binary() | anything.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_answer_is_refused_and_nothing_else_happens(data):
    with contextlib.suppress(ConnectFailed):
        parse("a:1", data)


@given(st.sampled_from(sorted(FIELDS)), anything)
def test_a_field_that_is_not_of_its_kind_is_refused(name, value):
    try:
        said = parse("a:1", json.dumps({"1": FIELDS | {name: value}}).encode())["1"]
    except ConnectFailed:
        return
    assert len(bytes.fromhex(said.last)) == 8
    assert all(isinstance(count, int | float) for count in (said.connections, said.commits, said.waiting))
