import json
import os
import pty
import signal
import subprocess

import pytest
import transaction
from click.testing import CliRunner
from rich.console import Console
from ZEO.ClientStorage import ClientStorage
from ZODB import DB

from tests.cli.test_monitor import ZKFLEET, Screen
from tests.conftest import wait_for
from tests.zeo.asked import ZeoServer
from zkfleet import monitor
from zkfleet.cli import main
from zkfleet.cli.frame import Look, Process, frame, headline, hit_rate, layout, servers_in, standing_in
from zkfleet.errors import WaitTimedOut
from zkfleet.testing.zookeeper import free_port
from zkfleet.zeo.asking import Said
from zkfleet.zeo.described import Described
from zkfleet.zeo.surveying import Survey


def said(**changed):
    given = {
        "connections": 2, "loads": 0, "stores": 0, "commits": 10, "aborts": 0, "conflicts": 1, "conflicts_resolved": 0,
        "active": 0, "waiting": 0, "locked_at": None, "started": "then", "last": "03fe" * 4,
    }  # fmt: skip
    return Said(**{**given, **changed})


def drawn(shown, path="/", width=200):
    console = Console(width=width, file=open(os.devnull, "w"), record=True)  # noqa: SIM115
    with console.file:
        console.print(layout(shown, path))
    return console.export_text()


def test_servers_are_found_by_what_their_nodes_say():
    tree = {
        "/": {},
        "/db": {"role": "x"},
        "/db/main/h:1": {"storages": ["1"], "role": "primary"},
        "/db/main/h:2": {"storages": ["1"]},
        "/db/main.standby/a-1": {"role": "standby", "state": "waiting"},
        "/db/main.standby/primary": {},
        "/web/h:3": {"pid": 7},
    }
    found = servers_in(tree)
    assert {service: list(servers) for service, servers in found.items()} == {"/db/main": ["h:1", "h:2"]}
    assert [(one.name, one.state) for one in standing_in(tree, "/db/main")] == [("a-1", "waiting")]


def test_rates_are_those_of_two_looks():
    nodes = {"h:1": Described(("1",), role="primary")}
    before = Look(100.0, {"/db": Survey({"h:1": {"1": said()}}, nodes, 100.0)})
    now = Look(102.0, {"/db": Survey({"h:1": {"1": said(commits=30, conflicts=5)}}, nodes, 102.0)})
    [line] = frame(now, before).servers
    assert (line.service, line.row.commits, line.conflicts, line.note) == ("/db", 10.0, 2.0, "")
    assert frame(now).servers[0].conflicts is None
    assert "servers 1   clients 2   commits/s 10.0   conflicts/s 2.0" in headline(frame(now, before), "/")


def test_a_server_that_began_anew_has_no_rate():
    before = Look(100.0, {"/db": Survey({"h:1": {"1": said()}}, {}, 100.0)})
    now = Look(102.0, {"/db": Survey({"h:1": {"1": said(started="now", conflicts=0)}}, {}, 102.0)})
    assert frame(now, before).servers[0].conflicts is None


def test_who_holds_the_commit_lock_is_shown_and_marked_when_it_is_long():
    held = said(locked_at=40.0, waiting=3, lock_holder="h:9 'batch' [red]import[/red]")
    shown = frame(Look(100.0, {"/db": Survey({"h:1": {"1": held}}, {}, 100.0)}))
    assert not shown.well
    text = drawn(shown)
    assert "60.0 s h:9 'batch' [red]import[/red]" in text
    assert "! h:1: commit lock held for 60.0 s" in text


def test_who_does_not_answer_is_shown_with_the_reason():
    shown = frame(
        Look(
            100.0,
            {"/db": Survey({"h:1": WaitTimedOut("h:1: silent")}, {}, 100.0)},
            [Process("/m/h:2", "h:2", problem="no answer")],
        )
    )
    assert not shown.well
    assert "! h:1: silent" in drawn(shown)
    assert "no answer" in drawn(shown)


def test_the_share_of_a_processor_is_that_of_two_looks_of_the_same_process():
    def look(at, pid, cpu):
        return Look(at, {}, [Process("/m/h:2", "h:2", {"pid": pid, "cpu": cpu, "rss": 1 << 20, "uptime": 9.0})])

    assert frame(look(102.0, 1, 6.0), look(100.0, 1, 5.0)).processes[0].cpu == 0.5
    assert frame(look(102.0, 2, 6.0), look(100.0, 1, 5.0)).processes[0].cpu is None
    assert "50%" in drawn(frame(look(102.0, 1, 6.0), look(100.0, 1, 5.0)))


