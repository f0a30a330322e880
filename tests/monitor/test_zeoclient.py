import json

import pytest
from ZODB.DB import DB

from tests.conftest import wait_for
from tests.monitor.conftest import ask
from tests.zeo.conftest import fleet, zeo  # noqa: F401  fixtures
from zkfleet import monitor
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
