import json
import re
import secrets

import pytest
from ZEO.ClientStorage import ClientStorage
from ZODB.DB import DB
from ZODB.utils import z64

from tests.conftest import wait_for
from tests.monitor.conftest import ask
from tests.zeo.conftest import fleet, zeo  # noqa: F401  fixtures
from tests.zeo.making import Attempt
from zkfleet import monitor
from zkfleet.monitor.zeoclient import zeoclient
from zkfleet.zeo import ClientDisconnected, client


@pytest.mark.slow
def test_a_following_client_remembers_its_outages(fleet, zeo, tmp_path):  # noqa: F811
    server = zeo()
    fleet.register("/db", server.address)
    database = DB(client(fleet, "/db"))
    monitor.databases["followed"] = database
    try:
        with monitor.start(str(tmp_path / "m.sock")) as started:

            def told():
                return json.loads(ask(started.address, "json zeoclient followed"))["answer"][0]

            first = told()
            assert (first["connected"], first["outages"], first["outage"]) == (True, 0, 0.0)
            assert first["since"] > 0
            assert first["server"] == server.address
            server.kill()
            wait_for(lambda: not told()["connected"])
            lost = told()
            assert (lost["outages"], lost["since"]) == (1, None)
            fleet.register("/db", zeo(port=0).address)
            back = wait_for(lambda: (said := told())["connected"] and said)
            assert back["outage"] > 0
            assert (first["reconnects"], lost["reconnects"], back["reconnects"]) == (0, 0, 1)
            assert back["server"] != first["server"]
    finally:
        monitor.databases.clear()
        database.close()


@pytest.mark.slow
def test_loads_are_counted_as_hits_or_misses(fleet, zeo):  # noqa: F811
    fleet.register("/db", zeo().address)
    database = DB(client(fleet, "/db"))
    monitor.databases["followed"] = database
    try:

        def growth(act):
            before = zeoclient("followed").value()[0]
            act()
            after = zeoclient("followed").value()[0]
            return after["hits"] - before["hits"], after["misses"] - before["misses"]

        def load():
            database.storage.load(z64)

        assert growth(load) == (1, 0)
        database.storage._cache.clear()
        assert growth(load) == (0, 1)
        assert growth(load) == (1, 0)
    finally:
        monitor.databases.clear()
        database.close()


# -- of either kind: ZEO's own client, and ours


@pytest.fixture(params=["plain", "following"])
def database(request, fleet, zeo):  # noqa: F811
    """A database with its server, and how to have the server killed and another one in its place."""
    server = zeo()
    fleet.register("/db", server.address)
    options = {"wait_timeout": 10, "cache_size": 2 << 20}
    if request.param == "plain":
        storage = ClientStorage((server.host, server.port), **options)
    else:
        storage = client(fleet, "/db", ping_interval=None, **options)
    database = monitor.databases["it"] = DB(storage)
    database.server = server
    yield database
    server.thaw()
    monitor.databases.clear()
    database.close()


def write(database, size):
    with database.transaction() as connection:
        connection.root()["some"] = secrets.token_hex(size // 2)


def told():
    return zeoclient("it").value()[0]


@pytest.mark.slow
def test_requests_are_in_flight_until_they_are_answered(database):
    assert told()["in_flight"] == 0
    database.server.freeze()
    database.storage._cache.clear()
    load = Attempt(database.storage.load, z64)
    wait_for(lambda: told()["in_flight"] == 1)
    ping = Attempt(database.storage.ping)
    wait_for(lambda: told()["in_flight"] == 2)
    database.server.thaw()
    assert load.outcome() is not None
    assert ping.outcome() is None
    wait_for(lambda: told()["in_flight"] == 0)


@pytest.mark.slow
def test_requests_that_nobody_will_answer_are_in_flight_no_longer(database):
    database.server.freeze()
    ping = Attempt(database.storage.ping)
    wait_for(lambda: told()["in_flight"] == 1)
    database.server.kill()
    assert isinstance(ping.outcome(), ClientDisconnected)
    wait_for(lambda: (told()["in_flight"], told()["connected"]) == (0, False))


@pytest.mark.slow
def test_a_client_counts_how_often_it_connected_again(database, zeo):  # noqa: F811
    assert told()["reconnects"] == 0
    for times in (1, 2):
        database.server.kill()
        wait_for(lambda: not told()["connected"])
        assert told()["reconnects"] == times - 1
        database.server = zeo(port=database.server.port)
        wait_for(lambda: told()["connected"], 20)
        assert told()["reconnects"] == times


def test_a_cache_that_fills_up_takes_what_it_may_and_no_more(database):
    limit = 2 << 20
    before = told()
    assert before["cache_limit"] == limit
    assert 0 < before["cache_used"] < limit / 10
    write(database, limit // 8)
    some = told()
    assert some["cache_objects"] > before["cache_objects"]
    assert limit / 8 <= some["cache_used"] < limit / 2
    for _ in range(20):
        write(database, limit // 8)
    full = told()
    assert full["evicted"] > 0
    assert limit * 0.8 < full["cache_used"] <= limit + 8192  # whole blocks of the disk
    database.storage._cache.clear()
    assert told()["cache_objects"] == 0
    assert told()["cache_used"] < limit / 10


# -- what changes something


@pytest.fixture
def say(database, tmp_path):
    """Asks a monitor that may change something."""
    with monitor.start(str(tmp_path / "m.sock"), actions=True) as started:
        yield lambda line: ask(started.address, line)


def test_a_pack_makes_the_servers_file_smaller_and_says_so(database, say):
    file = database.server.file
    for _ in range(10):
        write(database, 20_000)
    before = file.stat().st_size
    told_before, told_after = map(int, re.fullmatch(r"packed it: (\d+) bytes, now (\d+)\n", say("pack 0 it")).groups())
    assert file.stat().st_size < before / 5
    assert told_after == file.stat().st_size
    assert told_before > before / 2
    assert int(json.loads(say("json databases"))["answer"][0]["size"]) == told_after


def test_what_was_minimized_is_loaded_again(database, say):
    write(database, 20_000)
    with database.transaction() as connection:
        kept = connection.root()["some"]
    assert say("minimize it") == "minimized it: caches of 1 connections\n"
    assert json.loads(say("json dbinfo it"))["answer"]["loaded"] == 0
    with database.transaction() as connection:
        assert connection.root()["some"] == kept
