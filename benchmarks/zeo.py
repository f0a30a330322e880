"""What do ZEO clients that follow the registry gain, and what does it cost them?

Outages when a server dies and another one registers, speed beside a plain
`ClientStorage` on the same server, and opening a database.  The servers are
ZEO's own, as processes on loopback.
"""

import contextlib
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import transaction
import ZEO
import ZODB
from persistent.mapping import PersistentMapping
from ZEO.asyncio.client import ClientThread
from ZODB.utils import p64, z64

import zkfleet.zeo
from benchmarks.measure import Bench, Row, bounded, nothing, rates, rounds, times
from zkfleet.testing.zookeeper import free_port

PATH = "/zeo"
ROUNDS = 9
OUTAGES = 30
LOADS = 3000
COMMITS = 300
OPENINGS = 25
# What counting costs is less than what one round differs from the next: short ones, many of them, side by side.
SHORT_ROUNDS = 1001
HITS = 2000
MISSES = 50
LAST = p64(1 << 62)


class Server:
    """ZEO's own server on a file."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.port = port or free_port()
        command = [sys.executable, "-m", "ZEO.runzeo", "-a", f"127.0.0.1:{self.port}", "-f", str(folder / "Data.fs")]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not _listens(self.port):
            time.sleep(0.001)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return "127.0.0.1", self.port

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.kill()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


def rows(bench: Bench) -> Iterator[Row]:
    """Yield the lines of this table."""
    bench.clear(PATH)
    bench.registry.import_tree(f"{PATH}\n")
    with tempfile.TemporaryDirectory() as folder:
        yield from _outages(bench, Path(folder))
        with Server(Path(folder)) as server, bench.registry.register(PATH, server.address):
            yield from _speed(bench, server)
            yield from _counting(bench)
            yield _opening(bench, server)
            yield from _left_behind(bench)
    bench.clear(PATH)


# -- outages


def _outages(bench: Bench, folder: Path) -> Iterator[Row]:
    commits, reads = _after_registration(bench, folder)
    static = _after_listening(folder)
    what = "kill -9, another port registers: clients commit again"
    peer = "ZEO, a static list, after the server listens"
    yield times(f"{what}, p50", [_p(commits, 50)], peer, [_p(static, 50)])
    yield bounded("the same, p99", _p(commits, 99) * 1000, 30, "ms", peer=peer, theirs=f"{_p(static, 99):,.2f} s")
    yield bounded("registration to a waiting reader, p50", _p(reads, 50) * 1000, 10, "ms")
    yield bounded("the same, p99", _p(reads, 99) * 1000, 30, "ms")


def _p(seconds: list[float], part: int) -> float:
    return statistics.quantiles(seconds, n=100, method="inclusive")[part - 1] if len(seconds) > 1 else seconds[0]


def _after_registration(bench: Bench, folder: Path) -> tuple[list[float], list[float]]:
    """Return seconds from a registration to a commit, and to the answer that a waiting reader gets."""
    commits, reads = [], []
    server = Server(folder)
    registration = bench.registry.register(PATH, server.address)
    database = zkfleet.zeo.DB(bench.hosts, PATH)
    for _ in range(OUTAGES):
        with _again_and_again(database.storage.ping) as pings, _again_and_again(partial(_count, database)) as counts:
            server.kill()
            registration.close()
            server = Server(folder)
            begun = time.perf_counter()
            registration = bench.registry.register(PATH, server.address)
            reads.append(pings.next_after(begun) - begun)
            commits.append(counts.next_after(begun) - begun)
    database.close()
    registration.close()
    server.kill()
    return commits, reads


def _after_listening(folder: Path) -> list[float]:
    """Return seconds from when a server listens to the first commit of a client that has a list of both addresses."""
    ports = [free_port(), free_port()]
    server = Server(folder, ports[0])
    database = ZEO.DB([("127.0.0.1", port) for port in ports])
    found = []
    for turn in range(1, OUTAGES + 1):
        with _again_and_again(partial(_count, database)) as counts:
            server.kill()
            server = Server(folder, ports[turn % 2])
            begun = time.perf_counter()
            found.append(counts.next_after(begun) - begun)
    database.close()
    server.kill()
    return found


class _Loop:
    """A call that is made again and again on a thread, errors or not."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call, self._through = call, False
        self._done = threading.Condition()
        self._last = 0.0
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._through:
            try:
                self._call()
            except Exception:  # whatever an outage brings
                time.sleep(0.0005)
            else:
                with self._done:
                    self._last = time.perf_counter()
                    self._done.notify_all()

    def next_after(self, moment: float) -> float:
        """Return when a call ended well after a moment."""
        with self._done:
            assert self._done.wait_for(lambda: self._last > moment, 60)
            return self._last