@pytest.mark.parametrize(
    ("before", "now", "rate"),
    [
        ([], [{"database": "a", "hits": 90, "misses": 10}], 0.9),
        ([{"database": "a", "hits": 90, "misses": 10}], [{"database": "a", "hits": 91, "misses": 13}], 0.25),
        ([], [{"database": "a", "hits": 3, "misses": None, "added": 1}], 0.75),
        ([{"database": "a", "hits": 9, "misses": 1}], [{"database": "a", "hits": 9, "misses": 1}], None),
        ([], [{"database": "a", "hits": "many", "misses": None}], None),
        ([], [], None),
    ],
)
def test_the_hit_rate_is_that_of_the_loads_between_two_looks(before, now, rate):
    assert hit_rate(now, before) == rate


def test_a_registry_that_is_out_of_sight_is_told():
    assert "ZooKeeper is out of sight for 7.0 s" in headline(frame(Look(100.0, stale=7.0)), "/")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ZeoServer(tmp_path_factory.mktemp("zeo")) as server:
        DB(ClientStorage(server.address)).close()
        yield server


@pytest.fixture
def fleet(registry, server):
    """A ZEO server and a monitor, at their places in the registry."""
    registry.import_tree("/db\n/web\n")
    with (
        registry.register("/db", server.text, role="primary", storages=["1"]),
        monitor.start(0, registry=registry, path="/web") as started,
    ):
        yield started


@pytest.fixture
def top(hosts):
    def run(*words):
        done = CliRunner(env={"ZKFLEET_ZOOKEEPER": hosts}).invoke(main, ["top", "--interval", "0.2", *words])
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


@pytest.mark.slow
def test_the_first_frame_shows_servers_and_processes(top, fleet, server):
    database = DB(ClientStorage(server.address, wait_timeout=10))
    try:
        text = top("--once")
        shown = json.loads(top("--format", "json"))
    finally:
        database.close()
        transaction.abort()
    assert f"/db      {server.text}" in text
    assert str(os.getpid()) in text
    [line] = shown["servers"]
    assert (line["service"], line["row"]["clients"], line["row"]["commits"], line["note"]) == ("/db", 1, 0.0, "")
    [process] = [one for one in shown["processes"] if one["address"] == fleet.address]
    assert (process["pid"], process["path"]) == (os.getpid(), f"/web/{fleet.address}")
    assert process["cpu"] is not None


@pytest.mark.slow
def test_only_what_is_below_the_path_is_shown(top, fleet, server):
    assert server.text not in top("/web", "--once")
    assert fleet.address not in top("/db", "--once")


@pytest.mark.slow
def test_who_is_dead_or_frozen_is_a_row_with_the_reason(top, fleet, server, registry):
    dead = f"127.0.0.1:{free_port()}"
    with registry.register("/web", dead, kind="monitor"):
        server.send(signal.SIGSTOP)
        try:
            shown = json.loads(top("--format", "json", "--timeout", "0.5"))
        finally:
            server.send(signal.SIGCONT)
    [line] = shown["servers"]
    assert "no answer" in line["note"]
    assert {one["address"]: one["problem"] for one in shown["processes"]}[dead] == "Connection refused"


@pytest.mark.slow
def test_a_terminal_is_drawn_again_and_again_until_it_is_interrupted(fleet, server, hosts):
    ours, theirs = pty.openpty()
    env = {**os.environ, "ZKFLEET_ZOOKEEPER": hosts, "TERM": "xterm", "COLUMNS": "150", "LINES": "40"}
    with subprocess.Popen(
        [*ZKFLEET, "top", "--interval", "0.1"], stdin=theirs, stdout=theirs, stderr=theirs, env=env
    ) as drawing:
        os.close(theirs)
        seen = Screen(ours)
        wait_for(lambda: seen.text.count(server.text) >= 3, what="the third frame")
        drawing.send_signal(signal.SIGINT)
        assert drawing.wait(10) == 0
        seen.join()
    assert "\x1b[?1049h" in seen.text
    assert "\x1b[?1049l" in seen.text
