"""A ZEO server that is frozen: who asks its clients, and who asks the server, has an answer in time all the same."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.cli.test_monitor import ZKFLEET
from tests.conftest import wait_for
from tests.monitor.conftest import ask
from tests.monitor.test_metrics import found_in
from tests.zeo import making

# Its check and one command of its own read from the database: they hang as long as the server does.
CLIENT = """
import sys, transaction, zkfleet
from ZEO.ClientStorage import ClientStorage
from ZODB.DB import DB
from zkfleet import monitor
from zkfleet.zeo import client

def read():
    with database.transaction() as connection:
        connection.cacheMinimize()
        database.storage._cache.clear()
        connection.root()["orders"]
    return ""

ORDERS = [monitor.Column("waiting", "Orders.", kind=monitor.Kind.GAUGE)]

@monitor.command("orders", columns=ORDERS)
def orders():
    read()
    return monitor.fields(ORDERS, {"waiting": 3})

with zkfleet.connect(sys.argv[1]) as registry:
    monitor.databases[""] = database = DB(client(registry, "/databases/main", ping_interval=None))
    with database.transaction() as connection:
        connection.root()["orders"] = 3
    monitor.databases["plain"] = plain = DB(ClientStorage((sys.argv[2], int(sys.argv[3]))))
    plain.open().close()
    monitor.READINESS.add("orders", read)
    limits = monitor.Limits(deadline=1)
    started = monitor.start(0, http=0, registry=registry, path="/shops", limits=limits, actions=True)
    print(started.address, started.http.address, flush=True)
    input()
