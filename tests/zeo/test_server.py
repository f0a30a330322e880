import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
from fnmatch import fnmatch
from urllib.request import urlopen

import pytest
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage

import zkfleet
from tests.conftest import wait_for
from tests.monitor.conftest import ask
from tests.monitor.conftest import trusting as trusting
from tests.monitor.test_security import heard
from tests.zeo import making
from zkfleet import monitor
from zkfleet.endpoints import Endpoint
from zkfleet.errors import BadAddress, BadHosts, BadInput, Closed, Unavailable
from zkfleet.zeo import Server
from zkfleet.zeo.settings import read_settings
from zkfleet.zeo.standby import state_of

TREE = "/databases\n  /main\n  /other\n"


@pytest.fixture
def tree(registry):
    registry.import_tree(TREE)
    return registry


def reached(server):
    """Where a client on this machine finds a server."""
    return (server.address.host or "127.0.0.1", server.address.port)


def said(registry, path="/databases/main"):
    """What the one server at a path says of itself."""
    with contextlib.closing(registry.providers(path)) as view:
        wait_for(lambda: len(view) == 1)
        return dict(next(iter(view.values())))


def test_a_server_is_registered_while_it_serves(tree, hosts):
    with Server(making.a_config(address="127.0.0.1", zookeeper=hosts)) as server:
        wait_for(lambda: making.addresses(tree) == [reached(server)])
        assert making.commit(reached(server))
    assert making.addresses(tree) == []


def test_it_says_what_it_is(tree, hosts, tmp_path):
    config = making.a_config(address="127.0.0.1", zookeeper=hosts, storage=making.a_filestorage(tmp_path / "Data.fs"))
    with Server(config) as server, contextlib.closing(making.a_client(reached(server))) as client:
        properties = said(tree)
        assert properties["storages"] == ["1"]
        assert properties["read_only"] is False
        assert properties["role"] == "primary"
        assert properties["pid"] == os.getpid()
        assert properties["tid"] == {"1": client.lastTransaction().hex()}
        assert properties["database"] == {"1": client._info["zkfleet.database"]}
        assert "transient" not in properties


def test_it_says_that_all_it_has_is_in_memory(tree, hosts, tmp_path):
    # Where one storage is not, nothing holds for all: each client is told of its own.
    both = "<mappingstorage memory>\n</mappingstorage>\n" + making.a_filestorage(tmp_path / "Data.fs", "file")
    with Server(making.a_config(address="127.0.0.1", zookeeper=hosts)):
        assert said(tree)["transient"] is True
    with Server(making.a_config(address="127.0.0.1", zookeeper=hosts, storage=both)) as server:
        assert "transient" not in said(tree)
        for name, transient in (("memory", True), ("file", None)):
            with contextlib.closing(making.a_client(reached(server), storage=name)) as client:
                assert client._info.get("zkfleet.transient") is transient


def test_a_read_only_server_says_so(tree, hosts):
    with Server(making.a_config(address="127.0.0.1", zookeeper=hosts, zeo="read-only true")):
        assert said(tree)["read_only"] is True


def test_storages_with_paths_of_their_own_are_registered_there(tree, hosts):
    storages = "<mappingstorage main>\n</mappingstorage>\n<mappingstorage other>\n</mappingstorage>"
    more = "<storage-paths>\nother /databases/other\n</storage-paths>"
    with Server(making.a_config(address="127.0.0.1", zookeeper=hosts, storage=storages, more=more)):
        main, other = said(tree), said(tree, "/databases/other")
    assert main["storages"] == ["main"]
    assert list(main["database"]) == ["main"]
    assert other["storages"] == ["other"]
    assert list(other["tid"]) == ["other"]


def test_without_an_address_what_is_registered_can_be_reached(tree, hosts):
    with Server(making.a_config(zookeeper=hosts)) as server:
        assert server.address.host == ""
        places = wait_for(lambda: making.addresses(tree))
        assert "0.0.0.0" not in dict(places)
        for place in places:
            assert making.commit(place)


