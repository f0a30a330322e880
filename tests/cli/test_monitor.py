import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from click.testing import CliRunner

from tests.conftest import wait_for
from tests.monitor.conftest import commands as commands
from tests.monitor.conftest import start as start
from zkfleet import monitor
from zkfleet.cli import main
from zkfleet.cli.prompt import completions, typed
from zkfleet.monitor.client import at_once
from zkfleet.monitor.found import Found, found_in
from zkfleet.testing.zookeeper import free_port

PROGRAM = "import zkfleet.monitor, sys; print(zkfleet.monitor.start(sys.argv[1] or None).address, flush=True); input()"

ZKFLEET = [sys.executable, "-c", "from zkfleet.cli import main; main()"]

REGISTERED = """
import sys, zkfleet, zkfleet.monitor
with zkfleet.connect(sys.argv[1]) as registry:
    print(zkfleet.monitor.start(0, registry=registry, path="/fleet").address, flush=True)
    input()
"""


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "zkfleet"


@pytest.fixture
def process(runtime):
    """A process of its own with a monitor, and the monitor's address."""
    started = []

    def begin(address="", program=PROGRAM):
        one = subprocess.Popen(
            [sys.executable, "-c", program, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(one)
        return one, one.stdout.readline().strip()

    yield begin
    for one in started:
        one.kill()
        one.communicate()


@pytest.fixture
def ask(hosts):
    def run(*words, code=0, stdin="", **env):
        done = CliRunner(env={"ZKFLEET_ZOOKEEPER": hosts, **env}).invoke(main, ["monitor", *words], input=stdin)
        assert done.exit_code == code, done.output
        return done

    return run


@pytest.fixture
def sick(commands):
    """Commands of which one says that not all is well, one raises, and one is fine."""

    @commands.command("ready")
    def ready():
        return monitor.lines("mail: full", ok=False)

    @commands.command("broken")
    def broken():
        raise RuntimeError("no")

    @commands.command("health")
    def health():
        return monitor.lines("OK")


@pytest.mark.slow
def test_a_process_is_asked_by_its_address_and_by_its_id(ask, process):
    one, address = process()
    assert ask(address, "health").stdout == "OK\n"
    assert json.loads(ask(str(one.pid), "process", "--format", "json").stdout)["pid"] == one.pid
    _, address = process("127.0.0.1:0")
    assert ask(address, "health").stdout == "OK\n"


@pytest.mark.slow
def test_the_monitors_of_a_user_are_listed(ask, process, runtime):
    assert "has no monitors" in ask().stderr
    one, address = process()
    dead = runtime / "monitor-1.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(dead))
    rows = json.loads(ask("--format", "json").stdout)
    assert [(row["address"], row["pid"], row["problem"]) for row in rows] == [
        (str(dead), None, "Connection refused"),
        (address, one.pid, ""),
    ]
    assert f"{address}  {one.pid}" in ask().stdout
    assert dead.exists()


def test_what_is_not_well_is_the_exit_code(ask, start, sick):
    address = start().address
    assert ask(address, "health").stdout == "OK\n"
    assert ask(address, "ready", code=1).stdout == "mail: full\n"
    assert ask(address, "broken", code=1).stderr.startswith("error: RuntimeError: no")
    assert "hint: Try" in ask(address, "nothing", code=1).stderr
    assert json.loads(ask(address, "ready", "--format", "json", code=1).stdout) == ["mail: full"]


def test_who_is_not_there_is_told_with_a_hint(ask, runtime, tmp_path):
    done = ask(str(tmp_path / "none.sock"), "health", code=1)
    assert "No such file" in done.stderr
    assert "hint: `zkfleet monitor` lists" in done.stderr
    assert "No such file" in ask(str(tmp_path / "none.sock"), code=1).stderr
    assert ask("--all", "health", code=1).stderr.endswith("hint: add --path PATH\n")


@pytest.mark.slow
def test_a_frozen_process_has_no_answer_in_time(ask, process):
    one, address = process()
    one.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    assert "no answer within 0.5 s" in ask(address, "health", "--timeout", "0.5", code=1).stderr
    assert time.monotonic() - begun < 5


@pytest.mark.slow
def test_who_trickles_has_no_answer_in_time_either(ask):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()

        def trickle():
            link, _ = listener.accept()
            with link:
                while not over.wait(0.05):
                    link.send(b"x")

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            done = ask(f"127.0.0.1:{listener.getsockname()[1]}", "health", "--timeout", "0.4", code=1)
        finally:
            over.set()
            thread.join()
    assert "no answer within 0.4 s" in done.stderr


def test_what_is_no_monitor_is_told(ask):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak():
            link, _ = listener.accept()
            with link:
                link.recv(1000)
                link.send(b"SSH-2.0-x\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        done = ask(f"127.0.0.1:{listener.getsockname()[1]}", "health", code=1)
        thread.join()
    assert "SSH-2.0-x" in done.stderr


def test_what_others_say_does_nothing_to_a_terminal(ask, start, commands):
    commands.command("odd")(lambda: "a\x1b[2Jb\tc\r\n")
    assert ask(start().address, "odd").stdout == r"a\x1b[2Jb       c" + "\n"


def test_a_token_comes_from_a_file_or_the_environment(ask, start, sick, tmp_path):
    address = start(0, token="s3cret").address
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    file.chmod(0o640)
    assert "others than its owner" in ask(address, "health", "--token-file", str(file), code=1).stderr
    file.chmod(0o600)
    assert ask(address, "health", "--token-file", str(file)).stdout == "OK\n"
    assert ask(address, "health", ZKFLEET_MONITOR_TOKEN="s3cret").stdout == "OK\n"
    assert "no such token" in ask(address, "health", code=1).stderr
    assert "one word" in ask(address, "health", code=1, ZKFLEET_MONITOR_TOKEN="two words").stderr
    file.write_text("two words\n")
    assert "one word" in ask(address, "health", "--token-file", str(file), code=1).stderr


def test_a_monitor_is_asked_over_tls(ask, start, sick, certificates):
    tls = monitor.Certificates(
        str(certificates / "server.crt"), str(certificates / "server.key"), str(certificates / "client.crt")
    )
    address = start(0, tls=tls).address
    ours = [
        "--monitor-certificate",
        str(certificates / "client.crt"),
        "--monitor-key",
        str(certificates / "client.key"),
    ]
    theirs = ["--monitor-ca", str(certificates / "server.crt")]
    assert ask(address, "health", *theirs, *ours).stdout == "OK\n"
    ask(address, "health", *theirs, code=1)
    assert "certificate" in ask(address, "health", *ours, code=1).stderr.lower()
    ask(address, "health", "--timeout", "1", code=1)


def test_all_below_a_path_are_asked(ask, start, sick, registry):
    registry.import_tree("/fleet\n  /a\n  /b\n")
    dead = f"127.0.0.1:{free_port()}"
    with registry.register("/fleet/b", dead, monitor=dead):
        start(0, registry=registry, path="/fleet/a")
        address = registry.providers("/fleet/a").endpoints[0]
        assert ask("--path", "/fleet/a", "health").stdout == "OK\n"
        assert ask("--path", "/fleet/a", "--all", "health").stdout == f"  {address}  OK\n"
        assert "2 monitors" in ask("--path", "/fleet", "health", code=1).stderr
        lines = ask("--path", "/fleet", "--all", "health", code=1).stdout.splitlines()
        rows = json.loads(ask("--path", "/fleet", "--all", "health", "--format", "json", code=1).stdout)
    assert lines == [f"  {str(address).ljust(len(dead))}  OK", f"! {dead}  Connection refused"]
    assert [(row["path"], row["ok"]) for row in rows] == [(f"/fleet/a/{address}", True), (f"/fleet/b/{dead}", False)]
    assert "no monitor is registered" in ask("--path", "/fleet/b", "health", code=1).stderr


@pytest.mark.slow
def test_one_process_of_the_fleet_that_is_frozen_holds_up_nobody(ask, process, hosts, registry):
    registry.import_tree("/fleet\n")
    (_, good), (frozen, silent) = process(hosts, REGISTERED), process(hosts, REGISTERED)
    wait_for(lambda: len(registry.providers("/fleet")) == 2)
    frozen.send_signal(signal.SIGSTOP)
    lines = ask("--path", "/fleet", "--all", "health", "--timeout", "1", code=1).stdout.splitlines()
    assert sorted(lines) == sorted([f"  {good}  OK", f"! {silent}  no answer within 1 s"])


def test_no_file_of_this_machine_is_asked_because_a_registry_says_so(ask, start, sick, registry):
    registry.import_tree("/fleet\n")
    address = start().address
    with registry.register("/fleet", "127.0.0.1:1", monitor=address):
        assert "may be another" in ask("--path", "/fleet", "--all", "health", code=1).stdout


def test_monitors_are_found_by_their_kind_or_by_their_servers():
    tree = {
        "/db/h:1": {"storages": ["1"], "monitor": "h:9"},
        "/db/h:2": {"monitor": 7},
        "/mon/h:8": {"kind": "monitor"},
        "/mon/h:9": {"kind": "monitor"},
    }
    assert found_in(tree) == [Found("/db/h:1", "h:9"), Found("/mon/h:8", "h:8")]


@pytest.mark.slow
def test_it_is_asked_again_and_again(start, sick):
    address = start().address
    words = [*ZKFLEET, "monitor", address, "health", "--watch", "0.1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as watching:
        assert [watching.stdout.readline() for _ in range(3)] == ["OK\n"] * 3
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0


def test_commands_are_read_from_a_file(ask, start, sick):
    address = start().address
    assert ask(address, stdin="health\n\nquit\nready\n").stdout == "OK\nOK\n"
    assert ask(address, stdin="ready\nhealth", code=1).stdout == "mail: full\nOK\n"


@pytest.mark.slow
def test_a_terminal_has_a_prompt_with_completion_and_history(start, sick, tmp_path):
    address = start().address
    ours, theirs = pty.openpty()
    history = tmp_path / "state/zkfleet/monitor_history"
    history.parent.mkdir(parents=True)
    history.touch(0o644)
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "TERM": "dumb"}
    with subprocess.Popen(
        [*ZKFLEET, "monitor", address], stdin=theirs, stdout=theirs, stderr=theirs, env=env
    ) as talking:
        os.close(theirs)
        seen = Screen(ours)
        wait_for(lambda: f"{address}> " in seen.text, what="the prompt")
        os.write(ours, b"hea\t\n")
        wait_for(lambda: "\nOK" in seen.text, what="the answer")
        os.write(ours, b"quit\n")
        assert talking.wait(10) == 0
        seen.join()
    assert "health" in history.read_text()
    assert history.stat().st_mode & 0o777 == 0o600


class Screen(threading.Thread):
    """What a terminal shows."""

    def __init__(self, number):
        super().__init__(daemon=True)
        self.text, self._number = "", number
        self.start()

    def run(self):
        try:
            while piece := os.read(self._number, 1000):
                self.text += piece.decode().replace("\r", "")
        except OSError:  # how Linux says that nobody has the other end
            pass
        os.close(self._number)


def test_a_line_that_is_given_up_is_not_the_end(capsys):
    said = iter(["", "help", KeyboardInterrupt, "", "quit now", "never"])

    def read():
        one = next(said)
        if one is KeyboardInterrupt:
            raise one
        return one

    assert list(typed(read)) == [["help"], ["help"]]


def test_commands_are_completed_where_they_may_stand():
    names = ["health", "help", "ready"]
    assert completions(names, "he", 0, "he") == ["health ", "help "]
    assert completions(names, "r", 5, "help r") == ["ready "]
    assert completions(names, "r", 6, "ready r") == []


def test_who_is_not_back_in_time_is_late_and_the_others_are_there():
    over = threading.Event()
    found = at_once(["slow", "quick"], lambda name: over.wait(5) if name == "slow" else name, 0.05)
    over.set()
    assert found["quick"] == "quick"
    assert "no answer" in str(found["slow"])
