"""What a forked child has of its parent's monitor: nothing that the parent or its clients notice."""

import os
import subprocess
import sys
import threading

import pytest
from prometheus_client import CollectorRegistry

from tests.monitor.conftest import Client, ask
from tests.monitor.doors import LOOPS, running
from tests.monitor.forks import FORKS, a_child, in_a_child
from zkfleet import monitor
from zkfleet.monitor import Certificates, Column, Kind, Limits, table, web
from zkfleet.monitor.asking import Call
from zkfleet.monitor.metrics import Collector
from zkfleet.monitor.running import Running

pytestmark = FORKS
NUMBERS = [Column("number", "One.", kind=Kind.GAUGE)]

# A program whose child ends as programs do, with what is to be done at exit.
PROGRAM = """
import os, sys, zkfleet, zkfleet.monitor
registry = zkfleet.connect(sys.argv[1], after_fork="reconnect")
monitor = zkfleet.monitor.start(0, registry=registry, path="/monitors", http=0)
beside = zkfleet.monitor.start()
if os.fork() == 0:
    monitor.close()
    del monitor, beside
    sys.exit()
code = os.wait()[1]
print(code, monitor.address, beside.address, monitor.http.address, flush=True)
input()
"""


@pytest.fixture
def commands(commands):
    @commands.command("health", blocks=False)
    def health():
        return monitor.lines("OK")

    return commands


def hears_the_end(client):
    """Whether the other side hangs up, in whichever way."""
    try:
        return client.rest() == ""
    except ConnectionError:
        return True


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("address", [None, 0])
def test_a_child_answers_nobody_and_holds_no_connection_open(start, name, address):
    with running(name) as loop:
        started = loop.call(lambda: start(address, door=loop.door))
        with Client(started.address) as one, Client(started.address) as other:
            for client in (one, other):
                client.send(b"interactive\n").line()
            with a_child():
                assert ask(started.address, "health") == "OK\n"
                assert one.send(b"health\n").line() == "OK\n"
                assert one.send(b"quit\n").rest() == "Goodbye.\n"
                loop.call(started.close)
                assert hears_the_end(other)
                with pytest.raises(OSError):
                    Client(started.address)


@pytest.mark.parametrize("name", LOOPS)
def test_a_child_holds_no_encrypted_connection_open(start, certificates, trusting, name):
    tls = Certificates(str(certificates / "server.crt"), str(certificates / "server.key"))
    with running(name) as loop:
        started = loop.call(lambda: start(0, door=loop.door, tls=tls))
        with Client(started.address, tls=trusting(certificates)) as client:
            client.send(b"interactive\n").line()
            with a_child():
                assert client.send(b"health\n").line() == "OK\n"
                loop.call(started.close)
                assert hears_the_end(client)


@pytest.mark.parametrize("name", LOOPS)
def test_a_child_holds_no_connection_open_whose_handshake_is_not_over(start, certificates, trusting, name):
    tls = Certificates(str(certificates / "server.crt"), str(certificates / "server.key"))
    with running(name) as loop:
        started = loop.call(lambda: start(0, door=loop.door, tls=tls))
        with Client(started.address, timeout=2) as client:
            client.send(b"\x16\x03\x01")  # the beginning of a hello
            assert ask(started.address, "health", tls=trusting(certificates)) == "OK\n"
            with a_child():
                loop.call(started.close)
                assert hears_the_end(client)


def test_a_child_that_closes_the_monitor_leaves_the_parents(start):
    started = start(http=0)
    assert in_a_child(lambda: str(started.close())) == "None"
    assert ask(started.address, "health") == "OK\n"
    assert ask(started.http.address, "GET /health HTTP/1.0", "").startswith("HTTP/1.1 200")


def test_a_child_that_is_forked_while_the_monitor_looks_at_its_file_can_close_it(start):
    started = start()
    with started._lock:  # which is held by a thread that is not in the child
        assert in_a_child(lambda: str(started.close())) == "None"
    assert ask(started.address, "health") == "OK\n"


def test_a_child_may_have_a_monitor_of_its_own(start, tmp_path):
    started = start(http=0)

    def child():
        with monitor.start(str(tmp_path / "child.sock"), http=0) as own:
            return ask(own.address, "health") + ask(own.http.address, "GET /health HTTP/1.0", "").splitlines()[0]

    assert in_a_child(child) == "OK\nHTTP/1.1 200 OK"
    assert ask(started.address, "health") == "OK\n"


def test_a_child_has_no_monitor_where_its_parent_has_one(start):
    started = start()
    assert in_a_child(lambda: str(monitor.start(started.address))) == "False"
    assert ask(started.address, "health") == "OK\n"


@pytest.mark.slow
def test_a_child_that_ends_takes_nothing_along_and_says_nothing(registry, hosts, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    registry.make_node("/monitors")
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, hosts]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            code, address, beside, http = program.stdout.readline().split()
            assert code == "0"
            assert ask(address, "health") == ask(beside, "health") == "OK\n"
            assert ask(http, "GET /health HTTP/1.0", "").startswith("HTTP/1.1 200")
            assert [str(one) for one in registry.providers("/monitors").endpoints] == [address]
        finally:
            _, errors = program.communicate("\n", 10)
    assert errors == ""
    assert os.listdir(tmp_path / "zkfleet") == []


def test_what_the_parents_threads_had_begun_is_asked_again_in_the_child(commands):
    parent, released = os.getpid(), threading.Event()

    @commands.command("stay", columns=NUMBERS)
    def stay():
        assert os.getpid() != parent or released.wait(10)
        return table(NUMBERS, [{"number": 7}])

    # Both are made before a server forks, and are used in its children.
    registry = CollectorRegistry()
    registry.register(Collector(Running(commands, Limits(deadline=0.05))))
    app = web.wsgi(insecure=True, commands=commands, limits=Limits(running=1, deadline=0.05))

    def asked():
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/commands/stay.json"}
        return str(registry.get_sample_value("zkfleet_stay_number")) + b"".join(app(environ, lambda *_: None)).decode()

    assert "no answer in 0.05 s" in asked()
    assert "not answered yet: stay" in asked()
    assert in_a_child(asked) == '7.0{"command":"stay","ok":true,"answer":[{"number":7}]}\n'
    released.set()


def test_a_child_that_is_forked_while_a_command_begins_runs_its_own(commands):
    ours = Running(commands, Limits())
    with ours._lock:
        assert (
            in_a_child(lambda: str(ours.begin(Call(commands.get("help"), (None,)), lambda *_: None) is not None))
            == "True"
        )
