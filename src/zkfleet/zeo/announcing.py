"""How is a ZEO server's configuration made an announcer?

What announces it is told in `zkfleet.registry.announcer`.
"""

from zkfleet.registry import Registry, connect
from zkfleet.registry.announcer import Announcer
from zkfleet.zeo.settings import ZooKeeper


def announcer(zookeeper: ZooKeeper, registry: Registry | None = None) -> Announcer:
    """Return what registers a server as its `<zookeeper>` section says; a given registry is used in place of that."""

    def connected_within(seconds: float) -> Registry:
        return connect(
            zookeeper.connection,
            session_timeout=zookeeper.session_timeout,
            timeout=seconds,
            jute_maxbuffer=zookeeper.jute_maxbuffer,
        )

    about = zookeeper.path or next(iter(zookeeper.storage_paths.values()))
    return Announcer(connected_within, about, advertise=zookeeper.advertise, registry=registry)
