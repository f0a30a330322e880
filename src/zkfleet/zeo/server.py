"""How does one run a ZEO server that its clients find?

The object for those who embed one; `runner` makes a process of it.  It brings
together what serves, what announces it and, among standbys, what says when.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from zc.lockfile import LockError

from zkfleet.endpoints import Endpoint, addresses_to_advertise, parse_endpoint
from zkfleet.errors import BadInput, Closed, Unavailable, WaitTimedOut, ZkfleetError
from zkfleet.registry import Registry
from zkfleet.registry.announcer import RETRY_AFTER, Announcer, Concern
from zkfleet.registry.connecting import client_options
from zkfleet.spelling import get_logger
from zkfleet.zeo.announcing import announcer
from zkfleet.zeo.connections import FENCE
from zkfleet.zeo.duty import State, Stop
from zkfleet.zeo.insides import require
from zkfleet.zeo.monitored import published, starter
from zkfleet.zeo.service import Service
from zkfleet.zeo.serving import LAST_WORDS, always
from zkfleet.zeo.settings import Settings, ZooKeeper, read_settings
from zkfleet.zeo.standby import Standby, locked_by
from zkfleet.zeo.storage_server import REQUIRED

if TYPE_CHECKING:
    from zkfleet.monitor import Monitor

logger = get_logger(__name__)


class Server:
    """A ZEO server, registered in ZooKeeper.

    Args:
        config: the path of a configuration file, or a configuration's text.
        registry: to register with, in place of what `<zookeeper>` says of the
            ensemble; it is not closed.
        may_commit: asked before every commit, on the server's thread; it must be quick.

    Raises:
        BadInput: the configuration is wrong; the message says where.
        MissingDependency: this ZEO lacks what a server, or one that may not always commit, stands on.
    """

    def __init__(
        self,
        config: Path | str | Settings,
        *,
        registry: Registry | None = None,
        may_commit: Callable[[], bool] = always,
    ) -> None:
        for needed in REQUIRED if may_commit is always else (*REQUIRED, FENCE):
            require(needed)
        self._settings = config if isinstance(config, Settings) else read_settings(config)
        self._allows = may_commit
        self._lock = threading.Lock()
        self._closed = False
        monitored = self._settings.zookeeper.monitor if self._settings.zookeeper else None
        self._start_monitor = starter(monitored) if monitored else None
        self._announcer = self._make_announcer(registry)
        self._service = Service(self._settings, self._announcer, self._may_commit)
        self._standby: Standby | None = None
        self._monitor: Monitor | None = None

    def _make_announcer(self, registry: Registry | None) -> Announcer | None:
        zookeeper, address = self._settings.zookeeper, self._settings.address
        if zookeeper is None:
            if registry is not None:
                raise BadInput("the configuration has no <zookeeper> section: at which path is it to be registered?")
            return None
        if zookeeper.standby:
            _check_standby(zookeeper, address)
        if isinstance(address, str):
            logger.warning("not_registered address=%s: a Unix-domain socket is of no use to other machines", address)
            return None
        # What cannot be reached or published is refused before anything is opened.
        if registry is None:
            client_options(zookeeper.connection)
        host, port = address
        addresses_to_advertise(parse_endpoint((host, port or 1)), advertise=zookeeper.advertise)
        return announcer(zookeeper, registry)

    def _may_commit(self) -> bool:
        return self._allows() and (self._standby is None or self._standby.may_commit())

    @property
    def address(self) -> Endpoint | str:
        """Where it listens: an endpoint, whose host is "" for all of the machine's, or a Unix path.

        Raises:
            Closed: it has not been started.
        """
        serving = self._service.serving
        if serving is None:
            raise Closed("this server does not serve yet", hint="call start(); a standby serves when it is its turn")
        return serving.address

    @property
    def is_serving(self) -> bool:
        """Whether clients are served now."""
        serving = self._service.serving
        return serving is not None and serving.is_alive

    @property
    def has_ended(self) -> bool:
        """Whether it was started and has ended, by itself perhaps; a standby that waits has not."""
        if self._standby is not None:
            return self._standby.state is State.STOPPED
        return self._service.serving is not None and not self.is_serving

    @property
    def problem(self) -> Exception | None:
        """Why a server among standbys ended by itself, or None."""
        return None if self._standby is None else self._standby.problem

    def start(self) -> Self:
        """Open the storages and serve, or begin to wait for the turn among standbys.  Twice is fine.

        With a port that the system picks, and among standbys, it waits for
        ZooKeeper first, for ever if need be; `close` ends that.  With a fixed
        port it serves at once.

        Raises:
            Closed: it was closed, or could not be started before: make another.
            Unavailable: another process has a storage's file open, or it cannot be opened now.
        BadInput: a storage's file is none that it can use.
            OSError: it is not possible to listen at the address.
        """
        with self._lock:
            if self._closed:
                raise Closed("this server was closed", hint="make another")
            if self._service.serving is None and self._standby is None:
                self._begin()
        return self

    def _begin(self) -> None:
        zookeeper, announcer = self._settings.zookeeper, self._announcer
        waits = self._settings.port_is_dynamic or (zookeeper is not None and zookeeper.standby)
        if announcer is not None:
            announcer.start()
            if waits and not announcer.wait_until_connected():
                raise Closed("this server was closed before ZooKeeper answered")
        try:
            self._open_monitor()
            if zookeeper is not None and announcer is not None and zookeeper.standby:
                self._standby = self._take_part(zookeeper.path, announcer)
            else:
                self._service.open()
        except BaseException as exc:
            self._closed = True
            self._close_monitor()
            if announcer is not None:
                announcer.close()
            if isinstance(exc, LockError):
                raise Unavailable(
                    f"another process has a storage open (pid {locked_by(exc)}): {exc}", hint="is a server running?"
                ) from exc
            raise

    def _open_monitor(self) -> None:
        """Start the monitor, if one is wished, and have its address registered."""
        zookeeper = self._settings.zookeeper
        if self._start_monitor is None or zookeeper is None or zookeeper.monitor is None:
            return
        started = self._start_monitor()
        if started:
            self._monitor = started
            self._service.monitor = published(started, zookeeper.advertise)

    def _close_monitor(self) -> None:
        if self._monitor is not None:
            self._monitor.close()

    def _take_part(self, path: str, announcer: Announcer) -> Standby:
        """Begin to wait for the turn, as soon as ZooKeeper and the path let us."""
        concern = Concern(path)
        while (registry := announcer.registry) is not None:
            try:
                standby = Standby(registry, path, self._service).start()
            except ZkfleetError as exc:
                concern.is_now(str(exc))
                announcer.rest(RETRY_AFTER)
            else:
                concern.is_now("")
                return standby
        raise Closed("this server was closed before it could wait for its turn")

    def close(self) -> None:
        """Deregister, then end: commits under way have `drain-timeout` seconds.  Twice is fine.

        Raises:
            WaitTimedOut: a storage is not closed in time.  Nobody finds this server any more, but
                among standbys it keeps the lock while the storage is open; call it again.
        """
        self._closed = True
        self._end_turns(Stop.DRAIN)
        if self._announcer is not None:
            self._announcer.close()
        with self._lock:
            self._end_turns(Stop.DRAIN)  # it may have begun meanwhile
            self._service.drain()
            self._close_monitor()

    def abort(self) -> None:
        """End now, even in the middle of `close`: break all connections, and close the storages; raises as `close`."""
        self._closed = True
        self._end_turns(Stop.NOW)
        self._service.abort()
        if self._announcer is not None:
            self._announcer.close()
        with self._lock:
            self._end_turns(Stop.NOW)  # it may have begun meanwhile
            self._service.abort()
            self._close_monitor()

    def _end_turns(self, how: Stop) -> None:
        if self._standby is None:
            return
        self._standby.stop(how)
        try:
            self._standby.wait_until_stopped(self._settings.drain_timeout + LAST_WORDS)
        except WaitTimedOut:
            # The session is not ended: with it another server would get the lock.
            if self._announcer is not None:
                self._announcer.withdraw()
            raise

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _check_standby(zookeeper: ZooKeeper, address: object) -> None:
    require(FENCE)
    if zookeeper.storage_paths or not zookeeper.path:
        raise BadInput("standby: there is one lock, for one path", hint="leave storage-paths out")
    if isinstance(address, str):
        raise BadInput(f"standby: {address} is of this machine alone", hint="give <zeo> a port, or no address")
