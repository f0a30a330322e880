import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import zkfleet
from tests.conftest import wait_for

# Whoever started the tests may have been told to ignore it.
HEARING = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)"
DEMO = [sys.executable, "-c", f"{HEARING}\nfrom zkfleet.cli import main; main()", "demo"]
pytestmark = pytest.mark.slow


def family(mark):
    """The processes that were started with our mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DEMO_MARK") == mark and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def environment(tmp_path):
    return {**os.environ, "DEMO_MARK": str(tmp_path), "TMPDIR": str(tmp_path)}


def test_the_story_is_told_once_and_leaves_nothing_behind(environment, tmp_path):
    done = subprocess.run([*DEMO, "--once"], env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    assert "the counter is 6" in done.stdout
    assert "and opened nothing anew" in done.stdout
    monitors = done.stdout.partition("MONITOR")[2].splitlines()[1:]
    assert len(monitors) == 4
    assert all(line.endswith(" OK") for line in monitors)
    assert done.stderr == ""
    assert family(str(tmp_path)) == []
    assert [entry.name for entry in tmp_path.iterdir() if "zkfleet" in entry.name or "zookeeper" in entry.name] == []


def test_it_needs_no_java(environment, tmp_path):
    tools, elsewhere = tmp_path / "bin", tmp_path / "elsewhere"
    tools.mkdir()
    elsewhere.mkdir()
    without = {name: value for name, value in environment.items() if name not in ("JAVA_HOME", "ZOOKEEPER_HOME")}
    without |= {"PATH": str(tools), "PYTHONPATH": str(Path(zkfleet.__file__).parents[1])}
    find = "from zkfleet.testing.zookeeper import java; java()"
    looked = subprocess.run(
        [sys.executable, "-c", find], env=without, cwd=elsewhere, capture_output=True, text=True, check=False
    )
    assert "there is no Java on this machine" in looked.stderr
    done = subprocess.run(
        [*DEMO, "--once", "-z", "dev:"],
        env=without,
        cwd=elsewhere,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "the counter is 6" in done.stdout
    assert family(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("when", "with_signal"),
    [
        ("The clients found", signal.SIGINT),
        ("back in the list", signal.SIGINT),  # a ZEO server is being killed, and two clients wait for another
        ("What to try next", signal.SIGINT),
        ("The clients found", signal.SIGHUP),
    ],
)
def test_an_interrupt_leaves_nothing_behind(environment, tmp_path, when, with_signal):
    with subprocess.Popen(
        [*DEMO, "--seconds", "60"],
        env={**environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as demo:
        next(line for line in demo.stdout if when in line)
        demo.send_signal(with_signal)
        demo.stdout.read()
        assert demo.wait(60) in (0, 130)
    wait_for(lambda: family(str(tmp_path)) == [])
    assert [entry.name for entry in tmp_path.iterdir() if "zkfleet" in entry.name or "zookeeper" in entry.name] == []


def test_the_demo_runs_on_a_given_ensemble_and_cleans_up(environment, hosts, kazoo):
    done = subprocess.run(
        [*DEMO, "--once", "-z", hosts], env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    assert set(kazoo.get_children("/")) <= {".zkfleet"}  # which the server removes
