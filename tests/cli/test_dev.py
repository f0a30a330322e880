import contextlib
import json
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner
from kazoo.client import KazooClient

import zkfleet
from tests.conftest import wait_for
from zkfleet.cli import main
from zkfleet.cli.dev import LOOK_AGAIN
from zkfleet.testing.zookeeper import four_letters, free_port

ZKFLEET = [sys.executable, "-c", "from zkfleet.cli import main; main()"]
TREE = "/svc : http\n  threads = 3\n"


def started_with(disposition):
    """The command as started by somebody who has it hear a SIGHUP, or not."""
    return [sys.executable, "-c", f"import signal; signal.signal(signal.SIGHUP, signal.{disposition})\n{ZKFLEET[-1]}"]


@pytest.fixture
def dev():
    """Starts `zkfleet dev` with options and returns its process and its connection string."""
    started = []

    def start(*options, command=ZKFLEET):
        line = [*command, "dev", "--port", "0", *options]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_server_says_where_and_what_it_is_and_ends_at_a_signal(dev):
    process, hosts = dev()
    with zkfleet.connect(hosts) as registry:
        assert registry.export_tree() == ""
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (0, "")
    assert err == (
        "A ZooKeeper for development and tests, not for production.  Its data are in memory, and gone when it ends.\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_signal_that_asks_to_end_is_heard(dev, number):
    process, _ = dev(command=started_with("SIG_DFL"))
    process.send_signal(number)
    assert process.wait(10) == 0


@pytest.mark.slow
def test_a_signal_that_it_was_started_to_ignore_does_not_end_it(dev):
    process, _ = dev(command=started_with("SIG_IGN"))
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(5 * LOOK_AGAIN)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


BUSY_WITH_SIGNALS = """
import faulthandler, itertools, signal
from zkfleet.cli import dev, main

delays = itertools.cycle(range(1, 41))
def say(line="", **options):
    if line.startswith("127.0.0.1:"):  # it waits from now on
        signal.signal(signal.SIGALRM, signal.getsignal(signal.SIGTERM))
        signal.setitimer(signal.ITIMER_REAL, next(delays) * 1e-6)
dev.say, dev.LOOK_AGAIN = say, 0.001
for _ in range(400):
    faulthandler.dump_traceback_later(5, exit=True)
    main(["dev", "--port", "0"], standalone_mode=False)
print("all ended")
"""


@pytest.mark.slow
def test_a_signal_at_any_moment_ends_it():
    done = subprocess.run([sys.executable, "-c", BUSY_WITH_SIGNALS], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (0, "all ended\n"), done.stderr


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("192.0.2.1", "192.0.2.1"),  # no machine's, by RFC 5737
        ("", "this machine"),
        ("0.0.0.0", "this machine"),
        ("::", "this machine"),
        ("127.0.0.1", None),
        ("127.1", None),
    ],
)
def test_it_warns_of_an_address_that_others_reach_and_of_no_other(host, named):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) if named != host else contextlib.nullcontext() as taken:
        port = str(taken.getsockname()[1]) if taken else "0"
        done = CliRunner().invoke(main, ["dev", "--host", host, "--port", port])
    assert done.exit_code == 1
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert warnings == [f"warning: whoever reaches {named} can read and change everything"] * (named is not None)


@pytest.mark.slow
@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])
def test_a_tree_is_imported_and_a_usable_address_said_wherever_it_listens(dev, tmp_path, host):
    tree = tmp_path / "fleet.tree"
    tree.write_text(TREE)
    _, hosts = dev("--host", host, "--tree", str(tree))
    with zkfleet.connect(hosts) as registry:
        assert registry.export_tree() == TREE


@pytest.mark.slow
def test_who_connects_when_the_port_opens_sees_the_whole_tree(dev, tmp_path):
    tree, port = tmp_path / "fleet.tree", free_port()
    tree.write_text("".join(f"/node{number}\n" for number in range(500)))

    def look():
        # As often as it can: a client that connects in the moment in which the port opens.
        client = KazooClient(
            f"127.0.0.1:{port}", connection_retry={"max_tries": -1, "delay": 0.002, "max_delay": 0.002}
        )
        client.start(20)
        with contextlib.closing(client):
            seen = len(client.get_children("/"))
            client.stop()
        return seen

    with ThreadPoolExecutor() as threads:
        looks = [threads.submit(look) for _ in range(4)]
        dev("--tree", str(tree), "--port", str(port))
        assert [one.result(30) for one in looks] == [501] * 4  # and /zookeeper


@pytest.mark.slow
@pytest.mark.parametrize("text", ["/a\n\tb\n", "/a\n  /a/b\n"])
def test_a_tree_with_faults_is_refused_before_anything_is_made(tmp_path, text):
    tree, data = tmp_path / "fleet.tree", tmp_path / "data"
    tree.write_text(text)
    done = CliRunner().invoke(main, ["dev", "--port", "0", "--tree", str(tree), "--data", str(data)])
    assert done.exit_code == 1
    assert f"{tree}:2:" in done.stderr
    assert not data.exists()


@pytest.mark.slow
def test_it_begins_with_a_tree_and_keeps_it_in_a_file(dev, tmp_path):
    tree, data = tmp_path / "fleet.tree", tmp_path / "data"
    tree.write_text(TREE)
    process, hosts = dev("--tree", str(tree), "--data", str(data))
    with zkfleet.connect(hosts) as registry:
        assert registry.export_tree() == TREE
        registry.properties("/svc")["threads"] = 4
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err.count(f"Its data are in memory, and kept in {data} between runs.\n")) == (0, 1)
    _, hosts = dev("--data", str(data))
    with zkfleet.connect(hosts) as registry:
        assert registry.get_properties("/svc")["threads"] == 4