def test_what_is_advertised_takes_the_place_of_the_host(tree, hosts):
    more = "advertise db.example.com"
    with Server(making.a_config(address="127.0.0.1", zookeeper=hosts, more=more)) as server:
        wait_for(lambda: making.addresses(tree) == [("db.example.com", server.address.port)])


def test_what_cannot_be_advertised_is_refused_at_once(hosts):
    with pytest.raises(BadAddress):
        Server(making.a_config(address="127.0.0.1", zookeeper=hosts, more="advertise 203.0.113.0/24"))


def test_an_ensemble_that_cannot_be_is_refused_at_once(monkeypatch):
    monkeypatch.setenv("ZKFLEET_ZOOKEEPER", "a:b:c")
    config = making.a_config(address="127.0.0.1", zookeeper="127.0.0.1:1").replace("  connection 127.0.0.1:1\n", "")
    with pytest.raises(BadHosts, match="a:b:c"):
        Server(config)


def test_a_given_registry_is_used_and_left_open(tree):
    config = making.a_config(address="127.0.0.1", zookeeper="192.0.2.1:2181")
    with Server(config, registry=tree) as server:
        wait_for(lambda: making.addresses(tree) == [reached(server)])
    assert making.addresses(tree) == []


def test_a_given_registry_needs_a_path(registry):
    with pytest.raises(BadInput, match="<zookeeper>"):
        Server(making.a_config(address="127.0.0.1"), registry=registry)


def test_it_registers_when_its_path_comes(registry, hosts, caplog):
    with Server(making.a_config(address="127.0.0.1", zookeeper=hosts)) as server:
        wait_for(lambda: "not_registered_yet path=/databases/main" in caplog.text)
        assert making.commit(reached(server))
        registry.import_tree(TREE)
        wait_for(lambda: making.addresses(registry) == [reached(server)])


@pytest.mark.slow
def test_a_lost_session_does_not_end_it(tree, hosts):
    with Server(making.a_config(address="127.0.0.1", zookeeper=hosts)) as server:
        wait_for(lambda: making.addresses(tree))
        zkfleet.testing.expire_session(hosts, server._announcer.registry.session.client.client_id)
        assert making.commit(reached(server))
        wait_for(lambda: server._announcer.registry.statistics().expiries == 1)
        wait_for(lambda: making.addresses(tree) == [reached(server)])


def test_a_server_of_a_server_serves_the_same_database(tree, hosts):
    behind = f"%import zkfleet.zeo\n<zkzeoclient 1>\n  zookeeper {hosts}\n  server /databases/main\n</zkzeoclient>"
    with Server(making.a_config(address="127.0.0.1", zookeeper=hosts)) as first:
        database = said(tree)["database"]
        config = making.a_config(address="127.0.0.1", zookeeper=hosts, path="/databases/other", storage=behind)
        with Server(config) as second:
            assert said(tree, "/databases/other")["database"] == database
            tid = making.commit(reached(second))
            with contextlib.closing(making.a_client(reached(first))) as client:
                assert client.lastTransaction() == tid


# -- without ZooKeeper


def test_it_serves_without_zookeeper():
    with Server(making.a_config(address="127.0.0.1")) as server:
        assert making.commit(reached(server))


def test_a_fixed_port_serves_before_zookeeper_is_there():
    port = making.free_port()
    config = making.a_config(address=f"127.0.0.1:{port}", zookeeper=f"127.0.0.1:{making.free_port()}")
    with Server(config) as server:
        assert server.address == Endpoint("127.0.0.1", port)
        assert making.commit(reached(server))


def test_waiting_for_zookeeper_can_be_ended():
    server = Server(making.a_config(address="127.0.0.1", zookeeper=f"127.0.0.1:{making.free_port()}"))
    starting = making.Attempt(server.start)
    assert starting.outcome(0.05) is None
    server.close()
    assert isinstance(starting.outcome(), Closed)
    assert not server.is_serving


def test_a_unix_socket_is_served_and_not_registered(tree, hosts, tmp_path, caplog):
    path = str(tmp_path / "zeo.sock")
    with Server(making.a_config(address=path, zookeeper=hosts)) as server:
        assert server.address == path
        assert making.commit(path)
        assert making.addresses(tree) == []
        assert "not_registered" in caplog.text
    assert not os.path.exists(path)


