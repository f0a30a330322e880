import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import transaction
from click.testing import CliRunner
from ZEO.ClientStorage import ClientStorage
from ZODB import DB

from tests.conftest import wait_for
from tests.zeo import making
from tests.zeo.asked import ZeoServer, listener
from zkfleet import monitor
from zkfleet.cli import main
from zkfleet.cli.zeo_check import nagios
from zkfleet.devserver import DevServer
from zkfleet.testing.zookeeper import free_port

pytestmark = pytest.mark.slow


@pytest.fixture
def path(registry):
    registry.import_tree("/db\n")
    return "/db"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ZeoServer(tmp_path_factory.mktemp("zeo")) as server:
        db = DB(ClientStorage(server.address))
        db.close()
        yield server


@pytest.fixture
def zeo(hosts):
    def run(*arguments, code=0):
        done = CliRunner(env={"ZKFLEET_ZOOKEEPER": hosts}).invoke(main, ["zeo", *arguments])
        assert done.exit_code == code, done.output
        return done

    return run


def test_status_shows_every_registered_server(zeo, path, registry, server):
    dead = f"127.0.0.1:{free_port()}"
    with registry.register(path, server.text, role="primary"), registry.register(path, dead):
        lines = zeo("status", path, "--interval", "0.05").stdout.splitlines()
        rows = json.loads(zeo("status", path, "--interval", "0", "--format", "json").stdout)
    assert len(lines) == 3
    [marked] = [line for line in lines if line.startswith("!")]
    assert dead in marked
    assert marked.endswith("Connection refused")
    [good] = [row for row in rows if row["address"] == server.text]
    assert (good["storage"], good["role"], good["clients"], good["lag"], good["note"]) == ("1", "primary", 0, 0, "")


def test_standbys_are_shown_and_counted(zeo, path, registry, server):
    home = f"{path}.standby"
    registry.make_node(home)
    registry.ln(path, "/main")
    with (
        registry.register(path, server.text, role="primary"),
        registry.lock(home, "primary").wait_until_held(10),
        registry.lock(home, "a-1", state="serving", since=time.time()).wait_until_held(10),
        registry.lock(home, "b-2", state="waiting", since=time.time() - 60, locked_by="").wait_until_held(10),
        registry.lock(home, "c-3", state="blocked", since=time.time(), locked_by="17").wait_until_held(10),
    ):
        served, waiting, blocked = json.loads(zeo("status", "/main", "--interval", "0", "--format", "json").stdout)
        table = zeo("status", path, "--interval", "0").stdout
        line = zeo("check", path, code=1).stdout
    assert served["role"] == "primary"
    assert (waiting["address"], waiting["role"], waiting["state"], waiting["note"]) == ("b-2", "standby", "waiting", "")
    assert waiting["in_state"] == pytest.approx(60, abs=5)
    assert blocked["note"] == "the storage's file is another process's: 17"
    assert "standby, waiting" in table
    assert "primary" in table
    assert line == "WARNING: c-3: the storage's file is another process's: 17\n"


def test_a_monitor_at_the_path_of_a_server_is_no_server(zeo, path, registry, server):
    with monitor.start("127.0.0.1:0", registry=registry, path=path):
        assert zeo("check", path, code=2).stdout == "CRITICAL: nobody is registered\n"
        assert "nobody is registered" in zeo("pack", path, code=1).stderr
        with registry.register(path, server.text):
            assert zeo("check", path).stdout.startswith("OK: servers 1, ")
            [row] = json.loads(zeo("status", path, "--interval", "0", "--format", "json").stdout)
            assert row["address"] == server.text


@pytest.mark.parametrize("target", ["127.0.0.1", "127.0.0.1:0", "db", "127.0.0.1:x"])
def test_a_check_of_what_is_no_address_is_unknown(zeo, target):
    said = zeo("check", target, code=3).stdout
    assert said.startswith("UNKNOWN: ")
    assert target in said


