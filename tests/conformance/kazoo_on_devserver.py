"""A pytest plugin that runs kazoo's own tests, from its installed package, on a dev server.

kazoo's harness finds its servers in a global; here it finds one that is ours.
"""

import os

from kazoo.testing import harness

from zkfleet.devserver import DevServer

# What kazoo's harness sets for its own servers, too.
SUPER_USER = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="


class Server:
    """A dev server with the verbs that kazoo's tests use on theirs."""

    def __init__(self):
        self.server = DevServer(tick=2.0)
        self.running = False

    @property
    def address(self):
        return self.server.hosts

    client_port = property(lambda self: self.server.port)

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


os.environ.update(ZOOKEEPER_VERSION="3.8.0", ZOOKEEPER_PATH="the dev server")
harness.CLUSTER = Cluster([Server()])
harness.CLUSTER_CONF = {
    **{name: os.environ.get(name, default) for name, default in harness.CLUSTER_DEFAULTS.items()},
    **{name: os.environ.get(f"ZOOKEEPER_{name}") for name in ()},
    "ZOOKEEPER_PATH": os.environ["ZOOKEEPER_PATH"],
    "ZOOKEEPER_CLASSPATH": os.environ.get("ZOOKEEPER_CLASSPATH"),
    "ZOOKEEPER_VERSION": os.environ["ZOOKEEPER_VERSION"],
    "ZOOKEEPER_JAAS_AUTH": os.environ.get("ZOOKEEPER_JAAS_AUTH"),
}
