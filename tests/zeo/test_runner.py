"""Processes of `zkfleet zeo serve`."""

import contextlib
import signal
import socket
import subprocess
import sys

import pytest
import transaction
import ZEO
from persistent.mapping import PersistentMapping
from transaction.interfaces import TransientError
from ZODB.FileStorage import FileStorage
from ZODB.utils import z64

import zkfleet
from tests.conftest import wait_for
from tests.zeo import making
from zkfleet.devserver import DevServer

pytestmark = pytest.mark.slow
TREE = "/databases\n  /main\n"


@pytest.fixture
def tree(registry):
    registry.import_tree(TREE)
    return registry


def a_database(tmp_path, hosts, **options):
    """A configuration with a file, and no port."""
    storage = making.a_filestorage(tmp_path / "Data.fs")
    return making.a_config(address="127.0.0.1", zookeeper=hosts, storage=storage, **options)


def registered(registry):
    """The one address that is registered, once it is."""
    [place] = wait_for(lambda: making.addresses(registry), 20)
    return place


def last(file):
    with contextlib.closing(FileStorage(str(file), read_only=True)) as storage:
        return storage.lastTransaction()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_deregisters_and_ends_it(tree, hosts, tmp_path, number):
    # Both times are longer than `ends` waits: neither is waited out.
    config = a_database(tmp_path, hosts, more="drain-timeout 120\n session-timeout 60000")
    with making.ServerProcess(tmp_path, config) as server:
        making.commit(registered(tree))
        server.signal(number)
        server.says("drain_began")
        assert making.addresses(tree) == []
        assert server.ends() == 0
        assert "drain_began committing=0" in server.log
        assert "ending_now" not in server.log
        assert (tmp_path / "Data.fs.index").exists()


def test_clients_hear_of_commits_in_the_order_in_which_they_were(tree, hosts, tmp_path, caplog):
    """On uvloop, too, which is there for tests, and which such a process takes."""
    with (
        making.ServerProcess(tmp_path, a_database(tmp_path, hosts)),
        contextlib.closing(ZEO.DB(registered(tree))) as one,
        contextlib.closing(ZEO.DB(registered(tree))) as other,
    ):
        with one.transaction() as connection:
            for n in range(3):
                connection.root()[n] = PersistentMapping()

        def commit_often(database, n):
            for value in range(150):
                manager = transaction.TransactionManager()
                connection = database.open(manager)
                connection.root()[n]["value"] = value
                manager.commit()
                connection.close()

        committing = [making.Attempt(commit_often, *each) for each in ((one, 0), (one, 1), (other, 2))]
        assert [each.outcome(60) for each in committing] == [None] * 3
    assert "must be greater" not in caplog.text


def test_a_commit_under_way_is_finished(tree, hosts, tmp_path):
    with making.ServerProcess(tmp_path, a_database(tmp_path, hosts)) as server:
        with making.a_holder(registered(tree)) as (storage, t):
            server.signal(signal.SIGTERM)
            # Nobody new is sent to it while it waits.
            wait_for(lambda: making.addresses(tree) == [])
            tid = storage.tpc_finish(t)
        assert server.ends() == 0
    assert last(tmp_path / "Data.fs") == tid


def test_a_commit_that_hangs_is_waited_for_no_longer_than_told(tree, hosts, tmp_path):
    config = a_database(tmp_path, hosts, more="drain-timeout 0.5")
    with making.ServerProcess(tmp_path, config) as server, making.a_holder(registered(tree)):
        server.signal(signal.SIGTERM)
        assert server.ends() == 0
        assert "connection_broken" in server.log


def test_a_second_signal_ends_it_now(tree, hosts, tmp_path):
    config = a_database(tmp_path, hosts, more="drain-timeout 60")
    with making.ServerProcess(tmp_path, config) as server, making.a_holder(registered(tree)):
        server.signal(signal.SIGTERM)
        server.says("drain_began")
        assert making.addresses(tree) == []
        assert "ending_now" not in server.log
        server.signal(signal.SIGTERM)
        assert server.ends() == 0  # in less than the drain's time
        assert server.log.index("drain_began") < server.log.index("ending_now") < server.log.index("served address")
    assert last(tmp_path / "Data.fs")


def test_a_hangup_asks_to_be_started_again(tree, hosts, tmp_path):
    with making.ServerProcess(tmp_path, a_database(tmp_path, hosts)) as server:
        registered(tree)
        server.signal(signal.SIGHUP)
        assert server.ends() == 1
        assert making.addresses(tree) == []


def test_what_was_committed_outlives_a_kill(tree, hosts, tmp_path):
    with making.ServerProcess(tmp_path, a_database(tmp_path, hosts)) as server:
        tid = making.commit(registered(tree))
        server.signal(signal.SIGKILL)
        server.ends()
    with making.ServerProcess(tmp_path, a_database(tmp_path, hosts)) as again:
        again.says("registering")
        with contextlib.closing(making.a_client(wait_for(lambda: newest(tree)))) as client:
            assert tid in [revision["tid"] for revision in client.history(z64, size=10)]


def newest(registry):
    """An address that answers: that of a killed server is listed until its session ends."""
    for place in making.addresses(registry):
        with contextlib.suppress(OSError):
            socket.create_connection(place, 1).close()
            return place
    return None


# -- without ZooKeeper


