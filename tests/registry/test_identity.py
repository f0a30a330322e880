"""Whose process is dead?  With real processes: zombies, reused ids, other namespaces."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zkfleet
from tests.conftest import wait_for
from zkfleet import Status
from zkfleet.registry.identity import Process, about_us, find_process, is_another, is_dead, machine_mark, new_instance

times = st.sampled_from(["", "17", "18"])


@given(st.booleans(), times, times)
def test_a_process_is_gone_for_certain_or_counts_as_alive(has_ended, started, now):
    gone = is_another(Process(has_ended, now), started)
    assert is_another(None, started)
    assert gone == (has_ended or (bool(started) and bool(now) and started != now))


@pytest.fixture
def zombie():
    """The id of a process that has ended, of which nobody has heard."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    wait_for(lambda: (found := find_process(process.pid)) and found.has_ended)
    yield process.pid
    process.wait()
    assert find_process(process.pid) is None


def test_a_zombie_is_dead(zombie):
    assert is_dead({"pid": zombie, "instance": f"{machine_mark()}-1"})


def test_a_process_whose_first_thread_has_ended_lives():
    text = "import ctypes, threading, time; threading.Thread(target=time.sleep, args=[60]).start()"
    # It ends this thread and no other: exit, and not exit_group.
    number = {"x86_64": 60, "aarch64": 93}.get(os.uname().machine)
    if number is None:
        pytest.skip("the number of the system call is not known here")
    with subprocess.Popen([sys.executable, "-c", f"{text}; ctypes.CDLL(None).syscall({number}, 0)"]) as process:
        try:
            state = Path(f"/proc/{process.pid}/stat")
            wait_for(lambda: state.read_text().rpartition(")")[2].split()[0] == "Z")
            assert not is_dead({"pid": process.pid, "instance": f"{machine_mark()}-1"})
        finally:
            process.kill()


def test_who_has_the_id_of_a_process_today_is_not_taken_for_it():
    mark, nonce, started = new_instance().split("-")
    for instance, dead in [(started, False), (str(int(started) - 1), True), ("", False)]:
        assert is_dead({"pid": os.getpid(), "instance": f"{mark}-{nonce}-{instance}"}) is dead
    assert not is_dead({"pid": os.getpid(), "instance": f"{mark}-{nonce}"})


def test_ids_that_there_cannot_be_belong_to_nobody():
    assert find_process(10**30) is None


def test_the_znode_of_a_zombie_is_replaced_at_once(registry, kazoo, zombie):
    registry.import_tree("/svc\n  /providers\n")
    said = {"pid": zombie, "instance": f"{machine_mark()}-1"}
    kazoo.create("/svc/providers/10.0.0.1:80", json.dumps(said).encode(), ephemeral=True)
    registration = registry.register("/svc/providers", "10.0.0.1:80", wait=True)
    assert kazoo.exists("/svc/providers/10.0.0.1:80").ephemeralOwner == registry.session.session_id
    registration.close()


def can_unshare():
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


namespaces = pytest.mark.skipif(not can_unshare(), reason="no pid namespaces can be made here")
CONTAINED = """
    import sys, zkfleet
    with zkfleet.connect(sys.argv[1], timeout=20) as registry:
        with registry.register("/svc/providers", "10.0.0.1:80", wait=True) as registration:
            print(registration.status.value, flush=True)
            sys.stdin.readline()
            print(registration.status.value, flush=True)
"""


@contextlib.contextmanager
def contained(text, *arguments, own_proc=True):
    """A Python in a pid namespace of its own, on a machine of the same name."""
    command = ["unshare", "--pid", "--fork", "--kill-child", *(["--mount-proc"] if own_proc else [])]
    command += [sys.executable, "-c", textwrap.dedent(text), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@namespaces
@pytest.mark.slow
@pytest.mark.parametrize("own_proc", [True, False])
def test_a_process_of_a_container_with_our_host_name_is_not_replaced(registry, hosts, kazoo, own_proc):
    registry.import_tree("/svc\n  /providers\n")
    with contained(CONTAINED, hosts, own_proc=own_proc) as process:
        assert process.stdout.readline() == "registered\n"
        said = json.loads(kazoo.get("/svc/providers/10.0.0.1:80")[0])
        # Its id is small there, and of nobody or of somebody else here.
        assert (said["host"], said["pid"] < 100) == (about_us()["host"], True)
        assert not is_dead(said)
        with zkfleet.connect(hosts) as other:
            ours = other.register("/svc/providers", "10.0.0.1:80", wait=False)
            wait_for(lambda: ours.status is Status.BLOCKED)
            print(file=process.stdin, flush=True)
            assert process.stdout.readline() == "registered\n"
            assert ours.status is Status.BLOCKED


@namespaces
@pytest.mark.slow
@pytest.mark.parametrize("own_proc", [True, False])
def test_nor_are_we_by_a_process_of_a_container(own_proc):
    text = "import json, sys; from zkfleet.registry.identity import is_dead; print(is_dead(json.loads(sys.argv[1])))"
    for pid in (os.getpid(), 4_000_000):
        said = json.dumps({"pid": pid, "instance": new_instance()})
        with contained(text, said, own_proc=own_proc) as process:
            assert process.stdout.readline() == "False\n"


@namespaces
@pytest.mark.slow
@pytest.mark.parametrize("own_proc", [True, False])
def test_in_a_container_its_own_processes_are_judged(own_proc):
    text = """
        import json, os, subprocess, sys, time
        from zkfleet.registry.identity import find_process, is_dead, new_instance
        print(is_dead({"pid": os.getpid(), "instance": new_instance()}), end=" ")
        with subprocess.Popen(["sleep", "60"]) as process:
            print(is_dead({"pid": process.pid, "instance": new_instance()[:17]}), end=" ")
            process.kill()
        print(is_dead({"pid": process.pid, "instance": new_instance()}), flush=True)
    """
    with contained(text, own_proc=own_proc) as process:
        assert process.stdout.readline() == "False False True\n"
