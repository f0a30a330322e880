"""The servers of a soak: `zkfleet zeo serve` with standbys on one FileStorage, and ways to break them.

Who writes is not here: `fleet` adds writers, `zope.fleet` adds Zope instances.
A fault that ends a server starts another one in its place.
"""

import contextlib
import random
import signal
import time
from contextlib import ExitStack

from ZODB.FileStorage import FileStorage

import zkfleet
from tests.conftest import wait_for
from tests.zeo import making
from zkfleet import zeo
from zkfleet.devserver import DevServer
from zkfleet.testing import ZooKeeperServer

PATH = "/databases/main"
SESSION = 2.0


class Servers:
    """A ZooKeeper and some servers of one path; all end with `close`.

    Args:
        folder: for all files.
        kind: `dev` or `real`, the ZooKeeper.
        number: of servers.
        blobs: whether the storage has a folder for blobs.
        eventlog: a section for each server's configuration.

    Attributes:
        random: the random numbers of the fault that is under way.
    """

    def __init__(self, folder, *, kind, number, blobs=False, eventlog=""):
        self.folder, self.random = folder, random.Random()
        self._all, self._eventlog, self._has_blobs = ExitStack(), eventlog, blobs
        self._storage = making.a_filestorage(folder / "Data.fs", blobs=folder / "blobs" if blobs else None)
        self.servers = []
        self.zookeeper = DevServer(tick=0.2) if kind == "dev" else ZooKeeperServer(folder / "zookeeper")
        self._all.enter_context(self.zookeeper)
        self.registry = self._all.enter_context(zkfleet.connect(self.zookeeper.hosts, timeout=60))
        self.registry.import_tree("/databases\n  /main\n")
        self.begin()
        self.servers = [self._serve(number) for number in range(number)]

    def begin(self):
        """What a subclass starts before the servers."""

    @property
    def hosts(self):
        """Where servers find ZooKeeper."""
        return self.zookeeper.hosts

    def _serve(self, number):
        config = making.a_config(
            address="127.0.0.1",
            zookeeper=self.hosts,
            path=PATH,
            storage=self._storage,
            more=f"standby on\nsession-timeout {SESSION * 1000:.0f}",
            eventlog=self._eventlog,
        )
        return making.ServerProcess(self.folder / f"server{number}", config)

    # -- faults

    def serving(self):
        """The number of the server that serves, or None."""
        with contextlib.closing(self.registry.providers(PATH)) as view:
            pids = {said.get("pid") for said in view.values() if isinstance(said, dict)}
        return next((number for number, one in enumerate(self.servers) if one.pid in pids), None)

    def wait_until_one_serves(self, timeout=30):
        """The number of the server that serves, as soon as there is one."""
        return wait_for(lambda: [one for one in [self.serving()] if one is not None], timeout, "a server serves")[0]

    def _end(self, number, with_signal):
        if number is not None:
            self.servers[number].signal(with_signal)
            self.servers[number].ends(30)
            self.rest(0.2, 2)
            self.servers[number] = self._serve(number)

    def kill_the_server(self):
        self._end(self.serving(), signal.SIGKILL)

    def tell_the_server_to_end(self):
        self._end(self.serving(), signal.SIGTERM)

    def freeze_the_server(self):
        number = self.serving()
        if number is not None:
            self.servers[number].signal(signal.SIGSTOP)
            self.rest(0.5, 2 * SESSION)
            self.servers[number].signal(signal.SIGCONT)

    def restart_zookeeper(self):
        self.zookeeper.restart()

    def rest(self, least, most):
        time.sleep(self.random.uniform(least, most))

    # -- the end

    def kill_all(self):
        for one in self.servers:
            one.__exit__()

    def close(self):
        self.kill_all()
        self._all.close()

    @contextlib.contextmanager
    def read_again(self):
        """The root as a client that begins with nothing sees it, from a server that is started for it."""
        config = making.a_config(address="127.0.0.1", zookeeper=self.zookeeper.hosts, path=PATH, storage=self._storage)
        options = {"blob_dir": str(self.folder / "last" / "cache")} if self._has_blobs else {}
        with (
            making.ServerProcess(self.folder / "last", config),
            contextlib.closing(zeo.DB(self.zookeeper.hosts, PATH, wait_timeout=60, **options)) as db,
            db.transaction() as connection,
        ):
            yield connection.root()

    def stored(self):
        """The lines of the descriptions of all transactions in the storage, which nobody serves any more."""
        with contextlib.closing(FileStorage(str(self.folder / "Data.fs"), read_only=True)) as storage:
            return [line for record in storage.iterator() for line in record.description.decode().splitlines()]
