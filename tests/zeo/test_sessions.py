import contextlib
import os
import re
import socket
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest
import ZODB.config

import zkfleet
from tests.conftest import wait_for
from tests.zeo import making
from zkfleet.devserver import DevServer
from zkfleet.errors import ConnectFailed, NodeNotFound
from zkfleet.zeo import client, config
from zkfleet.zeo.sessions import share

pytestmark = pytest.mark.slow


@pytest.fixture
def zookeeper():
    with DevServer(tick=0.2) as server, zkfleet.connect(server.hosts) as registry:
        registry.import_tree("/db\n/other\n")
        registry.close()
        yield server


def sessions(server):
    """How many sessions the server has, by its own account."""
    host, _, port = server.hosts.partition(":")
    with socket.create_connection((host, int(port)), 5) as link, link.makefile("rw") as stream:
        stream.write("mntr")
        stream.flush()
        return int(re.search(r"zk_global_sessions\t(\d+)", stream.read())[1])


def closing(*storages):
    stack = contextlib.ExitStack()
    for storage in storages:
        stack.callback(storage.close)
    return stack


def test_clients_of_one_ensemble_share_a_session_until_the_last_is_closed(zookeeper, monkeypatch):
    monkeypatch.setenv("ZKFLEET_ZOOKEEPER", zookeeper.hosts)
    section = f"<zkzeoclient>\nzookeeper {zookeeper.hosts}\nserver /db\nstorage main\nwait off\n</zkzeoclient>"
    opened = [
        client(zookeeper.hosts, "/db", wait=False),
        client(None, "/other", wait=False),
        ZODB.config.storageFromString(f"%import zkfleet.zeo\n{section}"),
        config.resolve(f"zkzeo://{zookeeper.hosts}/db?storage=catalog&wait=false")[0](),
    ]
    with closing(*opened):
        assert sessions(zookeeper) == 1
        for storage in opened[:-1]:
            storage.close()
            storage.close()
        assert sessions(zookeeper) == 1
        with zkfleet.connect(zookeeper.hosts) as registry, registry.register("/db", "127.0.0.1:1"):
            wait_for(lambda: "127.0.0.1:1" in opened[-1]._providers)
    wait_for(lambda: sessions(zookeeper) == 0)


def test_another_timeout_is_another_session(zookeeper):
    with closing(*(client(zookeeper.hosts, "/db", wait=False, wait_timeout=seconds) for seconds in (7, 8, 7))):
        assert sessions(zookeeper) == 2
    wait_for(lambda: sessions(zookeeper) == 0)


def test_a_registry_of_the_callers_is_left_open(zookeeper):
    with zkfleet.connect(zookeeper.hosts) as registry:
        client(registry, "/db", wait=False).close()
        assert registry.is_open


def test_who_fails_to_open_leaves_no_session_behind_and_harms_no_other(zookeeper):
    with pytest.raises(NodeNotFound):
        client(zookeeper.hosts, "/nothing", wait=False)
    wait_for(lambda: sessions(zookeeper) == 0)
    with closing(client(zookeeper.hosts, "/db", wait=False)):
        with pytest.raises(NodeNotFound):
            client(zookeeper.hosts, "/nothing", wait=False)
        assert sessions(zookeeper) == 1
    nobody = f"127.0.0.1:{making.free_port()}"
    with pytest.raises(ConnectFailed):
        share(nobody, timeout=0.3)


def test_a_session_that_somebody_closed_is_no_longer_shared(zookeeper):
    registry, first = share(zookeeper.hosts, timeout=5)
    registry.close()
    again, second = share(zookeeper.hosts, timeout=5)
    assert again.is_open
    first.close()
    assert again.is_open
    second.close()
    assert not again.is_open


def test_many_threads_that_open_and_close_end_with_no_session(zookeeper):
    def open_and_close(_):
        for _ in range(5):
            with closing(client(zookeeper.hosts, "/db", wait=False)) as _:
                seen.append(sessions(zookeeper))

    seen = []
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(open_and_close, range(8)))  # which raises what one of them raised
    assert len(seen) == 40
    assert min(seen) == 1
    wait_for(lambda: sessions(zookeeper) == 0)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_child_has_a_session_of_its_own(zookeeper):
    with closing(client(zookeeper.hosts, "/db", wait=False)) as stack:
        child = os.fork()
        if not child:
            code = 1
            try:
                stack.close()  # which gives nothing of the parent's back
                with closing(client(zookeeper.hosts, "/db", wait=False)):
                    code = 0 if sessions(zookeeper) == 2 else 2
            except BaseException:
                traceback.print_exc()
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert sessions(zookeeper) == 1
        with closing(client(zookeeper.hosts, "/other", wait=False)):
            assert sessions(zookeeper) == 1


def test_the_default_name_tells_the_storage(zookeeper):
    said = [{}, {"storage": "catalog"}, {"storage": "catalog", "name": "mine"}]
    opened = [client(zookeeper.hosts, "/db", wait=False, **options) for options in said]
    with closing(*opened):
        names = [storage.getName().removesuffix(" (disconnected)") for storage in opened]
    assert names == [f"1@{zookeeper.hosts}/db", f"catalog@{zookeeper.hosts}/db", "mine"]