def test_a_unix_socket_of_a_living_server_is_left_to_it(tmp_path):
    path = str(tmp_path / "zeo.sock")
    with Server(making.a_config(address=path)):
        with pytest.raises(BadInput, match="somebody listens there already"):
            Server(making.a_config(address=path)).start()
        assert making.commit(path)


def test_a_unix_socket_that_was_left_behind_is_replaced(tmp_path):
    path = str(tmp_path / "zeo.sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    with Server(making.a_config(address=path)):
        assert making.commit(path)


# -- beginning and end


def test_starting_and_closing_twice_is_fine():
    server = Server(making.a_config(address="127.0.0.1"))
    assert server.start() is server.start()
    server.close()
    server.close()
    server.abort()
    with pytest.raises(Closed):
        server.start()


def test_before_the_start_there_is_no_address():
    with pytest.raises(Closed):
        Server(making.a_config(address="127.0.0.1")).address  # noqa: B018


def test_its_end_lets_commits_finish(tmp_path):
    file = tmp_path / "Data.fs"
    server = Server(making.a_config(address="127.0.0.1", storage=making.a_filestorage(file))).start()
    with making.a_holder(reached(server)) as (storage, t):
        closing = making.Attempt(server.close)
        assert closing.outcome(0.05) is None
        tid = storage.tpc_finish(t)
        closing.outcome()
    with contextlib.closing(FileStorage(str(file))) as storage:
        assert storage.lastTransaction() == tid


def test_its_end_waits_for_commits_no_longer_than_told(tree, hosts):
    config = making.a_config(address="127.0.0.1", zookeeper=hosts, more="drain-timeout 0.05")
    server = Server(config).start()
    with making.a_holder(reached(server)):
        server.close()
        assert not server.is_serving


def test_an_abort_ends_a_close():
    server = Server(making.a_config(address="127.0.0.1")).start()
    with making.a_holder(reached(server)):
        closing = making.Attempt(server.close)
        assert closing.outcome(0.05) is None
        server.abort()
        closing.outcome()
        assert not server.is_serving


@pytest.mark.parametrize("end", [Server.close, Server.abort])
def test_ending_while_it_opens_leaves_nothing_open(end):
    may_open, opened = threading.Event(), MappingStorage()

    def slowly():
        may_open.wait(10)
        return opened

    settings = read_settings(making.a_config(address="127.0.0.1"))
    server = Server(dataclasses.replace(settings, storages={"1": slowly}))
    starting, ending = making.Attempt(server.start), making.Attempt(end, server)
    assert ending.outcome(0.05) is None
    may_open.set()
    starting.outcome()
    ending.outcome()
    assert not server.is_serving
    assert not opened.opened()


def test_a_storage_that_another_has_open_is_told(tmp_path):
    storage = making.a_filestorage(tmp_path / "Data.fs")
    with (
        Server(making.a_config(address="127.0.0.1", storage=storage)),
        pytest.raises(Unavailable, match="another process has a storage open"),
    ):
        Server(making.a_config(address="127.0.0.1", storage=storage)).start()


def test_what_was_opened_before_a_failure_is_closed(tmp_path):
    first, second = making.a_filestorage(tmp_path / "1.fs", "1"), making.a_filestorage(tmp_path / "2.fs", "2")
    with Server(making.a_config(address="127.0.0.1", storage=second)):
        with pytest.raises(Unavailable):
            Server(making.a_config(address="127.0.0.1", storage=first + "\n" + second)).start()
        with Server(making.a_config(address="127.0.0.1", storage=first)):
            pass


class Scarce:
    """A machine that has threads of some name no more, for a while."""

    def __init__(self, monkeypatch, name, times=1):
        self.refused = []
        start = threading.Thread.start

        def refuse(thread):
            if fnmatch(thread.name, name) and len(self.refused) < times:
                self.refused.append(thread)
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.mark.parametrize(
    ("name", "more"), [("zeo 127*", ""), ("zkfleet-standby-keeper", "standby on"), ("zkfleet-standby", "standby on")]
)
def test_without_a_thread_to_serve_nothing_is_left_open_or_locked(tree, hosts, tmp_path, monkeypatch, name, more):
    config = making.a_config(
        address="127.0.0.1", zookeeper=hosts, storage=making.a_filestorage(tmp_path / "Data.fs"), more=more
    )
    scarce = Scarce(monkeypatch, name)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        Server(config).start()
    assert scarce.refused
    with Server(config) as server:
        wait_for(lambda: server.is_serving)


def test_without_a_thread_to_connect_it_is_registered_later(tree, hosts, monkeypatch, caplog):
    scarce = Scarce(monkeypatch, "zkfleet-registry")
    with Server(making.a_config(address="127.0.0.1", zookeeper=hosts)):
        wait_for(lambda: making.addresses(tree))
    assert scarce.refused
    assert "not_registered_yet path=/databases/main reason=RuntimeError" in caplog.text


def test_an_address_that_is_taken_is_told(tmp_path):
    storage = making.a_filestorage(tmp_path / "Data.fs")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match="address already in use") as caught:
            Server(making.a_config(address=address, storage=storage)).start()
    assert str(caught.value).startswith(f"{address}: ")
    assert "choose another port" in caught.value.hint
    with Server(making.a_config(address="127.0.0.1", storage=storage)):
        pass


