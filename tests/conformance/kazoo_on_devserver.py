"""A pytest plugin that runs kazoo's own tests, from its installed package, on a dev server.

kazoo's harness keeps its servers in a global, and makes new ones when the
environment no longer says what it said; here it finds one server that is ours.
`ZKFLEET_KAZOO_ON=real` puts a real one in its place, to see whose fault it is.
"""

import os
import sys
import types

# kazoo's harness makes certificates with these, for tests that are not run here;
# one of them needs a compiler to be installed.
for name in ("OpenSSL", "jks"):
    sys.modules.setdefault(name, types.ModuleType(name))

from kazoo.testing import harness  # noqa: E402

from zkfleet.devserver import DevServer  # noqa: E402
from zkfleet.testing import ZooKeeperServer  # noqa: E402

SETTINGS = (
    *harness.CLUSTER_DEFAULTS,
    "ZOOKEEPER_PATH",
    "ZOOKEEPER_CLASSPATH",
    "ZOOKEEPER_VERSION",
    "ZOOKEEPER_JAAS_AUTH",
)


class Server:
    """One server with the verbs that kazoo's tests use on theirs."""

    def __init__(self):
        on_real = os.environ.get("ZKFLEET_KAZOO_ON") == "real"
        self.server = ZooKeeperServer(tick=2000) if on_real else DevServer(tick=2.0)
        self.running = False

    @property
    def address(self):
        return self.server.hosts

    @property
    def client_port(self):
        return self.server.port

    def run(self):
        if not self.running:
            self.server.start()
        self.running = True

    def stop(self):
        self.server.kill()
        self.running = False

    destroy = stop


class Cluster(list):
    """An ensemble of one."""

    def start(self):
        for server in self:
            server.run()

    def stop(self):
        for server in self:
            server.stop()

    terminate = reset = stop


os.environ.update(ZOOKEEPER_VERSION="3.8.0", ZOOKEEPER_PATH="not needed")
harness.CLUSTER = Cluster([Server()])
harness.CLUSTER_CONF = {name: os.environ.get(name, harness.CLUSTER_DEFAULTS.get(name)) for name in SETTINGS}