def test_a_check_says_why_there_is_no_zookeeper(zeo):
    said = zeo("check", "/db", "--timeout", "3", "-z", f"127.0.0.1:{free_port()}", code=3).stdout
    assert "Connection refused" in said


def test_a_status_that_cannot_be_kept_names_its_file(zeo, server, tmp_path):
    file = tmp_path / "none" / "status"
    said = zeo("check", server.text, "-m", "-s", str(file), code=3).stdout
    assert f"the status cannot be kept in {file}: No such file or directory" in said


def test_a_path_without_a_server_says_how_many_stand_by(zeo, path, registry):
    registry.make_node(f"{path}.standby")
    with registry.lock(f"{path}.standby", "b-2", state="waiting").wait_until_held(10):
        assert zeo("check", path, code=2).stdout == "CRITICAL: nobody is registered, standbys 1\n"


def test_status_of_an_empty_path_says_so(zeo, path):
    done = zeo("status", path, "--interval", "0", code=1)
    assert done.stdout == ""
    assert "nobody is registered at /db" in done.stderr


def test_a_watched_status_has_rates_and_ends_at_an_interrupt(hosts, path, registry, server):
    command = [sys.executable, "-c", "from zkfleet.cli import main; main()", "zeo", "status", path, "--watch"]
    environment = os.environ | {"ZKFLEET_ZOOKEEPER": hosts}
    with registry.register(path, server.text):
        watching = subprocess.Popen(
            [*command, "--interval", "0.1", "--format", "json"], stdout=subprocess.PIPE, text=True, env=environment
        )
        with watching:
            seen = "".join(iter(watching.stdout.readline, "]\n"))
            seen += "".join(iter(watching.stdout.readline, "]\n"))
            watching.send_signal(signal.SIGINT)
            watching.stdout.read()
            assert watching.wait(10) == 0
    assert seen.count('"commits": 0.0') == 2


def test_a_check_is_ok_when_all_is_well(zeo, path, registry, server):
    with registry.register(path, server.text):
        assert zeo("check", path).stdout.startswith("OK: servers 1, clients 0, last transaction ")
    assert zeo("check", server.text).stdout.startswith("OK: ")


def test_metrics_become_rates_with_a_status_file(zeo, server, tmp_path):
    arguments = ("check", server.text, "-m", "-s", str(tmp_path / "status"), "-u", "seconds")
    assert "|active_txns=0\n| connections=0\n waiting=0\n" in zeo(*arguments).stdout
    assert " stores=0.0\n" in zeo(*arguments).stdout


def test_a_status_file_that_is_none_does_not_hide_the_level(zeo, server, tmp_path):
    file = tmp_path / "passwd"
    file.write_text("root:x")
    done = zeo("check", server.text, "-m", "-s", str(file), code=3)
    assert "something else than a status" in done.stdout
    assert file.read_text() == "root:x"
    zeo("check", f"127.0.0.1:{free_port()}", "-m", "-s", str(file), code=2)


def test_what_is_wrong_has_its_exit_code(zeo, path, registry, server):
    assert zeo("check", path, code=2).stdout == "CRITICAL: nobody is registered\n"
    assert "no such znode" in zeo("check", "/nowhere", code=2).stdout
    with registry.register(path, server.text, database={"1": "A"}), registry.register(path, f"127.0.0.1:{free_port()}"):
        assert "refused" in zeo("check", path, code=2).stdout
    assert "MissingDependency" not in zeo("check", path, "-M", "x:1", code=3).stdout
    assert "Missing argument" in zeo("check", code=3).stderr
    zeo("check", path, "-u", "weeks", code=3)