def test_a_host_that_is_not_known_is_named():
    with pytest.raises(Unavailable, match=r"nohost\.invalid:8100: ") as caught:
        Server(making.a_config(address="nohost.invalid:8100")).start()
    assert "name of the host" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({"address": "/tmp/zeo.sock"}, ""),
        ({}, "<storage-paths>\n1 /databases/main\n</storage-paths>"),
    ],
)
def test_standby_needs_one_path_that_others_reach(options, more):
    with pytest.raises(BadInput, match="standby"):
        Server(making.a_config(zookeeper="127.0.0.1:1", more=f"standby on\n{more}", **options))


def test_nothing_is_left_of_it(tree, hosts):
    before = threading.active_count()
    for _ in range(3):
        with Server(making.a_config(address="127.0.0.1", zookeeper=hosts)):
            wait_for(lambda: making.addresses(tree))
    wait_for(lambda: threading.active_count() <= before)


def test_a_server_has_a_monitor_and_says_where(tree, hosts):
    config = making.a_config(address="127.0.0.1", zookeeper=hosts, more="monitor-server 127.0.0.1:0")
    with Server(config) as server:
        address = said(tree)["monitor"]
        assert ask(address, "health") == "OK\n"
        assert str(server.address) in ask(address, "zeoserver")
    with pytest.raises(ConnectionRefusedError):
        ask(address, "health")


def test_a_servers_monitor_answers_over_http(tree, hosts):
    port = making.free_port()
    more = f"monitor-server 127.0.0.1:0\nmonitor-http 127.0.0.1:{port}"
    with (
        Server(making.a_config(address="127.0.0.1", zookeeper=hosts, more=more)),
        urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer,
    ):
        assert b"zkfleet_zeoserver_clients" in answer.read()


def test_a_monitor_on_a_unix_socket_is_not_in_the_tree(tree, hosts, tmp_path):
    path = str(tmp_path / "monitor.sock")
    with Server(making.a_config(address="127.0.0.1", zookeeper=hosts, more=f"monitor-server {path}")):
        assert "monitor" not in said(tree)
        assert ask(path, "health") == "OK\n"
    assert not os.path.exists(path)


def guarded(hosts, *keys, at="0.0.0.0:0"):
    return making.a_config(address="127.0.0.1", zookeeper=hosts, more="\n".join([f"monitor-server {at}", *keys]))


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    file.chmod(0o600)
    return file


def test_a_monitor_that_other_machines_reach_is_refused_before_anything_is_open(tree, hosts, certificates):
    with pytest.raises(BadInput, match=r"monitor-server: .* answers everybody") as refused:
        Server(guarded(hosts))
    assert "monitor-token-file" in refused.value.hint
    with pytest.raises(BadInput, match="answers everybody"):  # TLS alone tells nobody who asks
        Server(
            guarded(hosts, f"monitor-certificate {certificates}/server.crt", f"monitor-key {certificates}/server.key")
        )
    assert making.addresses(tree) == []


