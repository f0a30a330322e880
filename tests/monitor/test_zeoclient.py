import json

import pytest
from ZODB.DB import DB
from ZODB.utils import z64

from tests.conftest import wait_for
from tests.monitor.conftest import ask
from tests.zeo.conftest import fleet, zeo  # noqa: F401  fixtures
from zkfleet import monitor
from zkfleet.monitor.zeoclient import zeoclient
from zkfleet.zeo import client


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
            server.kill()
            wait_for(lambda: not told()["connected"])
            lost = told()
            assert (lost["outages"], lost["since"]) == (1, None)
            fleet.register("/db", zeo(port=0).address)
            back = wait_for(lambda: (said := told())["connected"] and said)
            assert back["outage"] > 0
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
