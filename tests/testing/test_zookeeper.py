"""The real parts that all other tests stand on do what they say."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from kazoo.client import KazooClient

from tests.conftest import wait_for
from zkfleet.errors import Closed, MissingDependency, WaitTimedOut
from zkfleet.testing import Proxy, ZooKeeperServer, expire_session
from zkfleet.testing.zookeeper import class_path, four_letters, free_port


@pytest.fixture
def own_zookeeper(tmp_path):
    with ZooKeeperServer(tmp_path / "own") as server:
        yield server


def test_a_tarball_that_is_named_comes_first(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/zookeeper-3.9.3.jar").touch()
    (tmp_path / "lib/other.jar").touch()
    jars = class_path({"ZOOKEEPER_HOME": str(tmp_path)})
    assert [Path(jar).name for jar in jars] == ["other.jar", "zookeeper-3.9.3.jar"]


def test_a_tarball_that_is_none_is_an_error(tmp_path):
    with pytest.raises(MissingDependency, match="holds no ZooKeeper") as caught:
        class_path({"ZOOKEEPER_HOME": str(tmp_path)})
    assert "tarball" in caught.value.hint


@pytest.mark.slow
def test_a_server_starts_from_a_tarball_s_layout(tmp_path, monkeypatch):
    home = tmp_path / "apache-zookeeper"
    (home / "lib").mkdir(parents=True)
    for jar in class_path():
        (home / "lib" / Path(jar).name).symlink_to(Path(jar).resolve())
    monkeypatch.setenv("ZOOKEEPER_HOME", str(home))
    with ZooKeeperServer(tmp_path / "server") as server:
        assert "Mode: standalone" in four_letters(server.port, "srvr")


@pytest.mark.slow
def test_a_server_listens_on_loopback_alone(own_zookeeper):
    listening = [c.laddr.ip for c in psutil.Process(own_zookeeper.pid).net_connections() if c.status == "LISTEN"]
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


@pytest.mark.slow
def test_a_server_is_killed_paused_resumed_and_wiped(own_zookeeper):
    client = KazooClient(own_zookeeper.hosts)
    client.start()
    client.create("/kept")
    client.stop()
    own_zookeeper.pause()
    assert four_letters(own_zookeeper.port, "srvr", timeout=0.3) == ""
    own_zookeeper.resume()
    own_zookeeper.wait_until_serving()
    own_zookeeper.restart()
    client.restart()
    assert client.exists("/kept")
    client.stop()
    own_zookeeper.wipe()
    client.restart()
    assert not client.exists("/kept")
    client.stop()
    client.close()
    pid = own_zookeeper.pid
    own_zookeeper.kill()
    assert own_zookeeper.pid == 0
    assert not psutil.pid_exists(pid)
    own_zookeeper.resume()
    with pytest.raises(Closed, match="does not run"):
        own_zookeeper.pause()


@pytest.mark.slow
def test_a_server_that_cannot_start_says_why(tmp_path):
    server = ZooKeeperServer(tmp_path / "server", settings=["initLimit=none"])
    with pytest.raises(WaitTimedOut, match=r"initLimit|NumberFormat"):
        server.start()
    server.stop()


@pytest.mark.slow
def test_a_server_ends_with_the_process_that_started_it(tmp_path):
    script = (
        "import pathlib, sys; from zkfleet.testing import ZooKeeperServer\n"
        "server = ZooKeeperServer(pathlib.Path(sys.argv[1])).start(); print(server.pid, flush=True)\n"
        "raise SystemExit(3)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "server"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    wait_for(lambda: not psutil.pid_exists(int(done.stdout)))


@pytest.mark.slow
def test_an_ensemble_serves_without_one_of_its_members(ensemble):
    leader = ensemble.leader()
    leader.kill()
    assert ensemble.leader() is not leader
    client = KazooClient(ensemble.hosts)
    client.start(timeout=30)
    client.create("/made-by-two")
    leader.start()
    alone = KazooClient(leader.hosts)
    alone.start()
    alone.sync("/")
    assert alone.exists("/made-by-two")
    for used in (client, alone):
        used.stop()
        used.close()


def test_a_session_that_is_killed_takes_its_nodes_with_it(hosts, kazoo):
    victim = KazooClient(hosts)
    victim.start()
    victim.create("/ephemeral", ephemeral=True)
    states = []
    victim.add_listener(states.append)
    expire_session(hosts, victim.client_id)
    wait_for(lambda: "LOST" in states)
    assert not kazoo.exists("/ephemeral")
    victim.stop()
    victim.close()


def test_a_session_cannot_be_killed_where_nobody_answers(monkeypatch):
    monkeypatch.setattr("zkfleet.testing.zookeeper.START_TIMEOUT", 0.05)
    with pytest.raises(WaitTimedOut, match="no ZooKeeper answered") as caught:
        expire_session(f"127.0.0.1:{free_port()}", (1, bytes(16)))
    assert "resume()" in caught.value.hint


def test_a_proxy_passes_on_swallows_and_refuses(zookeeper):
    with Proxy(zookeeper.port) as proxy:
        assert "Mode:" in four_letters(proxy.port, "srvr")
        proxy.black_hole()
        assert four_letters(proxy.port, "srvr", timeout=0.2) == ""
        proxy.heal()
        assert "Mode:" in four_letters(proxy.port, "srvr")
        proxy.refuse()
        assert four_letters(proxy.port, "srvr", timeout=0.2) == ""
        proxy.heal()
        assert "Mode:" in four_letters(proxy.port, "srvr")
