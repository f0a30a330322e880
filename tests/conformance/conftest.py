"""A dev server and a real one, both fresh, for tests that compare them."""

import pytest

from zkfleet.devserver import DevServer
from zkfleet.registry.session import server_version
from zkfleet.testing import ZooKeeperServer
from zkfleet.testing.zookeeper import four_letters

# Whose answers the dev server gives, faults and all; later ones answer some odd requests otherwise.
COMPARED = (3, 8)
# Nothing may happen by itself: no session ends, no container goes.  Nor may the
# machine's locale matter, as it does to how Java 17 reads passwords.
REAL_OPTIONS = (
    "-Dzookeeper.extendedTypesEnabled=true",
    "-Dznode.container.checkIntervalMs=100000000",
    "-Dfile.encoding=UTF-8",
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two fresh servers, the dev server's clock standing still.

    Skips what compares them if the real one is of another version, as `ZOOKEEPER_HOME` may name one.
    """
    real = ZooKeeperServer(tmp_path_factory.mktemp("real"), tick=60_000, java_options=REAL_OPTIONS)
    with DevServer(tick=60.0, clock=lambda: 1000.0) as dev, real:
        version = server_version(four_letters(real.port, "srvr")) or ()
        if version[:2] != COMPARED:
            alike, found = (".".join(map(str, numbers)) for numbers in (COMPARED, version))
            pytest.skip(f"the dev server answers as ZooKeeper {alike} does, and the real one here is {found}")
        yield dev, real
