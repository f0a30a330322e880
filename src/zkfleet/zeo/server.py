"""How does one run a ZEO server that its clients find?

The object for those who embed one; `runner` makes a process of it.  It brings
together what serves and what announces it, and nothing more: deregister first,
then drain.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from zc.lockfile import LockError

from zkfleet.endpoints import Endpoint, addresses_to_advertise, parse_endpoint
from zkfleet.errors import BadInput, Closed, Unavailable
from zkfleet.registry import Registry
from zkfleet.registry.connecting import client_options
from zkfleet.zeo.announcing import Announcer, Claim
from zkfleet.zeo.described import PRIMARY, Described
from zkfleet.zeo.serving import Serving, always
from zkfleet.zeo.settings import Settings, ZooKeeper, read_settings

logger = logging.getLogger(__name__)


class Server:
    """A ZEO server, registered in ZooKeeper.

    Args:
        config: the path of a configuration file, or a configuration's text.
        registry: to register with, in place of what `<zookeeper>` says of the
            ensemble; it is not closed.
        may_commit: asked before every commit, on the server's thread; it must be quick.

    Raises:
        BadInput: the configuration is wrong; the message says where.
    """

    def __init__(
        self,
        config: Path | str | Settings,
        *,
        registry: Registry | None = None,
        may_commit: Callable[[], bool] = always,
    ) -> None:
        self._settings = config if isinstance(config, Settings) else read_settings(config)
        self._may_commit = may_commit
        self._lock = threading.Lock()
        self._serving: Serving | None = None
        self._closed = False
        self._announcer = self._make_announcer(registry)

    def _make_announcer(self, registry: Registry | None) -> Announcer | None:
        zookeeper, address = self._settings.zookeeper, self._settings.address
        if zookeeper is None:
            if registry is not None:
                raise BadInput("the configuration has no <zookeeper> section: at which path is it to be registered?")
            return None
        if zookeeper.standby:
            raise BadInput("standby: this is not built yet", hint="leave it out, or write `standby off`")
        if zookeeper.monitor:
            logger.warning("monitor_not_built address=%s: nothing will listen there yet", zookeeper.monitor)
        if isinstance(address, str):
            logger.warning("not_registered address=%s: a Unix-domain socket is of no use to other machines", address)
            return None
        # What cannot be reached or published is refused before anything is opened.
        if registry is None:
            client_options(zookeeper.connection)
        host, port = address
        addresses_to_advertise(parse_endpoint((host, port or 1)), advertise=zookeeper.advertise)
        return Announcer(zookeeper, registry)

    @property
    def address(self) -> Endpoint | str:
        """Where it listens: an endpoint, whose host is "" for all of the machine's, or a Unix path.

        Raises:
            Closed: it has not been started.
        """
        if self._serving is None:
            raise Closed("this server has not been started", hint="call start()")
        return self._serving.address

    @property
    def is_serving(self) -> bool:
        """Whether it was started, and has not ended."""
        return self._serving is not None and self._serving.is_alive

    def start(self) -> Self:
        """Open the storages and serve.  Twice is fine.

        With a port that the system picks it waits for ZooKeeper first, for
        ever if need be; `close` ends that.  With a fixed one it serves at once.

        Raises:
            Closed: it was closed, or could not be started before: make another.
            Unavailable: another process has a storage's file open.
            OSError: it is not possible to listen at the address.
        """
        with self._lock:
            if self._closed:
                raise Closed("this server was closed", hint="make another")
            if self._serving is None:
                self._begin()
        return self

    def _begin(self) -> None:
        announcer = self._announcer
        if announcer is not None:
            announcer.start()
            if self._settings.port_is_dynamic and not announcer.wait_until_connected():
                raise Closed("this server was closed before ZooKeeper answered")
        try:
            self._serving = Serving(self._settings, may_commit=self._may_commit)
        except BaseException as exc:
            self._closed = True
            if announcer is not None:
                announcer.close()
            if isinstance(exc, LockError):
                raise Unavailable(f"another process has a storage open: {exc}", hint="is a server running?") from exc
            raise
        if announcer is not None and isinstance(self._serving.address, Endpoint):
            announcer.register(_claims(self._settings.zookeeper, self._serving, self._serving.address))

    def close(self) -> None:
        """Deregister, then end: commits under way have `drain-timeout` seconds.  Twice is fine."""
        self._closed = True
        if self._announcer is not None:
            self._announcer.close()
        with self._lock:
            if self._serving is not None:
                self._serving.drain(self._settings.drain_timeout)

    def abort(self) -> None:
        """End now, even in the middle of `close`: break all connections, and close the storages."""
        self._closed = True
        if self._serving is not None:
            self._serving.abort()
        if self._announcer is not None:
            self._announcer.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _claims(zookeeper: ZooKeeper | None, serving: Serving, address: Endpoint) -> list[Claim]:
    """Return what is registered: one claim for every path."""
    places = zookeeper.places(list(serving.tids)) if zookeeper else {}
    return [Claim(path, address, _described(serving, names).properties()) for path, names in places.items()]


def _described(serving: Serving, names: list[str]) -> Described:
    return Described(
        storages=tuple(names),
        read_only=serving.read_only.issuperset(names),
        role=PRIMARY,
        databases={name: serving.databases[name] for name in names if name in serving.databases},
        tids={name: serving.tids[name] for name in names},
    )
