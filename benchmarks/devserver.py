"""What does the dev server take, where it stands in for ZooKeeper itself?

Time until it answers, memory, requests and events, beside a ZooKeeper in its
Java of the test fixtures: the shortest start, no optimising compiler.  The dev
server is a process of its own here, `zkfleet dev`, but for the row that says
otherwise; the client is kazoo, which takes more time than either server does.
"""

import os
import queue
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

import psutil
from kazoo.client import KazooClient

from benchmarks.measure import Bench, Row, Side, bounded, nothing, rates, rounds, shown, times
from zkfleet.devserver import DevServer, jute
from zkfleet.devserver.requests import Op
from zkfleet.testing import ZooKeeperServer

PEER = "ZooKeeper, Java"
ROOT = "/dev"
DATA = b"x" * 100
STARTS = 7
ROUNDS = 9
REQUESTS = 3000
CHANGES = 200
MANY = 100_000
NAMES = 10_000
IN_ONE_MULTI = 1000


class Command:
    """`zkfleet dev` on a free port, in a process of its own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None
        self.hosts = ""
        self.pid = 0

    def start(self) -> None:
        """Start it and wait until it says that it answers."""
        command = [sys.executable, "-c", "from zkfleet.cli import main; main()", "dev", "--port", "0"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=self._environment
        )
        assert self._process.stdout is not None
        self.hosts, self.pid = self._process.stdout.readline().strip(), self._process.pid

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()
            self._process = None


def rows(_bench: Bench) -> Iterator[Row]:
    """Yield the lines of this table."""
    with _processes() as (ours, theirs, environment):
        yield from _starting(ours, theirs, environment)
        yield _memory("resident memory, idle", ours, theirs, 40)
        with _client(ours.hosts) as mine, _client(theirs.hosts) as its:
            for client in (mine, its):
                _fill(client, "/many", MANY)
        yield _memory("the same with 100,000 znodes of 100 bytes", ours, theirs, 120)
    with _processes() as (ours, theirs, _), _client(ours.hosts) as mine, _client(theirs.hosts) as its:
        yield from _requests(mine, its)
        yield _watches(mine, its)
        yield from _children(mine, its, ours.hosts, theirs.hosts)


@contextmanager
def _processes() -> Iterator[tuple[Command, ZooKeeperServer, Mapping[str, str]]]:
    """Yield both servers, started, and the environment of all Python processes."""
    with tempfile.TemporaryDirectory() as compiled, ExitStack() as at_end:
        # As installed: compiled once, on the first start.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        ours, theirs = Command(environment), ZooKeeperServer()
        at_end.callback(ours.stop)
        at_end.callback(theirs.stop)
        ours.start()
        theirs.start()
        yield ours, theirs, environment


@contextmanager
def _client(hosts: str) -> Iterator[KazooClient]:
    client = KazooClient(hosts, timeout=60)
    client.start()
    try:
        yield client
    finally:
        client.stop()
        client.close()


def _starting(ours: Command, theirs: ZooKeeperServer, environment: Mapping[str, str]) -> Iterator[Row]:
    inside = DevServer()
    (seconds,) = rounds(3 * STARTS, (inside.stop, inside.start))
    inside.stop()
    yield bounded("`DevServer().start()` in this process", statistics.median(seconds) * 1000, 5, "ms")
    bare = partial(subprocess.run, [sys.executable, "-c", "pass"], check=True, env=environment)
    mine, its, nothing_else = rounds(STARTS, (ours.stop, ours.start), (theirs.stop, theirs.start), (nothing, bare))
    above = statistics.median(one - other for one, other in zip(mine, nothing_else, strict=True))
    what = "`zkfleet dev` listens, above `python -c pass`"
    yield bounded(what, above * 1000, 150, "ms", peer=f"{PEER}, from nothing", theirs=shown(statistics.median(its)))


def _memory(what: str, ours: Command, theirs: ZooKeeperServer, limit: float) -> Row:
    mine, its = (psutil.Process(pid).memory_info().rss / (1 << 20) for pid in (ours.pid, theirs.pid))
    return bounded(what, mine, limit, "MiB", peer=PEER, theirs=f"{its:,.1f} MiB")


def _fill(client: KazooClient, path: str, number: int, name: str = "n{:06d}") -> None:
    """Make znodes, a thousand of them in a multi below a parent of its own, or all below `path`."""
    for begin in range(0, number, IN_ONE_MULTI):
        parent = f"{path}/{begin}" if number == MANY else path
        client.ensure_path(parent)
        batch = client.transaction()
        for count in range(begin, begin + IN_ONE_MULTI):
            batch.create(f"{parent}/{name.format(count)}", DATA)
        assert not any(isinstance(made, Exception) for made in batch.commit())


def _requests(mine: KazooClient, its: KazooClient) -> Iterator[Row]:
    """Compare writes and reads that do not wait for each other."""

    def a_new_parent(client: KazooClient, turns: dict[KazooClient, str]) -> None:
        turns[client] = client.create(f"{ROOT}/r", makepath=True, sequence=True)

    def create(client: KazooClient, turns: dict[KazooClient, str]) -> None:
        for asked in [client.create_async(f"{turns[client]}/n{number}", DATA) for number in range(REQUESTS)]:
            asked.get()

    def get(client: KazooClient, turns: dict[KazooClient, str]) -> None:
        for asked in [client.get_async(f"{turns[client]}/n{number}") for number in range(REQUESTS)]:
            asked.get()

    turns: dict[KazooClient, str] = {}
    sides: list[Side] = [
        (partial(a_new_parent, client, turns), partial(create, client, turns)) for client in (mine, its)
    ]
    sides += [(nothing, partial(get, client, turns)) for client in (mine, its)]
    created, theirs_created, got, theirs_got = rounds(ROUNDS, *sides, warm=2)
    yield rates("creates, pipelined", created, PEER, theirs_created, number=REQUESTS, at_least=0.5)
    yield rates("gets, pipelined", got, PEER, theirs_got, number=REQUESTS, at_least=0.5)


def _watches(mine: KazooClient, its: KazooClient) -> Row:
    """Compare the medians of some rounds' delays from before a `set` is sent to the watch's callback."""
    found: list[list[float]] = [[], []]
    for turn in range(1 + ROUNDS):
        for medians, client in zip(found, (mine, its), strict=True):
            delays = [_delay(client, f"{ROOT}/watched") for _ in range(CHANGES)]
            if turn:
                medians.append(statistics.median(delays))
    return times("from a `set` to its watch's callback, p50", found[0], PEER, found[1], at_most=1)


def _delay(client: KazooClient, path: str) -> float:
    heard: queue.SimpleQueue[float] = queue.SimpleQueue()
    client.ensure_path(path)
    client.get(path, watch=lambda _event: heard.put(time.perf_counter()))
    begun = time.perf_counter()
    asked = client.set_async(path, DATA)
    delay = heard.get(timeout=10) - begun
    asked.get()
    return delay


def _children(mine: KazooClient, its: KazooClient, ours: str, theirs: str) -> Iterator[Row]:
    """Compare long lists: bare, since decoding one takes kazoo longer than either server needs."""
    path = f"{ROOT}/names"
    sides: list[Side] = []
    for client in (mine, its):
        _fill(client, path, NAMES, "member-{:010d}")
    with ExitStack() as at_end:
        connections = [at_end.enter_context(_Bare(hosts)) for hosts in (ours, theirs)]
        for client, connection in zip((mine, its), connections, strict=True):
            change = partial(_come_and_go, client, f"{path}/another")
            sides += [(change, partial(connection.children, path)), (nothing, partial(connection.children, path))]
        changed, same, theirs_changed, theirs_same = rounds(5 * ROUNDS, *sides)
    yield times("`getChildren` of 10,000, changed since", changed, PEER, theirs_changed, at_most=2)
    yield times("the same again", same, PEER, theirs_same, at_most=2)


def _come_and_go(client: KazooClient, path: str) -> None:
    client.create(path)
    client.delete(path)


class _Bare:
    """A session that counts the bytes of its replies and does not read them."""

    def __init__(self, hosts: str) -> None:
        host, _, port = hosts.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), 10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ask(struct.pack(">iqiq", 0, 0, 60_000, 0) + jute.buffer(bytes(16)) + b"\0")

    def children(self, path: str) -> None:
        """Ask for a list and take all of the reply."""
        self._ask(struct.pack(">ii", 1, Op.GET_CHILDREN) + jute.text(path) + b"\0")

    def _ask(self, payload: bytes) -> None:
        self._socket.sendall(jute.framed(payload))
        left = jute.INT.unpack(self._socket.recv(4, socket.MSG_WAITALL))[0]
        while left:
            left -= len(self._socket.recv(left))

    def __enter__(self) -> "_Bare":
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.close()
