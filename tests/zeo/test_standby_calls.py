"""What a standby asks of its server, in one process: in which order, and what if that fails."""

import logging
import os
import threading

import pytest

import zkfleet
from tests.conftest import wait_for
from zkfleet import clocks
from zkfleet.devserver import DevServer
from zkfleet.errors import NodeNotFound, WaitTimedOut
from zkfleet.zeo.duty import State, Stop
from zkfleet.zeo.standby import Standby

PATH = "/databases/main"


class Recorder:
    """A server that does nothing but to remember what it was told."""

    def __init__(self):
        self.calls = []
        self.raising = {}
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def open(self):
        self.take("open")

    def abort(self):
        self.may_go_on.set()
        self.take("abort")

    def drain(self):
        self.take("drain")
        self.may_go_on.wait(10)

    def take(self, call):
        self.calls.append(call)
        if call in self.raising:
            raise self.raising[call]


@pytest.fixture(scope="module")
def hosts():
    with DevServer(tick=0.5) as server:
        yield server.hosts


@pytest.fixture
def registry(hosts):
    with zkfleet.connect(hosts, session_timeout=5) as registry:
        registry.import_tree("/databases\n  /main\n/lb\n  db -> /databases/main\n")
        yield registry


@pytest.fixture
def server():
    return Recorder()


@pytest.fixture
def start(registry, server):
    started = []

    def start_one(path=PATH, server=server, name="here-1"):
        started.append(Standby(registry, path, server, name=name).start())
        return started[-1]

    yield start_one
    for standby in started:
        standby.stop(Stop.NOW)
        standby.wait_until_stopped(10)


def until(standby, state):
    wait_for(lambda: standby.state is state, what=state.value)
    return standby


def test_it_opens_and_drains_and_gives_the_lock_back_last(start, server, registry):
    standby = until(start(), State.SERVING)
    assert standby.may_commit()
    assert set(registry.children(f"{PATH}.standby")) == {"primary", "here-1"}
    standby.stop()
    standby.wait_until_stopped(5)
    assert server.calls == ["open", "drain"]
    assert not standby.may_commit()
    wait_for(lambda: not set(registry.children(f"{PATH}.standby")))


def test_the_doctor_finds_nothing_wrong(start, registry):
    registry.import_tree("/databases\n  /other\n", trim=False)
    until(start(), State.SERVING)
    until(start("/databases/other", server=Recorder(), name=""), State.SERVING)
    assert registry.doctor("/databases") == []


def test_a_link_is_followed_to_where_the_lock_is(start, registry):
    until(start("/lb/db"), State.SERVING)
    assert registry.exists(f"{PATH}.standby/primary")


def test_a_path_that_leads_nowhere_is_refused(registry, server):
    with pytest.raises(NodeNotFound):
        Standby(registry, "/no/where", server).start()


def test_of_two_in_one_process_one_serves(start):
    first, other = until(start(), State.SERVING), Recorder()
    second = start(server=other, name="here-2")
    first.stop()
    until(second, State.SERVING)
    assert first.state is State.STOPPED
    assert other.calls == ["open"]


def test_a_drain_is_cut_short_when_it_must_stop_now(start, server):
    standby = until(start(), State.SERVING)
    server.may_go_on.clear()
    standby.stop()
    until(standby, State.DRAINING)
    assert standby.may_commit()
    with pytest.raises(WaitTimedOut, match="still draining"):
        standby.wait_until_stopped(0.01)
    standby.stop(Stop.NOW)
    standby.wait_until_stopped(5)
    assert server.calls == ["open", "drain", "abort"]


def test_a_drain_is_cut_short_when_the_lock_is_lost(start, server, registry):
    standby = until(start(), State.SERVING)
    server.may_go_on.clear()
    standby.stop()
    until(standby, State.DRAINING)
    registry.delete_recursive(f"{PATH}.standby/primary", force=True)
    standby.wait_until_stopped(5)
    assert server.calls == ["open", "drain", "abort"]


def test_a_storage_that_cannot_be_opened_is_left_to_the_others(start, server, caplog):
    server.raising["open"] = OSError("no such disk")
    standby = start()
    standby.wait_until_stopped(5)
    assert standby.problem is server.raising["open"]
    assert "the lock is given back" in caplog.text
    until(start(server=Recorder(), name="here-2"), State.SERVING)


def test_what_cannot_be_drained_is_aborted(start, server):
    standby = until(start(), State.SERVING)
    server.raising["drain"] = OSError("disk full")
    standby.stop()
    standby.wait_until_stopped(5)
    assert server.calls == ["open", "drain", "abort"]


def test_what_cannot_be_aborted_is_not_opened_again(start, server, registry):
    standby = until(start(), State.SERVING)
    server.raising["abort"] = OSError("I/O error")
    registry.delete_recursive(f"{PATH}.standby/primary", force=True)
    standby.wait_until_stopped(5)
    assert standby.problem is server.raising["abort"]
    assert server.calls == ["open", "abort"]


def test_a_file_that_somebody_has_is_told_once_with_who_has_it(start, server, registry, tmp_path, caplog):
    from zc.lockfile import LockError, LockFile

    lock = LockFile(str(tmp_path / "Data.fs.lock"))
    with pytest.raises(LockError) as refused:
        LockFile(str(tmp_path / "Data.fs.lock"))
    server.raising["open"] = refused.value
    caplog.set_level(logging.INFO)
    standby = start()
    wait_for(lambda: server.calls.count("open") > 5)
    (complaint,) = [one.getMessage() for one in caplog.records if one.getMessage().startswith("storage_locked")]
    assert f"by_pid={os.getpid()} " in complaint
    wait_for(lambda: registry.get_properties(f"{PATH}.standby/here-1").get("locked_by") == str(os.getpid()))
    server.raising.clear()
    lock.close()
    until(standby, State.SERVING)
    wait_for(lambda: registry.get_properties(f"{PATH}.standby/here-1")["locked_by"] == "")


def test_closing_the_registry_ends_the_service(hosts, registry, server):
    with zkfleet.connect(hosts, session_timeout=5) as own:
        standby = until(Standby(own, PATH, server, name="here-1").start(), State.SERVING)
    wait_for(lambda: server.calls == ["open", "abort"])
    assert not standby.may_commit()
    standby.stop()
    standby.wait_until_stopped(5)


def test_the_lease_is_over_when_the_machine_wakes_up(start, server, monkeypatch):
    """A clock that stands still meanwhile would let it commit beside whoever has taken over."""
    one = start()
    wait_for(one.may_commit)
    usual = clocks.since_boot
    monkeypatch.setattr("zkfleet.zeo.standby.since_boot", lambda: usual() + 3600)
    assert not one.may_commit()
    # The lock turns out to be ours still: then all that is open is closed before it is opened again.
    wait_for(lambda: server.calls == ["open", "abort", "open"])
    wait_for(one.may_commit)


@pytest.mark.parametrize("when", ["open", "drain"])
def test_a_thread_that_cannot_be_started_leaves_nothing_open(start, server, monkeypatch, when):
    usual = threading.Thread.start

    def refuse(thread):
        if thread.name == "zkfleet-standby-work":
            raise RuntimeError("can't start new thread")
        usual(thread)

    if when == "open":
        monkeypatch.setattr(threading.Thread, "start", refuse)
    one = start()
    if when == "drain":
        wait_for(one.may_commit)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        one.stop()
    one.wait_until_stopped(10)
    assert server.calls == {"open": [], "drain": ["open", "abort"]}[when]
    assert not one.may_commit()