"""


@pytest.fixture
def server(hosts, registry, tmp_path):
    """A process that serves a database and has a monitor."""
    registry.import_tree("/databases\n  /main\n/shops\n")
    config = making.a_config(address="127.0.0.1:0", zookeeper=hosts, more="monitor-server 127.0.0.1:0")
    with making.ServerProcess(tmp_path / "server", config) as serving:
        wait_for(lambda: making.addresses(registry), 20, "the server is registered")
        yield serving


@pytest.fixture
def shop(hosts, server, registry):
    """A process that uses it: where its monitor is asked by lines, and over HTTP."""
    [(host, port)] = making.addresses(registry)
    command = [sys.executable, "-c", CLIENT, hosts, host, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        yield running.stdout.readline().split()
        running.kill()


@pytest.fixture
def zkfleet(hosts):
    def run(*words):
        env = {**os.environ, "ZKFLEET_ZOOKEEPER": hosts}
        return subprocess.run([*ZKFLEET, *words], env=env, capture_output=True, text=True, timeout=30).stdout

    return run


def freeze(server):
    """Stop a process, and wait until all its threads have stopped."""
    server.signal(signal.SIGSTOP)
    tasks = Path(f"/proc/{server.pid}/task")
    wait_for(lambda: all(one.read_text().rpartition(")")[2].split()[0] == "T" for one in tasks.glob("*/stat")))


def scraped(address):
    # A load waits for its server for 30 s: who waited for that would find nobody here any more.
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as response:
        return found_in(response.read().decode())


def answered(found):
    return {key[1]: value for key, value in found.items() if key[0] == "zkfleet_command_answered"}


@pytest.mark.slow
def test_a_scrape_has_all_but_what_hangs_and_says_what_that_is(server, shop):
    before = answered(scraped(shop[1]))
    assert set(before.values()) == {1}
    freeze(server)
    for _ in range(3):
        found = scraped(shop[1])
        assert {name for name, value in answered(found).items() if not value} == {"orders", "ready"}
        assert answered(found).keys() == before.keys()
        assert found["zkfleet_databases_open", "-"] == 1
        assert found["zkfleet_process_rss_bytes",] > 0
        assert ("zkfleet_orders_waiting",) not in found
    server.signal(signal.SIGCONT)
    wait_for(lambda: answered(scraped(shop[1])) == before, 20, "everything is answered again")


@pytest.mark.slow
def test_all_are_asked_and_the_frozen_one_is_named(server, shop, registry, zkfleet):
    server_monitor = next(iter(registry.providers("/databases/main").values()))["monitor"]
    freeze(server)
    rows = json.loads(zkfleet("monitor", "--path", "/", "--all", "ready", "--timeout", "3", "--format", "json"))
    said = {row["address"]: row.get("error") for row in rows}
    assert said == {server_monitor: f"{server_monitor}: no answer within 3 s", shop[0]: "no answer in 1 s"}
    for command in ["dbinfo", "zeoclient", "databases", "zeocache"]:
        assert "no answer" not in ask(shop[0], command)
    rows = json.loads(zkfleet("monitor", "--path", "/", "--all", "locks", "--timeout", "1", "--format", "json"))
    assert {row["address"]: row["ok"] for row in rows} == {server_monitor: False, shop[0]: True}


@pytest.mark.slow
def test_top_shows_the_clients_of_a_frozen_server_and_why_they_are_not_ready(server, shop, zkfleet):
    freeze(server)
    shown = json.loads(zkfleet("top", "--once", "--format", "json", "--timeout", "2", "--interval", "0.1"))
    [line] = shown["servers"]
    assert "no answer" in line["note"]
    problems = {one["address"]: (one["problem"], one["pid"]) for one in shown["processes"]}
    assert problems[shop[0]][0] == "no answer in 1 s"
    assert problems[shop[0]][1] is not None
    assert [problem for address, (problem, _) in problems.items() if address != shop[0]] == ["no answer within 2 s"]
    # Who waits less long than the process itself has what else it says.
    shown = json.loads(zkfleet("top", "--once", "--format", "json", "--timeout", "0.4", "--interval", "0.1"))
    [process] = [one for one in shown["processes"] if one["address"] == shop[0]]
    assert process["pid"] is not None
    assert process["problem"] == "ready: no answer within 0.4 s"


ABOUT_ONE = ["zeoclient", "dbinfo", "connections 0", "zeostatus", "zeocache", "cache", "minimize"]
ABOUT_ALL = ["zeoclient", "connections", "databases", "pool"]


def asked(address, *commands):
    """What a process answers to each command."""
    replies = {command: json.loads(ask(address, f"json {command}")) for command in commands}
    assert not {command: reply for command, reply in replies.items() if "answer" not in reply}
    return [reply["answer"] for reply in replies.values()]


@pytest.mark.slow
@pytest.mark.parametrize("db", ["-", "plain"])
def test_what_asks_no_server_is_answered_while_it_is_frozen(server, shop, db):
    commands = [*ABOUT_ALL, *(f"{command} {db}" for command in ABOUT_ONE)]
    asked(shop[0], *commands)
    freeze(server)
    assert ask(shop[0], "ready") == "ready: no answer in 1 s\n"
    asked(shop[0], *commands)
    assert ask(shop[0], "health") == "OK\n"
    [[reading]] = asked(shop[0], "connections 0 -")
    assert reading["age"] > 1
    [[waiting]] = asked(shop[0], "zeoclient -")
    assert (waiting["connected"], waiting["in_flight"]) == (True, 1)
    server.signal(signal.SIGCONT)
    wait_for(lambda: ask(shop[0], "ready") == "OK\n", 20)
    assert asked(shop[0], "zeoclient -")[0][0]["in_flight"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("db", ["-", "plain"])
def test_a_pack_that_a_frozen_server_is_asked_for_keeps_nobody_else_waiting(server, shop, db):
    freeze(server)
    assert ask(shop[0], f"pack 0 {db} 0.3") == "pack: no answer in 0.3 s\n"
    assert ask(shop[0], "health") == "OK\n"
    assert asked(shop[0], f"zeoclient {db}")[0][0]["in_flight"] == 1
    server.signal(signal.SIGCONT)
    wait_for(lambda: asked(shop[0], f"zeoclient {db}")[0][0]["in_flight"] == 0, 20)
    assert ask(shop[0], f"pack 0 {db} 20").startswith(f"packed {db}: ")
