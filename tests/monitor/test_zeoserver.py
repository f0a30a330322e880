import json
import threading

import pytest

from tests.conftest import wait_for
from tests.monitor.conftest import ask
from tests.zeo import making
from zkfleet import monitor
from zkfleet.monitor.families import families
from zkfleet.monitor.zeoserver import zeoserver


@pytest.fixture
def say(tmp_path):
    """Asks a monitor with all commands of this process; actions are on."""
    with monitor.start(str(tmp_path / "m.sock"), actions=True) as started:
        yield lambda *lines: ask(started.address, *lines)


@pytest.fixture
def server():
    with making.a_server() as made:
        yield made


def told(say, name):
    return json.loads(say(f"json {name}"))["answer"]


def test_a_process_without_servers_has_none_to_tell_of(say):
    assert told(say, "zeoserver") == []
    assert say("locks") == "nobody holds a commit lock\n"


def test_a_server_says_what_it_has_done(say, server):
    making.commit(server.acceptor.addr)
    (said,) = told(say, "zeoserver")
    assert said["server"] == f"127.0.0.1:{server.acceptor.addr[1]}"
    assert (said["storage"], said["commits"]) == ("1", 1)
    assert (said["commit_lock_held"], said["commit_lock_waiting"]) == (0, 0)


def test_who_holds_the_lock_is_found_and_sent_away(say, server):
    with making.a_holder(server.acceptor.addr, "a long edit"):
        other = making.Attempt(making.commit, server.acceptor.addr)
        holder, waiter = wait_for(lambda: len(found := told(say, "locks")) == 2 and found)
        assert (holder["lock"], waiter["lock"]) == ("holds", "waits")
        assert holder["description"] == "a long edit"
        assert holder["held"] >= 0
        assert waiter["held"] is None
        assert holder["client"] in [one["client"] for one in told(say, "clients")]
        assert say(f"kick {holder['client']}") == f"kicked {holder['client']}: {holder['peer']}\n"
        assert isinstance(other.outcome(), bytes)
    wait_for(lambda: say("locks") == "nobody holds a commit lock\n")


def test_a_lock_that_is_held_is_told_in_numbers(server):
    def found():
        told = families(monitor.COMMANDS.get("zeoserver"), zeoserver())
        return {one.name: sample.value for one in told for sample in one.samples if sample.labels["storage"] == "1"}

    held, waiting = "zkfleet_zeoserver_commit_lock_held_seconds", "zkfleet_zeoserver_commit_lock_waiting"
    with making.a_holder(server.acceptor.addr) as (storage, t):
        other = making.Attempt(making.commit, server.acceptor.addr)
        wait_for(lambda: found()[held] > 0 and found()[waiting] == 1, what="somebody waits for the lock")
        storage.tpc_abort(t)
        assert isinstance(other.outcome(), bytes)
    wait_for(lambda: (found()[held], found()[waiting]) == (0, 0), what="nobody has the lock")


def test_a_client_that_is_not_there_cannot_be_sent_away(say, server):
    assert "there is no client 0" in say("kick 0")


def test_what_a_client_that_was_away_can_be_told(say, server):
    tid = making.commit(server.acceptor.addr)
    (said,) = told(say, "invalidations")
    assert said["newest"] == tid.hex()
    assert said["most"] == 100


@pytest.mark.slow
def test_a_server_that_is_busy_is_said_to_be_in_time(say, server, monkeypatch):
    monkeypatch.setattr("zkfleet.monitor.zeoserver.TIMEOUT", 0.3)
    go_on = threading.Event()
    server.event_loop.call_soon_threadsafe(go_on.wait, 10)
    try:
        assert "is busy and does not answer" in say("locks")
        assert say("health") == "OK\n"
    finally:
        go_on.set()
    wait_for(lambda: say("locks") == "nobody holds a commit lock\n")