@pytest.mark.slow
def test_timeouts_are_granted_as_it_was_told(dev):
    _, hosts = dev("--tick", "0.1", "--session-timeout", "0.5", "3")
    with zkfleet.connect(hosts, session_timeout=60) as registry:
        assert registry.statistics().negotiated_timeout == 3
    with zkfleet.connect(hosts, session_timeout=0.01) as registry:
        assert registry.statistics().negotiated_timeout == 0.5
    assert "tickTime=100\n" in four_letters(int(hosts.rpartition(":")[2]), "conf")


def test_what_cannot_be_is_an_error_with_a_hint(tmp_path):
    junk = tmp_path / "notes.txt"
    junk.write_text("not ours")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options in (["--port", str(port)], ["--port", "0", "--data", str(junk)]):
            done = CliRunner().invoke(main, ["dev", *options])
            assert done.exit_code == 1
            assert "hint:" in done.stderr
    assert junk.read_text() == "not ours"
    assert CliRunner().invoke(main, ["dev", "--port", "70000"]).exit_code == 2
    done = CliRunner().invoke(main, ["dev", "--port", "0", "--tree", "/no/file"])
    assert (done.exit_code, done.stderr.splitlines()[0]) == (1, "error: /no/file: No such file or directory")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--session-timeout", "5", "1"], "the shortest, 5 s, is above the longest, 1 s"),
        (["--session-timeout", "1", "3000000"], "3000000.0"),
        (["--tick", "200000"], "20 ticks: no number of seconds that there can be: 4000000.0"),
    ],
)
def test_timeouts_that_cannot_be_are_an_error_with_a_hint(options, said):
    done = CliRunner().invoke(main, ["dev", "--port", "0", *options])
    assert (done.exit_code, done.stderr.count("hint:")) == (1, 1)
    assert said in done.stderr


def test_any_command_has_a_server_of_its_own_if_asked(tmp_path):
    file = tmp_path / "fleet.tree"
    file.write_text(TREE)
    done = CliRunner().invoke(main, ["tree", "plan", str(file), "-z", "dev:", "--format", "json"])
    assert done.exit_code == 0
    assert [step["path"] for step in json.loads(done.stdout)["steps"]] == ["/svc"]
    done = CliRunner(env={"ZKFLEET_ZOOKEEPER": "dev:"}).invoke(main, ["tree", "import", str(file)])
    assert "1 to create" in done.stdout


@pytest.mark.parametrize("hosts", ["DEV:", "Dev:", " dev: ", "dev:/"])
def test_a_server_of_its_own_is_asked_for_in_any_spelling(hosts):
    done = CliRunner().invoke(main, ["tree", "export", "-z", hosts])
    assert (done.exit_code, done.output) == (0, "")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["show", "-z", "dev:/a"], "'dev:/a': an empty server has no /a"),
        (["demo", "-z", "DEV:/a"], "'DEV:/a': an empty server has no /a"),
        (["show", "-z", "dev:2181x"], "no port"),
        (["show", "-z", "dev:,127.0.0.1:1"], "no port"),
        (["show", "-z", "dev:", "--tls-ca", "/no/file"], "has no TLS and no SASL"),
        (["show", "-z", "dev:", "--tls-certificate", "/no/file"], "has no TLS and no SASL"),
        (["show", "-z", "dev:", "--tls-key", "/no/file"], "has no TLS and no SASL"),
        (["show", "-z", "dev:", "--sasl", "ann:secret"], "has no TLS and no SASL"),
        (["run", "/a", "--address", ":1", "-z", "dev:", "--sasl", "a:b", "--", "true"], "has no TLS and no SASL"),
    ],
)
def test_what_a_server_of_its_own_has_not_is_refused_at_once(command, said):
    done = CliRunner().invoke(main, command)
    assert (done.exit_code, done.stderr.count("hint: ")) == (1, 1)
    assert said in done.stderr


def test_a_host_that_is_called_dev_is_a_host():
    done = CliRunner().invoke(main, ["show", "-z", "dev:1", "--timeout", "0.1"])
    assert "no ZooKeeper answered" in done.stderr


@pytest.mark.slow
def test_a_server_can_be_run_registered_in_a_server_that_lives_as_long(tmp_path):
    port = free_port()
    serve = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    line = [*ZKFLEET, "run", "/none", "-z", "dev:", "--address", f"127.0.0.1:{port}", "--", *serve]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as run:
        assert any("not registered yet: no such znode: /none" in said for said in run.stderr)
        run.send_signal(signal.SIGTERM)
        assert run.wait(10) == 128 + signal.SIGTERM
    wait_for(lambda: not four_letters(port, "ruok", timeout=0.2))


SAYS_WHAT_IT_HEARS = "import signal; print(signal.getsignal(signal.SIGHUP).name, flush=True)"


@pytest.mark.slow
@pytest.mark.parametrize("disposition", ["SIG_DFL", "SIG_IGN"])
def test_a_server_under_run_hears_a_hangup_if_we_would(disposition):
    line = [*started_with(disposition), "run", "/none", "-z", "dev:", "--address", f"127.0.0.1:{free_port()}", "--"]
    done = subprocess.run(
        [*line, sys.executable, "-c", SAYS_WHAT_IT_HEARS], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"{disposition}\n"), done.stderr
