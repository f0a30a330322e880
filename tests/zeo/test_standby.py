"""Servers with standbys, as processes of their own: one serves, whatever happens to it, and never two."""

import os
import random
import signal
import threading
import time

import pytest
from kazoo.client import KazooClient

import zkfleet
from tests.conftest import wait_for
from tests.zeo.standing_in import PATH, Log, Process
from zkfleet.devserver import DevServer
from zkfleet.testing import ZooKeeperServer, expire_session
from zkfleet.zeo.lease import RENEWED_EVERY

pytestmark = [pytest.mark.slow, pytest.mark.faults]
TIMEOUT = 2.0
# Seconds that a process may take to start on a busy machine: what must be quick is asserted by itself.
LONGEST = 60


@pytest.fixture(params=["dev", "real"])
def zookeeper(request, tmp_path):
    with DevServer(tick=0.5) if request.param == "dev" else ZooKeeperServer(tmp_path / "zk") as server:
        with zkfleet.connect(server.hosts) as registry:
            registry.import_tree("/databases\n  /main\n")
        yield server


@pytest.fixture
def kazoo(zookeeper):
    client = KazooClient(zookeeper.hosts)
    client.start()
    yield client
    client.stop()
    client.close()


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / "log")


@pytest.fixture
def start(zookeeper, log):
    """Start one more server process; they all end with the test."""
    started = []

    def start_one(**options):
        started.append(Process(zookeeper.hosts, log, timeout=TIMEOUT, **options))
        return started[-1]

    yield start_one
    for process in started:
        process.end()


@pytest.fixture
def pair(start, log, tmp_path, request):
    """Two servers of one file storage: the one that serves, and its standby."""
    first = start(file=tmp_path / "Data.fs", machine=getattr(request, "param", ""))
    wait_for(lambda: first.serves, LONGEST)
    second = start(file=tmp_path / "Data.fs").wait_until("waiting")
    return first, second


@pytest.mark.parametrize("pair", ["elsewhere"], indirect=True)
def test_the_holder_is_killed_on_another_machine(pair, log):
    first, second = pair
    began = time.monotonic()
    first.send(signal.SIGKILL)
    wait_for(lambda: second.serves, LONGEST)
    assert TIMEOUT / 2 < log.reigns()[1][0] - began < TIMEOUT + 1
    log.check_one_at_a_time()


@pytest.mark.parametrize("is_reaped", [True, False], ids=["", "zombie"])
def test_the_death_of_a_holder_on_the_same_machine_is_seen_before_its_session_is_over(pair, log, is_reaped):
    first, second = pair
    began = time.monotonic()
    first.send(signal.SIGKILL)
    if is_reaped:
        first.process.wait(5)
    wait_for(lambda: second.serves, LONGEST)
    assert log.reigns()[1][0] - began < RENEWED_EVERY * TIMEOUT + 0.5
    log.check_one_at_a_time()


def test_the_holder_is_told_to_end(pair, log):
    first, second = pair
    began = time.monotonic()
    first.send(signal.SIGTERM)
    wait_for(lambda: second.serves, LONGEST)
    assert log.reigns()[1][0] - began < 1
    assert first.process.wait(5) == 0
    assert log.last("drained", first.pid).at < log.reigns()[1][0]
    log.check_one_at_a_time()


def test_a_standby_that_ends_disturbs_nobody(pair, log):
    first, second = pair
    second.send(signal.SIGTERM)
    assert second.process.wait(5) == 0
    assert first.serves
    assert len(log.reigns()) == 1


@pytest.mark.parametrize("file", ["-", "Data.fs"])
def test_a_holder_that_was_stopped_for_longer_than_its_session_does_not_commit(start, log, tmp_path, file):
    file = file if file == "-" else tmp_path / file
    first = start(file=file)
    wait_for(lambda: first.serves, LONGEST)
    second = start(file=file).wait_until("waiting")
    first.send(signal.SIGSTOP)
    if file == "-":
        wait_for(lambda: second.serves, LONGEST)
    else:
        second.wait_until("blocked")  # the stopped process has the file still
    resumed = time.monotonic()
    first.send(signal.SIGCONT)
    wait_for(lambda: log.last("aborted", first.pid))
    wait_for(lambda: second.serves, LONGEST)
    wait_for(lambda: log.last("state", first.pid).detail == "waiting")
    assert log.last("commit", first.pid).at < resumed
    log.check_one_at_a_time()
    second.send(signal.SIGTERM)
    wait_for(lambda: first.serves, LONGEST)


def test_zookeeper_dies_and_comes_back(zookeeper, pair, log):
    first, second = pair
    died = time.monotonic()
    zookeeper.pause()
    aborted = wait_for(lambda: log.last("aborted", first.pid))
    assert aborted.at < died + TIMEOUT
    zookeeper.resume()
    wait_for(lambda: first.serves or second.serves, LONGEST)
    log.check_one_at_a_time()


