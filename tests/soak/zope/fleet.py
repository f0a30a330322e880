"""Two ZEO servers of which one serves, two Zope instances that follow it, and what makes the other one serve."""

import contextlib
import signal
import time

from tests.conftest import wait_for
from tests.soak.servers import PATH, SESSION, Servers
from tests.soak.zope import logs
from tests.soak.zope.instance import Instance
from tests.soak.zope.load import Client
from tests.soak.zope.published import is_whole, prepare
from zkfleet import zeo
from zkfleet.errors import NodeNotFound
from zkfleet.zeo.surveying import standing

SERVERS, INSTANCES, CLIENTS = 2, 2, 3


class ZopeFleet(Servers):
    """All processes, and the threads that ask; each fault ends with all servers started again."""

    def __init__(self, folder, *, kind):
        self.instances, self.clients = [], []
        eventlog = f"<eventlog>\n  <logfile>\n  path event.log\n  format {logs.FORMAT}\n  </logfile>\n</eventlog>"
        super().__init__(folder, kind=kind, number=SERVERS, blobs=True, eventlog=eventlog)
        try:
            self._start_instances()
        except BaseException:
            self.close()
            raise

    def _start_instances(self):
        self.wait_until_one_serves()
        with contextlib.closing(zeo.DB(self.hosts, PATH)) as db, db.transaction() as connection:
            prepare(connection.root())
        for number in range(INSTANCES):
            # One by one: the first one makes Zope's own objects.
            self.instances.append(Instance(self.folder / f"zope{number}", hosts=self.hosts, path=PATH))
            wait_for(self.instances[-1].answers, 120, "Zope listens")

    def start_clients(self):
        """Begin to ask."""
        for number, instance in enumerate(self.instances):
            self.clients += [Client(f"client{number}{letter}", instance.port) for letter in "abcdefgh"[:CLIENTS]]

    def wait_until_all_add(self, timeout=90):
        """Wait until each client has added an order that it began after now."""
        now = time.time()
        wait_for(lambda: all(one.acknowledged_since(now) for one in self.clients), timeout, "each client adds an order")

    def wait_until_one_stands_by(self, timeout=60):
        """Wait until a server serves and the others wait, and return the number of the one that serves."""

        def waiting():
            return [one for one in standing(self.registry, PATH) if one.state == "waiting"]

        wait_for(lambda: len(waiting()) == SERVERS - 1, timeout, "a server stands by")
        return self.wait_until_one_serves()

    # -- faults

    def freeze_the_server(self):
        """Stop its process for three sessions."""
        server = self.servers[self.wait_until_one_serves()]
        server.signal(signal.SIGSTOP)
        time.sleep(3 * SESSION)  # waits for nothing: this long it is frozen
        server.signal(signal.SIGCONT)

    def delist_the_server(self):
        """Delete its znodes, the lock and the registration, as a person could."""
        with contextlib.closing(self.registry.providers(PATH)) as view:
            [address] = view
        for node in (f"{PATH}/{address}", f"{PATH}.standby/primary"):
            with contextlib.suppress(NodeNotFound):  # a server that lost its lock has deleted its registration
                self.registry.delete_recursive(node, force=True)

    # -- the end

    def log_lines(self):
        """All lines of all processes' logs, and what they wrote elsewhere as lines at ERROR."""
        found = []
        for folder in sorted(self.folder.glob("server*")) + sorted(self.folder.glob("zope?")):
            if (log := folder / "event.log").exists():
                found += logs.read(folder.name, log.open())
            output = folder / ("server.log" if folder.name.startswith("server") else "output")
            found += [logs.Line(folder.name, 0.0, "ERROR", "stderr", line.rstrip()) for line in output.open()]
        return found

    def end_load(self):
        """Stop the clients, then the instances, then the servers; return the clients' histories."""
        for one in self.clients:
            one.stop()
        histories = {one.name: one.history() for one in self.clients}
        for one in self.instances:
            one.end()
        self.kill_all()
        return histories

    def read(self):
        """What a client that begins with nothing reads: the names of whole orders, and the sum of the counters."""
        with self.read_again() as root:
            names = {name for name, order in root["orders"].items() if is_whole(name, order)}
            return names, sum(one["value"] for one in root["counters"].values())

    def close(self):
        for one in self.instances:
            one.end(5)
        super().close()


FAULTS = (
    ZopeFleet.tell_the_server_to_end,
    ZopeFleet.kill_the_server,
    ZopeFleet.freeze_the_server,
    ZopeFleet.restart_zookeeper,
    ZopeFleet.delist_the_server,
)
