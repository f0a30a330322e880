"""What do tests of services that use zkfleet need?

Real parts that can be broken on purpose: `ZooKeeperServer` and `Ensemble` run
Apache ZooKeeper on loopback and can be killed, paused and wiped; `Proxy` cuts
links; `expire_session` ends a session as the ensemble would.
"""

from zkfleet.testing.proxy import Proxy
from zkfleet.testing.zookeeper import Ensemble, ZooKeeperServer, expire_session

__all__ = ["Ensemble", "Proxy", "ZooKeeperServer", "expire_session"]
