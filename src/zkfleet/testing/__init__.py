"""What do tests of services that use zkfleet need?

    plugin       pytest fixtures: a server for every test, the dev server or a real one
    clock        a clock that tests move
    zookeeper    Apache ZooKeeper on loopback, one or three, to be killed, paused, wiped
    proxy        links that are cut, refused or silent

`DevServer` is `zkfleet.devserver`'s: it starts in a millisecond and needs no Java.
"""

from zkfleet.devserver import DevServer
from zkfleet.testing.clock import Clock
from zkfleet.testing.proxy import Proxy
from zkfleet.testing.zookeeper import Ensemble, ZooKeeperServer, expire_session

__all__ = ["Clock", "DevServer", "Ensemble", "Proxy", "ZooKeeperServer", "expire_session"]