def test_a_server_is_checked_by_its_monitor(zeo, path, registry, server):
    dead = f"127.0.0.1:{free_port()}"
    with registry.register(path, server.text, monitor="10.0.0.7:9644"), registry.register(path, dead):
        zeo("check", path, code=2)
        assert zeo("check", path, "-M", "10.0.0.7:9644").stdout.startswith("OK: servers 1")
        said = zeo("check", path, "-M", "10.0.0.8:9644", code=3).stdout
        assert "no server at" in said
        assert "its monitor is 10.0.0.8:9644: 10.0.0.7:9644" in said
        assert "by the path of its server" in zeo("check", server.text, "-M", "x:1", code=3).stdout


def walk(heading):
    """The commands that a section of docs/monitor.md has one type, as lists of words."""
    page = (Path(__file__).parents[2] / "docs/monitor.md").read_text()
    section = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [line.removeprefix("$ zkfleet ").split() for line in section.splitlines() if line.startswith("$ zkfleet ")]


def test_who_holds_the_commit_lock_of_a_stuck_server_is_found(hosts, registry, tmp_path, monkeypatch):
    """The walk of docs/monitor.md, command by command; the client that holds the lock is this process."""
    locks, threads, status = walk("Who holds the commit lock?")
    registry.import_tree("/databases\n  /main\n", trim=False)
    storage = making.a_filestorage(tmp_path / "Data.fs")
    config = making.a_config(address="127.0.0.1", zookeeper=hosts, storage=storage, more="monitor-server 127.0.0.1:0")
    monkeypatch.setenv("ZKFLEET_ZOOKEEPER", hosts)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    def said(words):
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
        return done.stdout

    with making.ServerProcess(tmp_path, config), monitor.start():
        [address] = wait_for(lambda: making.addresses(registry), 20)
        making.commit(address, "first")
        with making.a_holder(address, "/shop/checkout"):
            waiting = making.Attempt(making.commit, address, "/shop/cart")
            told = wait_for(lambda: " waits " in (text := said(locks)) and text, 20)
            [holds] = [line for line in told.splitlines() if " holds " in line]
            [waits] = [line for line in told.splitlines() if " waits " in line]
            assert holds.endswith("/shop/checkout")
            assert waits.endswith("/shop/cart")
            assert holds.split()[5] in [":".join(map(str, one.laddr)) for one in psutil.Process().net_connections()]
            assert "MainThread" in said([str(os.getpid()) if word == "4242" else word for word in threads])
            assert "/shop/checkout" in said(status)
        assert isinstance(waiting.outcome(20), bytes)
        wait_for(lambda: "nobody holds a commit lock" in said(locks))


def test_a_long_held_lock_is_warned_of(zeo, tmp_path):
    with ZeoServer(tmp_path) as server:
        db = DB(ClientStorage(server.address))
        holding = transaction.get()
        db.storage.tpc_begin(holding)
        db.storage.tpc_vote(holding)
        try:
            assert wait_for(lambda: "commit lock held" in zeo_of(server, "--lock", "0").stdout)
        finally:
            db.storage.tpc_abort(holding)
            db.close()


def zeo_of(server, *options):
    return CliRunner().invoke(main, ["zeo", "check", server.text, *options])


def test_a_server_that_speaks_tls_is_shown_certificates(zeo, path, registry, certificates, tmp_path):
    files = {name: str(certificates / name) for name in ("server.crt", "server.key", "client.crt", "client.key")}
    own = f"certificate {files['server.crt']}\nkey {files['server.key']}\nauthenticate {files['client.crt']}"
    ours = ["--zeo-ca", files["server.crt"], "--zeo-certificate", files["client.crt"], "--zeo-key", files["client.key"]]

    def said(*options):
        done = zeo("status", path, "--interval", "0", "--format", "json", *options)
        [row] = json.loads(done.stdout)
        return row["problem"]

    with ZeoServer(tmp_path, settings=f"<ssl>\n{own}\n</ssl>") as server, registry.register(path, server.text):
        assert said(*ours) == ""
        assert said() != ""
        assert "CERTIFICATE_VERIFY_FAILED" in said(*ours, "--zeo-name", "elsewhere.example.com")


