"""How many answers a second does a monitor give, and how late are they in a busy process?

Both sides are processes of their own, asked by this one: one command a
connection, by one client and by 50.  The peer is zc.monitor on zc.ngi, which
runs on Python 2.7 alone: `$ZKFLEET_PYTHON27` names one that has it (`pip
install zc.monitor zc.ngi zope.component`); without it there are no ratios.
Scrapes are compared with the server that comes with prometheus-client, in the
same process, of the same metrics.
"""

import contextlib
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil

from benchmarks.measure import Bench, Row, bounded, nothing, rates, rounds
from zkfleet.testing.zookeeper import free_port

REQUESTS = 2000
ROUNDS = 5
SAMPLES = 1000
BUSY_THREADS = 8
SECONDS_IDLE = 10.0
USUAL, *SHORTER = "0.005", "0.001", "0.0005", "0.0002"
PAUSE = 0.013
PEER = "zc.monitor, Python 2.7"

OURS = """
import sys, threading
from zkfleet import monitor
where = sys.argv[1]
sys.setswitchinterval(float(sys.argv[3]))
@monitor.command("waits")
def waits():
    return monitor.lines("OK")
burned = [0] * int(sys.argv[2])
def burn(number):
    while True:
        sum(range(1000))
        burned[number] += 1
for number in range(len(burned)):
    threading.Thread(target=burn, args=(number,), daemon=True).start()
@monitor.command("burned", blocks=False)
def tell():
    return monitor.lines(str(sum(burned)))
monitor.start(where if "/" in where else int(where))
print("ready", flush=True)
threading.Event().wait()
"""
THEIRS = """
import sys, time
import zc.monitor
where = sys.argv[1]
zc.monitor.register_basics()
zc.monitor.register(lambda connection: connection.write("OK\\n"), "health")
zc.monitor.start(where if "/" in where else ("127.0.0.1", int(where)))
print("ready")
sys.stdout.flush()
while True:
    time.sleep(1)
"""
WEB = """
import sys, threading
import prometheus_client
from zkfleet import monitor
from zkfleet.monitor.metrics import Collector
COLUMNS = [monitor.Column("database", "Its name.", kind=monitor.Kind.LABEL)]
COLUMNS += [monitor.Column(f"number{n}", "A number.", kind=monitor.Kind.GAUGE) for n in range(2)]
ROWS = [{"database": f"db{row}"} | {f"number{n}": row for n in range(2)} for row in range(10)]
for number in range(10):
    monitor.command(f"told{number}", columns=COLUMNS)(lambda: monitor.table(COLUMNS, ROWS))
monitor.start(sys.argv[1] + ".sock", http=int(sys.argv[2]))
registry = prometheus_client.CollectorRegistry()
registry.register(Collector())
prometheus_client.start_http_server(int(sys.argv[3]), "127.0.0.1", registry)
print("ready", flush=True)
threading.Event().wait()
"""
SERVER = "prometheus-client's own server"
SCRAPES = 50
Address = str | tuple[str, int]