def test_a_monitor_that_other_machines_reach_has_a_token(tree, hosts, token_file):
    with Server(guarded(hosts, f"monitor-token-file {token_file}", "advertise 127.0.0.1")):
        address = said(tree)["monitor"]
        assert address.startswith("127.0.0.1:")
        assert ask(address, "token s3cret", "health") == "OK\n"
        assert "no such token" in ask(address, "health")


def test_a_monitor_that_other_machines_reach_asks_for_certificates(tree, hosts, certificates, trusting):
    keys = [f"monitor-certificate {certificates}/server.crt", f"monitor-key {certificates}/server.key"]
    with Server(guarded(hosts, *keys, f"monitor-authorities {certificates}/client.crt", "advertise 127.0.0.1")):
        address = said(tree)["monitor"]
        assert ask(address, "health", tls=trusting(certificates, name="client")) == "OK\n"
        assert heard(address, "health", tls=trusting(certificates)) == ""


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        (None, 0o600, "no token can be read"),
        ("", 0o600, "there is no token in it"),
        ("two words", 0o600, "a token is one word"),
        ("s3cret", 0o640, "others than its owner may use it"),
        ("s3cret", 0o604, "others than its owner may use it"),
    ],
)
def test_a_token_that_is_none_or_no_secret_is_refused(hosts, token_file, text, mode, message):
    token_file.unlink()
    if text is not None:
        token_file.write_text(text)
        token_file.chmod(mode)
    with pytest.raises(BadInput, match=message):
        Server(guarded(hosts, f"monitor-token-file {token_file}", at="127.0.0.1:0"))


def test_a_token_is_read_from_a_file_and_nothing_that_could_be_waited_for(hosts, tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(BadInput, match="it is no file with a token in it"):
        Server(guarded(hosts, f"monitor-token-file {tmp_path}/pipe", at="127.0.0.1:0"))


def test_clients_of_a_monitor_change_something_only_if_the_configuration_says_so(tree, hosts):
    with Server(guarded(hosts, at="127.0.0.1:0")):
        assert "kick" in ask(said(tree)["monitor"], "kick 99")
        assert "actions" in ask(said(tree)["monitor"], "kick 99")
    with Server(guarded(hosts, "monitor-actions on", at="127.0.0.1:0")):
        assert "there is no client 99" in ask(said(tree)["monitor"], "kick 99")


def test_certificates_of_a_monitor_that_cannot_be_had_are_refused(hosts, tmp_path):
    with pytest.raises(BadInput, match="no TLS with"):
        Server(guarded(hosts, f"monitor-certificate {tmp_path}/none", at="127.0.0.1:0"))


def test_a_server_whose_monitors_port_is_taken_serves_without(tree, hosts, caplog):
    with monitor.start(0) as other:
        with Server(making.a_config(address="127.0.0.1", zookeeper=hosts, more=f"monitor-server {other.address}")):
            assert "monitor" not in said(tree)
        assert "monitor_not_started" in caplog.text


HOLDER = """
import sys, time
from ZODB.FileStorage import FileStorage
storage = FileStorage(sys.argv[1])
print("open", flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_standby_says_who_has_the_file_and_answers_nobody(tree, hosts, tmp_path, caplog):
    """It is stopped, as a primary may be: its session is over, and the file is still its own."""
    command = [sys.executable, "-c", HOLDER, tmp_path / "Data.fs"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "open\n"
            holder.send_signal(signal.SIGSTOP)
            wait_for(lambda: state_of(str(holder.pid)) == "stopped")
            config = making.a_config(
                zookeeper=hosts, more="standby on", storage=making.a_filestorage(tmp_path / "Data.fs")
            )
            with Server(config) as server:
                wait_for(lambda: f"by_pid={holder.pid} state=stopped" in caplog.text)
                assert not server.is_serving
                holder.kill()
                wait_for(lambda: server.is_serving)
        finally:
            holder.kill()


def test_a_process_that_is_not_here_is_called_so():
    assert state_of(str(2**22 + 1)) == "not on this machine"
    assert state_of("unknown") == "unknown"
    assert state_of(str(os.getpid())) == "runs"
