"""What is broken in the soak: three servers of one storage, eight writers, and ZooKeeper behind a relay."""

import itertools
import random
import signal
import subprocess
import sys
import time

from tests.soak.servers import PATH, SESSION, Servers
from tests.soak.writer import STOP
from zkfleet.testing import Proxy

SERVERS, WRITERS = 3, 8


class Fleet(Servers):
    """All processes of a soak; faults are its methods, and each ends what it began."""

    def __init__(self, folder, *, kind):
        self.writers = {}
        super().__init__(folder, kind=kind, number=SERVERS)
        self.writers = {f"writer{number}": self._write(f"writer{number}") for number in range(WRITERS)}

    def begin(self):
        self.proxy = self._all.enter_context(Proxy(self.zookeeper.port))

    @property
    def hosts(self):
        return self.proxy.hosts

    def _write(self, name):
        command = [sys.executable, "-m", "tests.soak.writer", self.proxy.hosts, PATH, name, self.folder]
        with (self.folder / f"{name}.err").open("w") as err:
            return subprocess.Popen(command, stderr=err, stdout=err)

    # -- faults

    def kill_a_standby(self):
        waiting = [number for number in range(SERVERS) if number != self.serving()]
        # One throw, however many there are: what comes after it stays the same.
        self._end(waiting[int(self.random.random() * len(waiting))], signal.SIGKILL)

    def hide_zookeeper(self):
        self.proxy.black_hole()
        self.rest(0.5, 2 * SESSION)
        self.proxy.heal()

    def cut_all_links_to_zookeeper(self):
        self.proxy.cut()

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
        super().kill_all()

    def read(self):
        """What a client that begins with nothing reads."""
        with self.read_again() as root:
            return {f"{name}:{number}" for name in self.writers for number in root.get(name, ())}


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
