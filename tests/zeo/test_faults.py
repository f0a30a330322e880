"""What happens to clients and their transactions when a server of ours breaks in the middle."""

import os
import resource
from contextlib import closing

import pytest
from persistent.mapping import PersistentMapping
from ZEO.Exceptions import ClientDisconnected
from ZODB.Connection import TransactionMetaData
from ZODB.utils import load_current, z64

import zkfleet.zeo
from tests.conftest import wait_for
from tests.zeo import making
from tests.zeo.test_client import Background, count
from zkfleet.testing import expire_session

pytestmark = [pytest.mark.slow, pytest.mark.faults]


@pytest.fixture
def start(fleet, tmp_path):
    """Starts a server of ours on the test's file; each takes another port."""
    started = []

    def start_one():
        storage = making.a_filestorage(tmp_path / "Data.fs")
        config = making.a_config(
            address="127.0.0.1", zookeeper=fleet.session.hosts, path="/db", storage=storage, more="session-timeout 2000"
        )
        started.append(making.ServerProcess(tmp_path / f"server{len(started)}", config))
        started[-1].says("registering")
        return started[-1]

    yield start_one
    for one in started:
        one.__exit__()


def kill(server):
    server.signal(9)
    server.ends()


@pytest.mark.parametrize("phase", ["begin", "store", "vote"])
def test_a_server_that_is_killed_in_the_middle_of_a_commit_has_not_committed(fleet, start, phase):
    server = start()
    with closing(zkfleet.zeo.DB(fleet, "/db", wait_timeout=20)) as found:
        assert count(found) == 1
        storage, meta = found.storage, TransactionMetaData("", "half")
        data, serial = load_current(storage, z64)
        steps = {
            "begin": lambda: storage.tpc_begin(meta),
            "store": lambda: storage.store(z64, serial, data, "", meta),
            "vote": lambda: storage.tpc_vote(meta),
            "finish": lambda: storage.tpc_finish(meta),
        }
        for name, step in steps.items():
            if name == "finish":
                break
            step()
            if name == phase:
                break
        kill(server)
        wait_for(lambda: not storage.is_connected())
        with pytest.raises(ClientDisconnected):
            storage.tpc_finish(meta)
        storage.tpc_abort(meta, timeout=0.1)
        start()
        assert Background(lambda: count(found)).result(30) == 2
        assert all(said["description"] != b"half" for said in found.storage.undoLog(0, 20))


def test_a_full_disk_refuses_commits_and_nothing_else(fleet, start, tmp_path):
    server = start()
    with closing(zkfleet.zeo.DB(fleet, "/db", wait_timeout=20)) as found:
        assert count(found) == 1
        full = os.path.getsize(tmp_path / "Data.fs") + 100_000
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))

        def store_much():
            with found.transaction() as connection:
                connection.root()["much"] = PersistentMapping(data=b"x" * 900_000)

        with pytest.raises(Exception, match=r"File too large|closed|lost|reset"):
            Background(store_much).result(30)
        assert Background(lambda: count(found)).result(30) == 2
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        Background(store_much).result(30)
        with found.transaction() as connection:
            assert len(connection.root()["much"]["data"]) == 900_000


def test_a_client_whose_session_ended_follows_on(fleet, start):
    server = start()
    with closing(zkfleet.zeo.DB(fleet, "/db", wait_timeout=20)) as found:
        assert count(found) == 1
        expire_session(fleet.session.hosts, fleet.session.client.client_id)
        wait_for(lambda: fleet.statistics().expiries == 1)
        assert count(found) == 2
        kill(server)
        start()
        assert Background(lambda: count(found)).result(30) == 3