@contextlib.contextmanager
def served(python: str, program: str, where: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process with a monitor."""
    command = [python, "-c", program, where, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"{python} cannot serve")
            yield process
        finally:
            process.kill()


def ask(address: Address, line: bytes) -> float:
    """Ask once and return the seconds until the connection was closed."""
    begun = time.perf_counter()
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as one:
        one.connect(address)
        one.sendall(line)
        while one.recv(1 << 16):
            pass
    return time.perf_counter() - begun


def one_by_one(address: Address, line: bytes) -> None:
    """Ask again and again."""
    for _ in range(REQUESTS):
        ask(address, line)


def fifty_at_once(address: Address, line: bytes) -> None:
    """Have fifty connections open at any time."""
    begun = done = 0
    with selectors.DefaultSelector() as selector:
        while done < REQUESTS:
            while begun < REQUESTS and begun - done < 50:
                one = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
                one.connect(address)
                one.send(line)
                one.setblocking(False)
                selector.register(one, selectors.EVENT_READ)
                begun += 1
            for key, _ in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                if not key.fileobj.recv(1 << 16):
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                    done += 1


def rows(_bench: Bench) -> Iterator[Row]:
    """Yield the lines of this table."""
    old = os.environ.get("ZKFLEET_PYTHON27", "")
    with tempfile.TemporaryDirectory() as folder:
        yield from _answers(Path(folder), old)
        yield from _lateness(Path(folder))
        yield from _scrapes(Path(folder))


def _answers(folder: Path, old: str) -> Iterator[Row]:
    for name in ["TCP", "Unix socket"]:
        ours, theirs = (str(free_port()) if name == "TCP" else str(folder / kind) for kind in ("new", "old"))
        with contextlib.ExitStack() as stack:
            stack.enter_context(served(sys.executable, OURS, ours, "0", USUAL))
            if old:
                stack.enter_context(served(old, THEIRS, theirs))
            for line in [b"help\n", b"health\n"]:
                for clients, load in [("1 client", one_by_one), ("50 clients", fifty_at_once)]:
                    what = f"`{line.decode().strip()}` over {name}, {clients}"
                    yield _compared(
                        what, partial(load, _address(ours), line), old and partial(load, _address(theirs), line)
                    )


def _address(where: str) -> Address:
    return where if "/" in where else ("127.0.0.1", int(where))


def _compared(what: str, ours: Callable[[], None], theirs: Callable[[], None] | str) -> Row:
    if isinstance(theirs, str):
        (mine,) = rounds(ROUNDS, (nothing, ours))
        return Row(what, f"{REQUESTS / statistics.median(mine):,.0f}/s")
    mine, other = rounds(ROUNDS, (nothing, ours), (nothing, theirs))
    return rates(what, mine, PEER, other, number=REQUESTS, at_least=1)


def _lateness(folder: Path) -> Iterator[Row]:
    path = str(folder / "calm")
    with served(sys.executable, OURS, path, "0", USUAL) as process:
        alone, waits = [], []
        for _ in range(SAMPLES):
            alone.append(ask(path, b"health\n"))
            waits.append(ask(path, b"waits\n"))
        extra = statistics.median(waits) - statistics.median(alone)
        yield bounded("what a deadline costs a command that may block, p50", extra * 1000, 0.3, "ms")
        yield bounded("processor of an idle monitor", _idle(process.pid), 0.1, "%")
    # Each of them has Python's lock for an interval before it is the monitor's turn.
    usual = 0.0
    for interval in [USUAL, *SHORTER]:
        path = str(folder / f"busy-{interval}")
        with served(sys.executable, OURS, path, str(BUSY_THREADS), interval):
            speed, late = _while_busy(path)
        usual = usual or speed
        what = f"`health` while {BUSY_THREADS} threads burn CPU, `sys.setswitchinterval({interval})`"
        yield bounded(f"{what}, p50", late[len(late) // 2] * 1000, 5, "ms")
        yield bounded("the same, p99", late[int(len(late) * 0.99)] * 1000, 5, "ms")
        yield Row("what these threads do, of what they do by 0.005", f"{100 * speed / usual:.0f} %")


def _while_busy(path: str) -> tuple[float, list[float]]:
    """Return how much a busy process does in a second, and how long its answers take, sorted."""
    begun, before, late = time.perf_counter(), _burned(path), []
    for _ in range(SAMPLES // 5):
        # Who asks at once finds the lock with the monitor still, from the answer before.
        time.sleep(PAUSE)
        late.append(ask(path, b"health\n"))
    return (_burned(path) - before) / (time.perf_counter() - begun), sorted(late)


def _burned(path: str) -> int:
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)
        one.sendall(b"burned\n")
        return int(one.recv(100))


def _scrapes(folder: Path) -> Iterator[Row]:
    ours, theirs = free_port(), free_port()
    with served(sys.executable, WEB, str(folder / "web"), str(ours), str(theirs)):
        lines = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

        def scrape(port: int, times: int = SCRAPES) -> list[float]:
            return sorted(ask(("127.0.0.1", port), lines) for _ in range(times))

        mine, other = rounds(ROUNDS, (nothing, partial(scrape, ours)), (nothing, partial(scrape, theirs)))
        yield rates(
            "scrapes of 10 commands, each with 2 numbers of 10 databases",
            mine,
            SERVER,
            other,
            number=SCRAPES,
            at_least=0.5,
        )
        yield bounded("one such scrape, p50", scrape(ours, 200)[100] * 1000, 20, "ms")
        health = partial(one_by_one, ("127.0.0.1", ours), lines.replace(b"metrics", b"health"))
        yield _compared("`/health` over HTTP, a connection each, 1 client", health, "")


def _idle(pid: int) -> float:
    this = psutil.Process(pid)
    before = sum(this.cpu_times()[:2])
    time.sleep(SECONDS_IDLE)
    return 100 * (sum(this.cpu_times()[:2]) - before) / SECONDS_IDLE
