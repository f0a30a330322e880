"""TLS at every door, with real certificates."""

import contextlib
import socket
import ssl
import threading

import pytest

from tests.conftest import wait_for
from tests.monitor.conftest import Client, ask
from tests.monitor.doors import LOOPS, running
from tests.monitor.test_security import heard
from zkfleet import monitor
from zkfleet.monitor import Certificates, Limits

MIB = 1 << 20


@pytest.fixture(params=LOOPS)
def door(request):
    with running(request.param) as loop:
        yield loop


@pytest.fixture
def opened(door, start, certificates):
    """Starts monitors at a door that speak TLS; `asks` for client certificates."""
    made = []

    def open_one(*, asks=False, **options):
        authorities = str(certificates / "client.crt") if asks else None
        tls = Certificates(str(certificates / "server.crt"), str(certificates / "server.key"), authorities)
        made.append(door.call(lambda: start(0, door=door.door, tls=tls, **options)))
        return made[-1]

    yield open_one
    for one in made:
        door.call(one.close)


@pytest.fixture
def commands(commands):
    @commands.command("large", blocks=False)
    def large():
        return monitor.lines("x" * (50 * MIB))

    @commands.command("slow")
    def slow():
        return monitor.lines(threading.current_thread().name)

    return commands


def hung_up(client):
    """Whether the other side hangs up, in whichever way, and says nothing."""
    try:
        return client.socket.recv(1) == b""
    except ConnectionError:
        return True


def test_lines_and_http_are_answered_over_tls(opened, trusting, certificates):
    started = opened(http=0)
    tls = trusting(certificates)
    assert ask(started.address, "quit", tls=tls) == "Goodbye.\n"
    assert ask(started.address, "interactive", "slow", "", "quit", tls=tls).count("zkfleet-monitor-slow\n") == 2
    assert ask(started.http.address, "GET /commands/slow.json HTTP/1.0", "", tls=tls).startswith("HTTP/1.1 200")


def test_who_has_no_certificate_or_another_one_is_not_answered(opened, trusting, certificates):
    started = opened(asks=True)
    for name in [None, "server"]:
        assert heard(started.address, "quit", tls=trusting(certificates, name=name)) == ""
    assert ask(started.address, "quit", tls=trusting(certificates, name="client")) == "Goodbye.\n"
    wait_for(lambda: not started.board.talks)


def test_who_speaks_no_tls_is_not_answered_and_hung_up_on(opened, trusting, certificates):
    started = opened()
    for line in ["quit", "GET / HTTP/1.1", "\0" * 100, "x" * 100_000]:
        assert "Goodbye" not in heard(started.address, line)
    assert ask(started.address, "quit", tls=trusting(certificates)) == "Goodbye.\n"


def test_who_speaks_another_tls_is_not_answered(opened, trusting, certificates):
    started = opened()
    tls = trusting(certificates)
    tls.minimum_version = tls.maximum_version = ssl.TLSVersion.TLSv1_2
    tls.set_ciphers("NULL-SHA256:@SECLEVEL=0")  # which no server takes by itself
    assert heard(started.address, "quit", tls=tls) == ""
    assert ask(started.address, "quit", tls=trusting(certificates)) == "Goodbye.\n"


@pytest.mark.slow
def test_a_large_answer_is_read_or_dropped(opened, trusting, certificates):
    started = opened(limits=Limits(answer=64 * MIB, idle=1))
    assert len(ask(started.address, "large", tls=trusting(certificates))) == 50 * MIB + 1
    with Client(started.address, tls=trusting(certificates)) as client:
        client.send(b"large\n")
        wait_for(lambda: started.board.unread > 30 * MIB)
        assert ask(started.address, "quit", tls=trusting(certificates)) == "Goodbye.\n"
        wait_for(lambda: not started.board.talks)


def test_who_says_that_it_ends_is_told_the_same(opened, trusting, certificates):
    started = opened()
    with Client(started.address, tls=trusting(certificates)) as client:
        client.send(b"interactive\n").line()
        client.socket.unwrap().close()  # which waits for it


@pytest.mark.slow
def test_who_ends_before_it_has_read_is_hung_up_on_at_the_latest_then(opened, trusting, certificates, caplog):
    started = opened(limits=Limits(answer=64 * MIB))
    with Client(started.address, tls=trusting(certificates)) as client:
        client.send(b"interactive\nlarge\n")
        wait_for(lambda: started.board.unread > 30 * MIB)
        socket.socket.shutdown(client.socket, socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            client.rest()
        wait_for(lambda: not started.board.talks)
    assert "SSL connection is closed" not in caplog.text


@pytest.mark.slow
def test_who_begins_a_handshake_and_is_silent_is_hung_up_on(opened, trusting, certificates, monkeypatch):
    for room in ("aio", "twisted"):
        monkeypatch.setattr(f"zkfleet.monitor.{room}.SECONDS_FOR_A_HANDSHAKE", 0.3)
    started = opened()
    with Client(started.address) as client:
        client.send(b"\x16\x03\x01")  # the beginning of a hello
        assert hung_up(client)
    assert ask(started.address, "quit", tls=trusting(certificates)) == "Goodbye.\n"


def test_many_silent_handshakes_keep_no_more_than_so_many_open(opened, trusting, certificates, monkeypatch):
    for room in ("aio", "twisted"):
        monkeypatch.setattr(f"zkfleet.monitor.{room}.SECONDS_FOR_A_HANDSHAKE", 60)
    started = opened(limits=Limits(connections=3))
    silent = [Client(started.address) for _ in range(10)]
    assert all(hung_up(one) for one in silent[3:])
    for one in silent:
        one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        one.socket.close()
    wait_for(lambda: heard(started.address, "quit", tls=trusting(certificates)) == "Goodbye.\n")
