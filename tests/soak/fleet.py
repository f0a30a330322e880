"""What is broken in the soak: three servers of one storage, eight writers, and ZooKeeper behind a relay."""

import contextlib
import itertools
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

from ZODB.FileStorage import FileStorage

import zkfleet
from tests.soak.writer import STOP
from tests.zeo import making
from zkfleet import zeo
from zkfleet.devserver import DevServer
from zkfleet.testing import Proxy, ZooKeeperServer

PATH = "/databases/main"
SERVERS, WRITERS = 3, 8
SESSION = 2.0


class Fleet:
    """All processes of a soak; faults are its methods, and each ends what it began.

    Attributes:
        random: what the fault that is under way throws its dice with.
    """

    def __init__(self, folder, *, kind):
        self.folder, self.random = folder, random.Random()
        self._all = ExitStack()
        self.zookeeper = DevServer(tick=0.2) if kind == "dev" else ZooKeeperServer(folder / "zookeeper")
        self._all.enter_context(self.zookeeper)
        self.proxy = self._all.enter_context(Proxy(self.zookeeper.port))
        self.registry = self._all.enter_context(zkfleet.connect(self.zookeeper.hosts, timeout=60))
        self.registry.import_tree("/databases\n  /main\n")
        self.servers = [self._serve(number) for number in range(SERVERS)]
        self.writers = {f"writer{number}": self._write(f"writer{number}") for number in range(WRITERS)}

    def _serve(self, number):
        config = making.a_config(
            address="127.0.0.1",
            zookeeper=self.proxy.hosts,
            path=PATH,
            storage=making.a_filestorage(self.folder / "Data.fs"),
            more=f"standby on\nsession-timeout {SESSION * 1000:.0f}",
        )
        return making.ServerProcess(self.folder / f"server{number}", config)

    def _write(self, name):
        command = [sys.executable, "-m", "tests.soak.writer", self.proxy.hosts, PATH, name, self.folder]
        with (self.folder / f"{name}.err").open("w") as err:
            return subprocess.Popen(command, stderr=err, stdout=err)

    # -- faults

    def serving(self):
        """The number of the server that serves, or None."""
        with contextlib.closing(self.registry.providers(PATH)) as view:
            pids = {said.get("pid") for said in view.values() if isinstance(said, dict)}
        return next((number for number, one in enumerate(self.servers) if one.pid in pids), None)

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

    def kill_a_standby(self):
        waiting = [number for number in range(SERVERS) if number != self.serving()]
        # One throw, however many there are: what comes after it stays the same.
        self._end(waiting[int(self.random.random() * len(waiting))], signal.SIGKILL)

    def freeze_the_server(self):
        number = self.serving()
        if number is not None:
            self.servers[number].signal(signal.SIGSTOP)
            self.rest(0.5, 2 * SESSION)
            self.servers[number].signal(signal.SIGCONT)

    def hide_zookeeper(self):
        self.proxy.black_hole()
        self.rest(0.5, 2 * SESSION)
        self.proxy.heal()

    def cut_all_links_to_zookeeper(self):
        self.proxy.cut()

    def restart_zookeeper(self):
        self.zookeeper.restart()

    def rest(self, least, most):
        time.sleep(self.random.uniform(least, most))

    # -- the end

    def crashed(self):
        """Yield a sentence for each writer that has ended by itself."""
        for name, one in self.writers.items():
            if one.poll() is not None:
                said = (self.folder / f"{name}.err").read_text().splitlines() or ["nothing"]
                yield f"{name} has ended by itself, and said last: {said[-1]}"

    def stop_writers(self, timeout):
        """Tell all writers to end; those that do not are killed, and have logged no end."""
        (self.folder / STOP).touch()
        deadline = time.monotonic() + timeout
        for one in self.writers.values():
            try:
                one.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()

    def kill_all(self):
        for one in self.writers.values():
            one.kill()
            one.wait()
        for one in self.servers:
            one.__exit__()

    def close(self):
        self.kill_all()
        self._all.close()

    def read(self):
        """What a client that begins with nothing reads, from a server that is started for it."""
        config = making.a_config(
            address="127.0.0.1",
            zookeeper=self.zookeeper.hosts,
            path=PATH,
            storage=making.a_filestorage(self.folder / "Data.fs"),
        )
        with (
            making.ServerProcess(self.folder / "last", config),
            contextlib.closing(zeo.DB(self.zookeeper.hosts, PATH, wait_timeout=60)) as db,
            db.transaction() as connection,
        ):
            root = connection.root()
            return {f"{name}:{number}" for name in self.writers for number in root.get(name, ())}

    def stored(self):
        """The descriptions of all transactions in the storage, which nobody serves any more."""
        with contextlib.closing(FileStorage(str(self.folder / "Data.fs"), read_only=True)) as storage:
            return [record.description.decode() for record in storage.iterator()]


FAULTS = {
    Fleet.kill_the_server: 4,
    Fleet.tell_the_server_to_end: 3,
    Fleet.kill_a_standby: 1,
    Fleet.freeze_the_server: 3,
    Fleet.hide_zookeeper: 2,
    Fleet.cut_all_links_to_zookeeper: 1,
    Fleet.restart_zookeeper: 1,
}


def plan(seed):
    """Faults without end, the same for the same seed: for each a rest before it, itself, and its dice.

    How often dice are thrown is up to how things stand, so each fault has its own.
    """
    for number in itertools.count():
        dice = random.Random(f"{seed} {number}")
        [fault] = dice.choices(list(FAULTS), list(FAULTS.values()))
        yield dice.uniform(1, 6), fault, dice
