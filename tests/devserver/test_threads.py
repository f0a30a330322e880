"""The shell, used from several threads, while it is busy, and by a process that forks."""

import contextlib
import logging
import os
import socket
import threading
import time

import pytest

from tests.conformance import wire
from tests.conformance.wire import Closed, Wire
from tests.conftest import wait_for
from zkfleet.devserver import DevServer, running
from zkfleet.devserver.codes import Code
from zkfleet.devserver.requests import Op
from zkfleet.errors import Closed as NotRunning
from zkfleet.errors import WaitTimedOut, ZkfleetError


@pytest.fixture
def served():
    with DevServer() as served:
        yield served


def threads():
    """The threads of all dev servers; those of others in this process, and of other tests, among them."""
    return {thread for thread in threading.enumerate() if thread.name == "zkfleet-devserver"}


@contextlib.contextmanager
def client_of(served, **wish):
    with contextlib.closing(Wire(served.hosts, **wish)) as client:
        yield client


def test_several_threads_restart_one_server(served):
    failed = []

    def restart():
        try:
            served.restart()
        except ZkfleetError as exc:
            failed.append(exc)

    others = threads() - {served._run._thread}
    for _ in range(5):
        restarting = [threading.Thread(target=restart) for _ in range(4)]
        for thread in restarting:
            thread.start()
        for thread in restarting:
            thread.join()
    assert failed == []
    served.stop()
    assert threads() == others


def test_whatever_is_asked_while_it_comes_and_goes_is_done_or_refused(served):
    failed, through = [], threading.Event()

    def ask(*calls):
        while not through.is_set():
            for call in calls:
                try:
                    call()
                except NotRunning:
                    pass
                except Exception as exc:
                    failed.append(exc)

    asking = [
        threading.Thread(target=ask, args=calls)
        for calls in ([lambda: served.expire_session(1)], [served.pause, served.resume])
    ]
    for thread in asking:
        thread.start()
    for _ in range(50):
        served.kill()
        served.start()
    through.set()
    for thread in asking:
        thread.join()
    served.resume()
    assert failed == []
    with client_of(served) as client:
        client.ping()


def test_a_server_that_is_busy_is_not_said_to_have_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "PATIENCE", 0.05)
    at_it, go_on = threading.Event(), threading.Event()
    served = DevServer(data=tmp_path / "data").start()
    with client_of(served) as client:
        client.ask(Op.CREATE, wire.create("/a"))
    busy = threading.Thread(target=served._run.call, args=[lambda: (at_it.set(), go_on.wait(20), 0)[-1]])
    monkeypatch.setattr(threading, "excepthook", lambda _args: None)  # it is not answered in time
    busy.start()
    assert at_it.wait(5)
    with pytest.raises(WaitTimedOut, match="still busy"):
        served.stop()
    assert "/a" not in (tmp_path / "data").read_text()
    go_on.set()
    busy.join()
    wait_for(lambda: stopped(served), what="it stops")
    assert "/a" in (tmp_path / "data").read_text()
    served.start().stop()


def stopped(served):
    try:
        served.stop()
    except WaitTimedOut:
        return False
    return True


def test_a_host_that_is_looked_up_for_too_long_is_given_up(monkeypatch):
    looked_up = threading.Event()
    real = socket.getaddrinfo

    def slow(*args, **options):
        looked_up.wait(20)
        return real(*args, **options)

    monkeypatch.setattr(running, "PATIENCE", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", slow)
    served, others = DevServer(host="localhost"), threads()
    with pytest.raises(WaitTimedOut, match="localhost"):
        served.start()
    looked_up.set()
    wait_for(lambda: threads() == others, what="its thread ends")
    monkeypatch.undo()
    with served:
        assert served.port


def test_all_addresses_of_a_name_have_one_port():
    with DevServer(host="localhost") as served:
        addresses = {found[4][0] for found in socket.getaddrinfo("localhost", served.port, type=socket.SOCK_STREAM)}
        for address in addresses:
            socket.create_connection((address, served.port), 5).close()


@pytest.fixture
def forked(tmp_path):
    """A server with a file, a client of it, and a child process that was forked then and does nothing."""
    served = DevServer(data=tmp_path / "data").start()
    client = Wire(served.hosts)
    child = os.fork()
    if not child:
        os.read(os.pipe()[0], 1)  # until it is ended
        os._exit(0)
    yield served, client
    os.kill(child, 9)
    os.waitpid(child, 0)
    client.close()
    served.stop()


def test_a_server_ends_though_a_forked_child_has_its_sockets(forked):
    served, client = forked
    client.socket.settimeout(5)
    served.stop()
    with pytest.raises(Closed):
        client.read()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", served.port), 5)
    served.start()
    with client_of(served) as another:
        another.ping()


def test_a_forked_child_has_no_server_and_harms_none(tmp_path):
    with DevServer(data=tmp_path / "data") as served, client_of(served) as client:
        child = os.fork()
        if not child:
            ok = False
            try:
                try:
                    served.expire_session(client.session)
                except NotRunning:
                    served.stop()
                    ok = True
            finally:
                os._exit(0 if ok else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert client.ask(Op.CREATE, wire.create("/a")).code == Code.OK
    assert "/a" in (tmp_path / "data").read_text()


def test_a_tick_that_fails_is_told_and_not_the_last(caplog):
    broken = threading.Event()

    def clock():
        if broken.is_set():
            raise ArithmeticError("the clock is broken")
        return time.monotonic()

    with DevServer(tick=0.1, clock=clock) as served:
        broken.set()
        wait_for(lambda: sum(record.levelno >= logging.ERROR for record in caplog.records) >= 2, what="it is told")
        broken.clear()
        with client_of(served, timeout=200) as client:
            wait_for(lambda: client.session not in served.core.sessions.timeouts, what="sessions end again")
