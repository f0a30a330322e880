"""What the commands about the process say, asked of this one."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading

import pytest

from tests.conftest import wait_for
from tests.monitor.conftest import Client, ask
from tests.monitor.doors import running
from zkfleet import monitor
from zkfleet.errors import NotConnected
from zkfleet.monitor.health import Readiness


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with monitor.start(str(tmp_path_factory.mktemp("monitor") / "sock"), actions=True) as started:
        yield started.address


def answer(address, line):
    said = json.loads(ask(address, f"json {line}"))
    assert "error" not in said, said
    return said["answer"]


def test_process(address):
    said = answer(address, "process")
    assert said["pid"] == os.getpid()
    assert 0 < said["uss"] <= said["rss"] < said["vms"]
    assert said["cpu"] > 0
    assert said["threads"] >= 3  # this one, the loop's and the command's
    assert said["versions"]["kazoo"]


def test_threads_show_where_each_one_is(address):
    done = threading.Event()

    def wait_in_here():
        done.wait(10)

    thread = threading.Thread(target=wait_in_here, name="the-one")
    thread.start()
    try:
        wait_for(lambda: "wait_in_here" in ask(address, "threads the-one"))
        (said,) = answer(address, "threads the-one")
        assert said["native"] == thread.native_id
        assert any("wait_in_here: done.wait(10)" in line for line in said["stack"])
    finally:
        done.set()
        thread.join()
    assert ask(address, "threads the-one") == "no such thread\n"


def test_loglevel_is_shown_and_set(address):
    logger = logging.getLogger("zkfleet.a_test")
    try:
        assert ask(address, "loglevel zkfleet.a_test DEBUG") == "zkfleet.a_test DEBUG DEBUG\n"
        assert logger.level == logging.DEBUG
    finally:
        logger.setLevel(logging.NOTSET)
    assert ask(address, "loglevel zkfleet.a_test").startswith("zkfleet.a_test NOTSET ")
    assert ask(address, "loglevel root").startswith("root ")


def test_without_actions_a_level_is_shown_and_not_set(tmp_path):
    with monitor.start(str(tmp_path / "sock")) as started:
        assert ask(started.address, "loglevel zkfleet.b_test DEBUG").startswith("loglevel: it changes something")
        assert ask(started.address, "loglevel root").startswith("root ")
        assert ask(started.address, "memory top") == "memory: it is not traced\nmemory start\n"
    assert "zkfleet.b_test" not in logging.Logger.manager.loggerDict


def test_a_logger_that_nobody_knows_is_told_so(address):
    assert ask(address, "loglevel no.such") == (
        "loglevel: nobody has used a logger 'no.such'\nset a level to have it made\n"
    )


def test_gc(address):
    said = answer(address, "gc")
    assert [row["generation"] for row in said] == [0, 1, 2]
    assert all(row["threshold"] >= 0 for row in said)


class Counted:
    pass


@pytest.mark.slow
def test_objects_are_counted_and_so_is_their_growth(address):
    answer(address, "objects 1000")
    kept = [Counted() for _ in range(50_000)]
    (row,) = [row for row in answer(address, "objects 1000") if row["type"].endswith(".Counted")]
    assert (row["count"], row["growth"]) == (len(kept), len(kept))


@pytest.mark.slow
def test_memory_is_traced_when_that_is_asked(address):
    assert ask(address, "memory top") == "memory: it is not traced\nmemory start\n"
    assert ask(address, "memory start") == "memory is traced from now on\n"
    try:
        kept = ["x" * 1000 + str(number) for number in range(10_000)]
        assert any(__file__ in row["place"] and row["size"] > len(kept) * 1000 for row in answer(address, "memory top"))
    finally:
        assert ask(address, "memory stop") == "memory is not traced\n"


@pytest.mark.slow
def test_a_profile_shows_who_works(address):
    done = threading.Event()

    def busy():
        while not done.is_set():
            sum(range(1000))

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        said = answer(address, "profile 0.3")
    finally:
        done.set()
        thread.join()
    (row,) = [row for row in said if ".busy (" in row["place"]]
    assert row["own"] > 0
    assert row["below"] >= row["own"]


def test_tasks_of_all_loops_are_shown(address):
    async def wait_in_here():
        await asyncio.sleep(100)

    with running("asyncio") as loop:
        task = loop.call(lambda: loop.loop.create_task(wait_in_here(), name="the-one"))
        wait_for(lambda: "wait_in_here" in ask(address, "tasks"))
        (said,) = [row for row in answer(address, "tasks") if row["name"] == "the-one"]
        assert said["coroutine"].endswith("wait_in_here")
        assert any("wait_in_here" in line for line in said["stack"])
        loop.call(task.cancel)
        wait_for(task.done)


REACTOR = """
import sys
from twisted.internet import reactor
from zkfleet import monitor
started = monitor.start(sys.argv[1])
def due(): pass
reactor.callLater(100, due)
reactor.callWhenRunning(lambda: print("runs", flush=True))
reactor.run()
"""


@pytest.mark.slow
def test_a_reactor_tells_what_it_has_to_do(tmp_path):
    path = str(tmp_path / "sock")
    with subprocess.Popen([sys.executable, "-c", REACTOR, path], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"runs\n"
            said = answer(path, "reactor")
            assert (said["running"], said["delayed_calls"]) == (True, 1)
            (call,) = answer(path, "deferreds")
            assert call["function"] == "due"
            assert 90 < call["seconds"] <= 100
        finally:
            process.terminate()


def test_without_a_reactor_none_is_made(address):
    had = "twisted.internet.reactor" in sys.modules
    assert had or ask(address, "reactor") == "no reactor is installed\n"
    assert ("twisted.internet.reactor" in sys.modules) == had


def test_health_is_what_haproxy_waits_for(address):
    with Client(address) as client:
        assert client.send(b"health\r\n").rest() == "OK\n"


def test_ready_says_what_is_missing():
    readiness = Readiness()
    assert readiness.findings() == []
    readiness.add("storage", lambda: "it is away")
    readiness.add("also", lambda: "")

    def raises():
        raise NotConnected("no link")

    readiness.add("registry", raises)
    assert [(one.name, one.reason) for one in readiness.findings()] == [
        ("also", ""),
        ("registry", "no link"),
        ("storage", "it is away"),
    ]


def test_startup_stays_well_once_it_was():
    readiness = Readiness()
    readiness.add("storage", lambda: "it is away")
    readiness.findings()
    assert not readiness.has_been
    readiness.remove("storage")
    readiness.findings()
    assert readiness.has_been
    readiness.add("storage", lambda: "it is away")
    readiness.findings()
    assert readiness.has_been


def test_ready_and_startup_are_asked_over_the_socket(address, monkeypatch):
    readiness = Readiness()
    monkeypatch.setattr("zkfleet.monitor.health.READINESS", readiness)
    readiness.add("storage", lambda: "it is away")
    assert ask(address, "ready") == ask(address, "startup") == "storage: it is away\n"
    assert json.loads(ask(address, "json ready"))["ok"] is False
    readiness.add("storage", lambda: "")
    assert ask(address, "startup") == ask(address, "ready") == "OK\n"
    readiness.add("storage", lambda: "it is away")
    assert (ask(address, "startup"), ask(address, "ready")) == ("OK\n", "storage: it is away\n")