@contextlib.contextmanager
def _again_and_again(call: Callable[[], object]) -> Iterator[_Loop]:
    loop = _Loop(call)
    loop._thread.start()
    loop.next_after(time.perf_counter())
    try:
        yield loop
    finally:
        loop._through = True
        loop._thread.join()


def _count(database: ZODB.DB) -> None:
    with database.transaction() as connection:
        root = connection.root()
        root["n"] = root.get("n", 0) + 1


# -- speed


def _speed(bench: Bench, server: Server) -> Iterator[Row]:
    ours, plain = zkfleet.zeo.DB(bench.registry, PATH), ZEO.DB(server.address)
    without = zkfleet.zeo.DB(bench.registry, PATH, ping_interval=None)
    sides = [(nothing, partial(_load, database)) for database in (ours, plain, without)]
    mine, its, unwatched = rounds(ROUNDS, *sides)
    yield rates("loads from the server", mine, "`ClientStorage`", its, number=LOADS, at_least=0.97)
    yield rates("the same", mine, "without the watchdog", unwatched, number=LOADS, at_least=0.99)
    databases = (ours, plain, without)
    with ours.transaction() as connection:
        for n in range(len(databases)):
            connection.root()[n] = PersistentMapping()
    for database in databases:
        database.storage.ping()  # after which it has heard of them
    sides = [(nothing, partial(_commit, database, n)) for n, database in enumerate(databases)]
    mine, its, unwatched = rounds(ROUNDS, *sides)
    yield rates("commits", mine, "`ClientStorage`", its, number=COMMITS, at_least=0.97)
    yield rates("the same", mine, "without the watchdog", unwatched, number=COMMITS, at_least=0.99)
    for database in databases:
        database.close()


def _load(database: ZODB.DB) -> None:
    load = database.storage._server.load_before
    for _ in range(LOADS):
        load(z64, LAST)


def _commit(database: ZODB.DB, own: int) -> None:
    manager = transaction.TransactionManager()
    connection = database.open(manager)
    for n in range(COMMITS):
        connection.root()[own]["n"] = n
        manager.commit()
    connection.close()


# -- counting misses


def _counting(bench: Bench) -> Iterator[Row]:
    counting, plain = zkfleet.zeo.DB(bench.registry, PATH), zkfleet.zeo.DB(bench.registry, PATH)
    thread = plain.storage._server
    thread.load_before = partial(ClientThread.load_before, thread)  # ZEO's own, which counts nothing
    for what, action, number in (("cache", _hit, HITS), ("server", _miss, MISSES)):
        sides = [(nothing, partial(action, database.storage)) for database in (counting, plain)]
        mine, its = rounds(SHORT_ROUNDS, *sides)
        yield rates(
            f"loads that the {what} answers", mine, "without counting misses", its, number=number, at_least=0.99
        )
    counting.close()
    plain.close()


def _hit(storage: Any) -> None:
    for _ in range(HITS):
        storage.loadBefore(z64, LAST)


def _miss(storage: Any) -> None:
    for _ in range(MISSES):
        storage._cache.invalidate(z64, None)  # the cache has it no longer
        storage.loadBefore(z64, LAST)


# -- opening


def _opening(bench: Bench, server: Server) -> Row:
    opened = contextlib.ExitStack()

    def load(database: ZODB.DB) -> None:
        opened.callback(database.close)
        database.storage.load(z64)

    def ours() -> None:
        load(zkfleet.zeo.DB(bench.hosts, PATH))

    def plain() -> None:
        load(ZEO.DB(server.address))

    mine, its = rounds(OPENINGS, (opened.close, ours), (opened.close, plain))
    opened.close()
    what = "from a connection string to the first load"
    return times(what, mine, "`ZEO.DB` with the address", its, at_most=3)


def _left_behind(bench: Bench) -> Iterator[Row]:
    before = threading.active_count()
    for _ in range(100):
        zkfleet.zeo.DB(bench.hosts, PATH).close()
    yield bounded("threads that 100 opened and closed databases leave", threading.active_count() - before, 0)
