"""A dev server and a real one, both fresh, for tests that compare them."""

import pytest

from zkfleet.devserver import DevServer
from zkfleet.testing import ZooKeeperServer

# Nothing may happen by itself: no session ends, no container goes.  Nor may the
# machine's locale matter, as it does to how Java 17 reads passwords.
REAL_OPTIONS = (
    "-Dzookeeper.extendedTypesEnabled=true",
    "-Dznode.container.checkIntervalMs=100000000",
    "-Dfile.encoding=UTF-8",
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two fresh servers, the dev server's clock standing still."""
    real = ZooKeeperServer(tmp_path_factory.mktemp("real"), tick=60_000, java_options=REAL_OPTIONS)
    with DevServer(tick=60.0, clock=lambda: 1000.0) as dev, real:
        yield dev, real