def test_zookeeper_is_started_again_before_the_lease_is_over(zookeeper, pair, log):
    first, _ = pair
    zookeeper.restart()
    resumed = time.monotonic()
    wait_for(lambda: time.monotonic() > resumed + 2 * TIMEOUT)
    if isinstance(zookeeper, DevServer):  # Java takes its time
        assert first.serves
    log.check_one_at_a_time()


def test_the_ensemble_is_rebuilt(zookeeper, pair, log):
    zookeeper.wipe()
    with zkfleet.connect(zookeeper.hosts) as registry:
        registry.import_tree("/databases\n  /main\n")
    rebuilt = time.monotonic()
    wait_for(lambda: (last := log.last("commit")) and last.at > rebuilt + TIMEOUT, timeout=20)
    log.check_one_at_a_time()


def test_the_session_is_ended_by_force(zookeeper, pair, log):
    number, password = log.last("session", pair[0].pid).detail.split(":")
    expire_session(zookeeper.hosts, (int(number), bytes.fromhex(password)))
    wait_for(lambda: log.last("aborted", pair[0].pid))
    wait_for(lambda: len(log.reigns()) == 2)
    log.check_one_at_a_time()


def test_an_operator_deletes_the_lock(pair, log, kazoo):
    kazoo.delete(f"{PATH}.standby/primary")
    wait_for(lambda: log.last("aborted", pair[0].pid))
    wait_for(lambda: len(log.reigns()) == 2)
    log.check_one_at_a_time()


def test_the_storage_s_file_is_locked_by_somebody_else(start, log, tmp_path):
    from zc.lockfile import LockFile

    lock = LockFile(tmp_path / "Data.fs.lock")
    first = start(file=tmp_path / "Data.fs").wait_until("blocked")
    assert not log.reigns()
    began = time.monotonic()
    lock.close()
    wait_for(lambda: first.serves, LONGEST)
    assert log.reigns()[0][0] - began < 0.5


def test_who_stands_by_can_be_seen(zookeeper, pair):
    with zkfleet.connect(zookeeper.hosts) as registry:
        servers = registry.providers(f"{PATH}.standby")

        def states():
            return {said["pid"]: said.get("state") for name, said in servers.items() if name != "primary"}

        wait_for(lambda: states() == {pair[0].pid: "serving", pair[1].pid: "waiting"})
        assert servers["primary"]["pid"] == pair[0].pid


def test_members_of_an_ensemble_die_and_hang(ensemble, log):
    with zkfleet.connect(ensemble.hosts) as registry:
        registry.import_tree("/databases\n  /main\n")
    servers = [Process(ensemble.hosts, log, timeout=TIMEOUT) for _ in range(2)]
    try:
        for how in ("kill", "pause"):
            wait_for(log.server, timeout=20, what="a server")
            leader = ensemble.leader()
            getattr(leader, how)()
            broken = time.monotonic()
            wait_for(lambda until=broken + 2 * TIMEOUT: time.monotonic() > until and log.server(), 30, "a server")
            leader.resume() if how == "pause" else leader.start()
        wait_for(log.server, timeout=20, what="a server")
    finally:
        for server in servers:
            server.end()
    log.check_one_at_a_time()


def test_without_a_quorum_nobody_serves(ensemble, log):
    with zkfleet.connect(ensemble.hosts) as registry:
        registry.import_tree("/databases\n  /main\n")
    server = Process(ensemble.hosts, log, timeout=TIMEOUT)
    try:
        wait_for(lambda: server.serves)
        hung = [member for member in ensemble.members if member is not ensemble.leader()]
        broken = time.monotonic()
        for member in hung:
            member.pause()
        aborted = wait_for(lambda: log.last("aborted"), what="the end of the lease")
        assert aborted.at < broken + TIMEOUT
        for member in hung:
            member.resume()
        wait_for(lambda: server.serves, timeout=30)
    finally:
        server.end()


@pytest.mark.parametrize("file", ["-", "Data.fs"])
def test_twenty_random_failovers_among_three(start, log, tmp_path, file):
    file = file if file == "-" else tmp_path / file
    randomly = random.Random(os.environ.get("SEED", "7"))
    servers = [start(file=file) for _ in range(3)]
    for _ in range(20):
        holder = wait_for(lambda: next((one for one in servers if one.serves), None), timeout=15, what="a server")
        how = randomly.choice(["kill", "term", "stop"])
        if how == "stop":
            holder.send(signal.SIGSTOP)
            threading.Event().wait(randomly.uniform(0, 1.5 * TIMEOUT))
            holder.send(signal.SIGCONT)
            continue
        holder.send(signal.SIGKILL if how == "kill" else signal.SIGTERM)
        wait_for(lambda holder=holder: holder.process.poll() is not None, timeout=15)
        servers.remove(holder)
        servers.append(start(file=file))
    wait_for(log.server, timeout=15, what="a server")
    log.check_one_at_a_time()