def test_a_server_that_lags_is_warned_of(zeo, path, registry, server, tmp_path):
    with ZeoServer(tmp_path) as newer:
        DB(ClientStorage(newer.address)).close()
        with registry.register(path, server.text), registry.register(path, newer.text):
            assert f"{server.text} 1: " in zeo("check", path, "--lag", "0", code=1).stdout


def test_a_check_ends_in_time_whoever_hangs(zeo, hosts):
    with listener(then=lambda link: link.detach()) as silent:
        began = time.monotonic()
        assert "no answer within" in zeo("check", silent, "--timeout", "1", code=2).stdout
        assert "127.0.0.1:1" in zeo("check", "/db", "-z", "127.0.0.1:1", "--timeout", "1", code=3).stdout
        done = zeo("check", "/db", "-z", silent, "--timeout", "1", code=3)
        assert done.stdout.startswith("UNKNOWN: ")
        assert time.monotonic() - began < 4.5


def test_a_check_ends_in_time_when_zookeeper_falls_silent(tmp_path):
    with DevServer(tick=0.5) as zookeeper:
        zookeeper.pause()
        try:
            began = time.monotonic()
            done = CliRunner().invoke(main, ["zeo", "check", "/db", "-z", zookeeper.hosts, "--timeout", "1"])
            assert done.exit_code == 3, done.output
            assert time.monotonic() - began < 2
        finally:
            zookeeper.resume()


def test_the_old_command_checks_with_its_old_arguments(hosts, path, registry, server, tmp_path):
    def run(*arguments):
        return CliRunner().invoke(nagios, arguments)

    with registry.register(path, server.text):
        done = run("-m", "-s", str(tmp_path / "status"), "-u", "hours", hosts, path)
        assert (done.exit_code, done.output.partition(":")[0]) == (0, "OK")
        assert "|active_txns=0\n| connections=0" in done.output
    assert run(hosts, path).exit_code == 2
    done = run("-M", "./monitor.sock", hosts, path)
    assert (done.exit_code, done.output.partition(":")[0]) == (3, "UNKNOWN")
    assert run(hosts).exit_code == 3


def test_without_zeo_it_is_said_what_is_missing():
    code = "import sys; sys.modules['ZEO'] = None\nfrom zkfleet.cli import main; main(['zeo', 'status', '/db'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: zkfleet.zeo needs ZEO, which comes with the extra zkfleet[zeo]",
        "hint: pip install 'zkfleet[zeo]'",
    ]


def test_a_plugins_wrong_usage_is_told_where_a_monitor_reads(zeo):
    for wrong in ([], ["/db", "--lag", "soon"], ["/db", "--no-such-option"]):
        [line] = zeo("check", *wrong, code=3).stdout.splitlines()
        assert line.startswith("UNKNOWN: wrong usage: ")
        assert "Usage: " in line
        assert "check [OPTIONS] PATH/HOST:PORT/unix:FILE" in line


def test_a_plugin_whose_answer_nobody_reads_still_tells_the_level(hosts, path):
    for arguments, level in (([path], 2), ([], 3)):
        command = [sys.executable, "-c", "from zkfleet.cli import main; main()", "zeo", "check", *arguments]
        shell = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
        assert subprocess.run(shell, env=os.environ | {"ZKFLEET_ZOOKEEPER": hosts}, timeout=60).returncode == level
        with open("/dev/full", "w") as full:
            done = subprocess.run(command, env=os.environ | {"ZKFLEET_ZOOKEEPER": hosts}, stdout=full, timeout=60)
        assert done.returncode == level


def test_the_parent_of_services_is_no_service(zeo, registry):
    registry.import_tree("/databases\n  /main\n  /main.standby\n")
    assert zeo("check", "/databases", code=3).stdout == (
        "UNKNOWN: /databases has no servers below it, but main, main.standby\n"
    )
    said = zeo("status", "/databases", "--interval", "0", code=1).stderr
    assert "hint: name the path of one service, such as /databases/main" in said
