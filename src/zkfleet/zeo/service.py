"""What is opened when a ZEO server begins to serve, and what is closed when it ends?

Storages that are served, and their registration: in this order at the
beginning, the other way round at the end.  It may begin again after it has
ended, which is how a server among standbys serves when it is its turn; who says
when is `server`, or `standby`.
"""

from collections.abc import Callable

from zkfleet.endpoints import Endpoint
from zkfleet.registry.announcer import Announcement, Announcer
from zkfleet.zeo.described import PRIMARY, Described
from zkfleet.zeo.serving import Serving
from zkfleet.zeo.settings import Settings, ZooKeeper


class Service:
    """Storages that are served and registered, from `open` until `drain` or `abort`.

    Args:
        settings: what to serve, and where.
        announcer: what registers it, or None.
        may_commit: asked before every commit, on the server's thread; it must be quick.

    Attributes:
        serving: what is open, or was open last; None before.
        monitor: where this process can be asked, `host:port`, or ""; to be set before `open`.
    """

    def __init__(self, settings: Settings, announcer: Announcer | None, may_commit: Callable[[], bool]) -> None:
        self._settings, self._announcer, self._may_commit = settings, announcer, may_commit
        self.serving: Serving | None = None
        self.monitor = ""

    def open(self) -> None:
        """Open the storages, serve, and begin to register; raises as `Serving`."""
        self.serving = Serving(self._settings, may_commit=self._may_commit)
        if self._announcer is not None and isinstance(self.serving.address, Endpoint):
            try:
                self._announcer.register(
                    _announcements(self._settings.zookeeper, self.serving, self.serving.address, self.monitor)
                )
            except BaseException:
                self.serving.abort()
                raise

    def drain(self) -> None:
        """Deregister, let commits under way finish, and close the storages; returns when that is done."""
        if self._announcer is not None:
            self._announcer.withdraw()
        if self.serving is not None:
            self.serving.drain(self._settings.drain_timeout)

    def abort(self) -> None:
        """Break all connections and close the storages, and begin to deregister; a drain ends with it."""
        if self._announcer is not None:
            self._announcer.begin_to_withdraw()
        if self.serving is not None:
            self.serving.abort()


def _announcements(
    zookeeper: ZooKeeper | None, serving: Serving, address: Endpoint, monitor: str
) -> list[Announcement]:
    """Return what is registered: one announcement for every path."""
    places = zookeeper.places(list(serving.tids)) if zookeeper else {}
    return [
        Announcement(path, address, _described(serving, names, monitor).properties()) for path, names in places.items()
    ]


def _described(serving: Serving, names: list[str], monitor: str) -> Described:
    return Described(
        storages=tuple(names),
        read_only=serving.read_only.issuperset(names),
        role=PRIMARY,
        databases={name: serving.databases[name] for name in names if name in serving.databases},
        tids={name: serving.tids[name] for name in names},
        monitor=monitor,
        transient=serving.transient.issuperset(names),
    )
