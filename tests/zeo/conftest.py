import pytest
from kazoo.client import KazooClient

import zkfleet
from tests.zeo.linked import link, linked, other, quiet, server  # noqa: F401
from tests.zeo.plain import Zeo
from zkfleet.devserver import DevServer


@pytest.fixture
def fleet():
    """A registry with an empty service `/db`, on a dev server of the test's own."""
    with DevServer(tick=0.2) as zookeeper, zkfleet.connect(zookeeper.hosts, session_timeout=2) as registry:
        registry.import_tree("/db\n")
        yield registry


@pytest.fixture
def zeo(tmp_path):
    """Starts ZEO's own servers; options as for `Zeo`."""
    started = []

    def start(name="Data.fs", **options):
        started.append(Zeo(tmp_path / name, **options))
        return started[-1]

    yield start
    for one in started:
        one.thaw()
        one.kill()


@pytest.fixture
def kazoo_at(fleet):
    """A bare client of the fleet's ZooKeeper."""
    client = KazooClient(fleet.session.hosts)
    client.start()
    yield client
    client.stop()
    client.close()


@pytest.fixture
def secret(fleet, zeo, certificates):
    options = f"""<ssl>
      certificate {certificates}/server.crt
      key {certificates}/server.key
      authenticate {certificates}/client.crt
    </ssl>"""
    one = zeo(options=options)
    fleet.register("/db", one.address)
    return one