def test_a_fixed_port_serves_and_is_registered_when_zookeeper_comes(tmp_path):
    port, place = making.free_port(), ("127.0.0.1", making.free_port())
    config = making.a_config(address=f"127.0.0.1:{place[1]}", zookeeper=f"127.0.0.1:{port}")
    with making.ServerProcess(tmp_path, config) as server:
        server.says("listening")
        assert making.commit(place)
        server.says("not_registered_yet")
        with DevServer(port) as zookeeper, zkfleet.connect(zookeeper.hosts) as registry:
            registry.import_tree(TREE)
            assert registered(registry) == place
            server.signal(signal.SIGTERM)
            assert server.ends() == 0


def test_a_dynamic_port_waits_for_zookeeper(tmp_path):
    port = making.free_port()
    with making.ServerProcess(tmp_path, a_database(tmp_path, f"127.0.0.1:{port}")) as server:
        server.says("not_registered_yet")
        assert "listening" not in server.log
        with DevServer(port) as zookeeper, zkfleet.connect(zookeeper.hosts) as registry:
            registry.import_tree(TREE)
            assert making.commit(registered(registry))


def test_waiting_for_zookeeper_ends_with_a_signal(tmp_path):
    config = a_database(tmp_path, f"127.0.0.1:{making.free_port()}")
    with making.ServerProcess(tmp_path, config) as server:
        server.says("not_registered_yet")
        server.signal(signal.SIGTERM)
        assert server.ends() == 0


def test_it_outlives_zookeeper(tmp_path):
    with DevServer(tick=0.2) as zookeeper, zkfleet.connect(zookeeper.hosts) as registry:
        registry.import_tree(TREE)
        server = making.ServerProcess(tmp_path, a_database(tmp_path, zookeeper.hosts, more="session-timeout 1000"))
        with server:
            place = registered(registry)
            zookeeper.kill()
            server.says("session_assumed_expired")
            assert making.commit(place)
            zookeeper.restart()
            wait_for(lambda: making.addresses(registry) == [place])


# -- as runzeo


def test_the_pid_file_is_there_while_it_runs(tree, hosts, tmp_path):
    file = tmp_path / "zeo.pid"
    with making.ServerProcess(tmp_path, a_database(tmp_path, hosts), "--pid-file", str(file)) as server:
        registered(tree)
        assert int(file.read_text()) == server.pid
        server.signal(signal.SIGTERM)
        server.ends()
        assert not file.exists()


def test_log_files_are_opened_anew(tree, hosts, tmp_path):
    log = tmp_path / "event.log"
    eventlog = f"<eventlog>\n<logfile>\npath {log}\n</logfile>\n</eventlog>"
    with making.ServerProcess(tmp_path, a_database(tmp_path, hosts, eventlog=eventlog)) as server:
        registered(tree)
        wait_for(log.exists)
        log.rename(tmp_path / "event.log.1")
        server.signal(signal.SIGUSR2)
        wait_for(lambda: log.exists() and "reopened" in log.read_text())
        assert server.log == ""


def run(*arguments):
    command = [sys.executable, "-c", "from zkfleet.cli import main; main()", "zeo", "serve", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_a_bad_configuration_is_not_started_again_by_zdaemon(tmp_path):
    file = tmp_path / "zeo.conf"
    file.write_text(making.a_config(zookeeper="127.0.0.1:1", more="session-timeout 10"))
    done = run("-C", file)
    assert done.returncode == 2
    assert (
        done.stderr == f"error: {file}:6: 10 ms is no session timeout: it counts milliseconds, 10000 are ten seconds\n"
        "hint: write a number from 1000 to 2000000000\n"
    )


def test_a_file_that_another_has_open_is_told(tree, hosts, tmp_path):
    with making.ServerProcess(tmp_path, a_database(tmp_path, hosts)):
        place = registered(tree)
        done = run("-a", "127.0.0.1:0", "-f", tmp_path / "Data.fs")
        assert done.returncode == 1
        assert "another process has a storage open" in done.stderr
        assert making.commit(place)


def test_what_it_was_started_to_ignore_is_ignored(tree, hosts, tmp_path):
    with making.ServerProcess(tmp_path, a_database(tmp_path, hosts), hangup=signal.SIG_IGN) as server:
        place = registered(tree)
        server.signal(signal.SIGHUP)
        assert making.commit(place)
        server.signal(signal.SIGTERM)
        assert server.ends() == 0


@pytest.mark.faults
def test_nothing_that_was_acknowledged_is_lost_by_a_drain(tree, hosts, tmp_path):
    acknowledged = []

    def commit_on(place):
        with contextlib.closing(making.a_client(place, wait_timeout=1)) as storage:
            oid, serial = storage.new_oid(), z64
            while True:
                with making.a_transaction(storage) as t:
                    storage.store(oid, serial, b"data", "", t)
                    storage.tpc_vote(t)
                    serial = storage.tpc_finish(t)
                acknowledged.append(serial)

    with making.ServerProcess(tmp_path, a_database(tmp_path, hosts)) as server:
        busy = [making.Attempt(commit_on, registered(tree)) for _ in range(4)]
        wait_for(lambda: len(acknowledged) > 50)
        server.signal(signal.SIGTERM)
        assert server.ends() == 0
        assert all(isinstance(one.outcome(), TransientError) for one in busy)
    with contextlib.closing(FileStorage(str(tmp_path / "Data.fs"), read_only=True)) as storage:
        assert set(acknowledged) <= {t.tid for t in storage.iterator()}
