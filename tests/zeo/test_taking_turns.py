"""Servers of ours, one of which serves, and clients that follow them."""

import dataclasses
import signal
import time
from contextlib import ExitStack, closing, suppress

import pytest

import zkfleet.zeo
from tests.conftest import wait_for
from tests.zeo import making
from tests.zeo.test_client import Background, count
from zkfleet.errors import Closed, WaitTimedOut, WrongDatabase
from zkfleet.zeo import Server
from zkfleet.zeo.settings import read_settings

pytestmark = [pytest.mark.slow, pytest.mark.faults]
SESSION = 2.0


def a_standby(registry, folder, *, file="Data.fs", more=""):
    storage = making.a_filestorage(folder / file)
    more = f"standby on\nsession-timeout {SESSION * 1000:.0f}\n{more}"
    return making.a_config(
        address="127.0.0.1", zookeeper=registry.session.hosts, path="/db", storage=storage, more=more
    )


@pytest.fixture
def start(fleet, tmp_path):
    """Starts `zkfleet zeo serve` with standby; returns its process."""
    started = ExitStack()

    def start_one(name):
        return started.enter_context(making.ServerProcess(tmp_path / name, a_standby(fleet, tmp_path)))

    with started:
        yield start_one


def count_until_done(found):
    """Count, again and again while there is an outage."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return count(found)
        except Exception:
            if time.monotonic() > deadline:
                raise


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_when_the_server_ends_another_takes_over_and_clients_go_on(fleet, start, number):
    first = start("first")
    first.says("standby_serving")
    second = start("second")
    second.says("standby_waiting")
    with closing(zkfleet.zeo.DB(fleet, "/db", wait_timeout=20)) as found:
        assert count(found) == 1
        first.signal(number)
        first.ends()
        assert Background(lambda: count_until_done(found)).result(40) == 2
        second.says("standby_serving")
        assert count(found) == 3


def test_the_turn_goes_to_and_fro(fleet, tmp_path):
    with closing(Server(a_standby(fleet, tmp_path))) as one, closing(Server(a_standby(fleet, tmp_path))) as other:
        one.start()
        wait_for(lambda: one.is_serving)
        other.start()
        with closing(zkfleet.zeo.DB(fleet, "/db", wait_timeout=20)) as found:
            assert count(found) == 1
            with pytest.raises(Closed):
                assert other.address
            assert [other.is_serving, other.has_ended, one.has_ended] == [False] * 3
            one.close()
            assert one.has_ended
            # The new server may have stored the root once more, with the database's identity.
            assert count_until_done(found) == 2
            assert other.is_serving
            [place] = making.addresses(fleet, "/db")
            assert place == ("127.0.0.1", other.address.port)


def test_a_standby_whose_path_is_missing_waits_for_it(fleet, tmp_path):
    config = a_standby(fleet, tmp_path).replace("path /db", "path /later")
    with closing(Server(config)) as server:
        starting = Background(server.start)
        assert not starting.done.wait(0.3)
        fleet.import_tree("/later\n", trim=False)
        starting.result()
        wait_for(lambda: server.is_serving)
    with closing(Server(config.replace("path /later", "path /never"))) as server:
        starting = Background(server.start)
        assert not starting.done.wait(0.3)
        server.close()
        with pytest.raises(Closed):
            starting.result()


@pytest.mark.parametrize("end", [Server.close, Server.abort])
def test_ending_while_it_starts_leaves_nobody_waiting_for_the_turn(fleet, tmp_path, end):
    for _ in range(5):
        server = Server(a_standby(fleet, tmp_path), registry=fleet)
        starting = Background(server.start)
        end(server)
        with suppress(Closed):
            starting.result()
        assert server._standby is None or server.has_ended
        assert not server.is_serving


def test_a_storage_that_does_not_close_keeps_the_lock_and_not_the_address(fleet, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(zkfleet.zeo.server, "LAST_WORDS", 0.2)
    monkeypatch.setattr(zkfleet.zeo.serving, "LAST_WORDS", 0.1)
    storage = making.Stubborn()
    settings = read_settings(a_standby(fleet, tmp_path, more="drain-timeout 0"))
    server = Server(dataclasses.replace(settings, storages={"1": lambda: storage})).start()
    wait_for(lambda: making.addresses(fleet, "/db"))
    for end in (server.close, server.abort):
        with pytest.raises(WaitTimedOut):
            end()
        assert making.addresses(fleet, "/db") == []
        wait_for(lambda: caplog.text.count("standby_does_not_end") > 1)
        assert "primary" in fleet.children("/db.standby")
        caplog.clear()
    storage.may_close.set()
    server.close()
    wait_for(lambda: "primary" not in fleet.children("/db.standby"))


def test_a_client_refuses_another_database_under_its_path(fleet, tmp_path):
    def config(file):
        return a_standby(fleet, tmp_path, file=file).replace("standby on", "standby off")

    cache = tmp_path / "cache.zec"
    with Server(config("one.fs")), closing(zkfleet.zeo.DB(fleet, "/db", wait_timeout=20, cache=str(cache))) as found:
        assert count(found) == 1
        first = found.storage.database
        assert first
    with Server(config("other.fs")):
        with closing(zkfleet.zeo.client(fleet, "/db", wait_timeout=20)) as other:
            second = other.database
        for ours in ({"cache": str(cache)}, {"database": first}):
            with pytest.raises(WrongDatabase, match=f"{second}.*{first}"):
                zkfleet.zeo.client(fleet, "/db", wait_timeout=60, **ours)


def test_a_cache_of_another_database_is_refused(fleet, tmp_path):
    cache = tmp_path / "cache.zec"
    options = {"wait_timeout": 20, "cache": str(cache)}
    with Server(a_standby(fleet, tmp_path).replace("standby on", "standby off")):
        with closing(zkfleet.zeo.client(fleet, "/db", **options)) as found:
            database = found.database
        with pytest.raises(WrongDatabase, match=str(cache)):
            zkfleet.zeo.client(fleet, "/db", database="0" * 32, **options)
        beside = tmp_path / "cache.zec.database"
        assert beside.read_text().strip() == database
        beside.unlink()
        beside.mkdir()  # what cannot be written keeps nobody from the server
        with closing(zkfleet.zeo.client(fleet, "/db", **options)) as found:
            assert found.is_connected()


def test_a_client_that_has_seen_one_database_waits_for_it_though_another_is_there(fleet, tmp_path):
    def config(file):
        return a_standby(fleet, tmp_path, file=file).replace("standby on", "standby off")

    with closing(Server(config("one.fs"))) as server:
        server.start()
        with closing(zkfleet.zeo.DB(fleet, "/db", wait_timeout=20)) as found:
            assert count(found) == 1
            server.close()
            with Server(config("other.fs")):
                with pytest.raises(WrongDatabase):
                    Background(lambda: count(found)).result(30)
                with Server(config("one.fs")):
                    assert Background(lambda: count_until_done(found)).result(40) == 2
