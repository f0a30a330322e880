"""Run all benchmarks on a real ZooKeeper and print their tables as Markdown."""

import datetime
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from importlib.metadata import version

from kazoo.client import KazooClient
from kazoo.protocol.serialization import Transaction

import zkfleet
from zkfleet.registry import applying
from zkfleet.testing import Proxy, ZooKeeperServer
from zkfleet.testing.zookeeper import four_letters

NODES = 5000
RUNS = 5
Row = tuple[str, str, str, str, str]


def median(action: Callable[[], object], *, runs: int = RUNS, before: Callable[[], object] = lambda: None) -> float:
    """Return the median seconds of an action, prepared each time by `before`."""
    found = []
    for _ in range(runs):
        before()
        begun = time.perf_counter()
        action()
        found.append(time.perf_counter() - begun)
    return statistics.median(found)


def a_tree() -> str:
    lines = ["/big\n"]
    for service in range(NODES // 100):
        lines.append(f"  /s{service} : service\n    threads = {service}\n")
        lines += [f"    /n{number}\n      value = {number}\n      name = 'node {number}'\n" for number in range(99)]
    return "".join(lines)


def clear(kazoo: KazooClient, registry: zkfleet.Registry, path: str) -> None:
    if kazoo.exists(path):
        registry.delete_recursive(path, force=True)


def trees(kazoo: KazooClient, registry: zkfleet.Registry) -> list[Row]:
    text = a_tree()

    def clean() -> None:
        clear(kazoo, registry, "/big")

    def one_by_one() -> None:
        kazoo.create("/big")
        for number in range(1000):
            kazoo.create(f"/big/{number}", b'{"name":"node","value":1}')

    def read_one_by_one() -> None:
        for number in range(1000):
            kazoo.get(f"/big/{number}")
            kazoo.get_children(f"/big/{number}")

    peer_create = 1000 / median(one_by_one, before=clean)
    peer_read = 1000 / median(read_one_by_one)
    ours = NODES / median(lambda: registry.import_tree(text), before=clean)
    export_seconds = median(lambda: registry.export_tree("/big"))
    again = median(lambda: registry.import_tree(text))
    clean()
    plan = registry.plan_tree(text)
    runs = [applying._operations("", run) for run in applying.pack(plan.steps)]
    apply_seconds = median(lambda: registry.apply_plan(plan), before=clean)

    def raw() -> None:
        for operations in runs:
            result = kazoo.handler.async_result()
            kazoo._call(Transaction(operations), result)
            result.get()

    raw_seconds = median(raw, before=clean)
    clean()
    return [
        ("import 5,000 nodes", f"{ours:,.0f}/s", "kazoo create", f"{peer_create:,.0f}/s", f"{ours / peer_create:.1f}"),
        row_of_rates("apply alone", NODES / apply_seconds, "kazoo multis, same bytes", NODES / raw_seconds),
        row_of_rates("export them", NODES / export_seconds, "kazoo get + get_children", peer_read),
        row_of_seconds("re-import unchanged", again, "our export", export_seconds),
    ]


def row_of_rates(what: str, ours: float, peer: str, theirs: float) -> Row:
    return what, f"{ours:,.0f}/s", peer, f"{theirs:,.0f}/s", f"{ours / theirs:.2f} times as fast"


def row_of_seconds(what: str, ours: float, peer: str, theirs: float) -> Row:
    return what, f"{ours * 1000:,.2f} ms", peer, f"{theirs * 1000:,.2f} ms", f"{ours / theirs:.2f} of the time"


def providers(kazoo: KazooClient, registry: zkfleet.Registry) -> list[Row]:
    clear(kazoo, registry, "/p")
    registry.import_tree("/p\n" + "".join(f"  /h:{n}\n    pid = {n}\n    weight = 1\n" for n in range(1, 1001)))

    def peer() -> None:
        for waiting in [kazoo.get_async(f"/p/{name}") for name in kazoo.get_children("/p")]:
            waiting.get()

    ours = median(lambda: registry.providers("/p").close())
    rows = [row_of_seconds("providers() of 1,000 ready", ours, "pipelined kazoo", median(peer))]
    registry.import_tree("/p\n" + "".join(f"  /h:{n}\n    pid = {n}\n    weight = 1\n" for n in range(1, 10001)))
    tracemalloc.start()
    view = registry.providers("/p")
    size = tracemalloc.get_traced_memory()[0] / len(view)
    tracemalloc.stop()
    rows.append(("memory of 10,000 providers", f"{size:,.0f} bytes each", "bound", "2,048 bytes", f"{size / 2048:.2f}"))
    clear(kazoo, registry, "/p")
    return rows


def latency(kazoo: KazooClient, registry: zkfleet.Registry, hosts: str) -> list[Row]:
    rows = []
    for number in (10, 100, 1000):
        clear(kazoo, registry, "/l")
        registry.import_tree("/l\n" + "".join(f"  /h:{n}\n    pid = {n}\n" for n in range(1, number + 1)))
        watcher = KazooClient(hosts)
        watcher.start()
        theirs = delays(kazoo, lambda told, watcher=watcher: watcher.ChildrenWatch("/l", lambda _names: told()))
        watcher.stop()
        with zkfleet.connect(hosts) as reader:
            ours = delays(kazoo, lambda told, reader=reader: reader.providers("/l")(lambda _view: told()))
        for name, at in (("p50", 0.5), ("p99", 0.99)):
            mine, other = (sorted(found)[int(len(found) * at)] for found in (ours, theirs))
            rows.append(row_of_seconds(f"create to callback, {number} providers, {name}", mine, "ChildrenWatch", other))
    clear(kazoo, registry, "/l")
    return rows


def delays(kazoo: KazooClient, subscribe: Callable[[Callable[[], None]], object]) -> list[float]:
    """Return the seconds from creating a provider to the callback, 200 times."""
    told = threading.Event()
    kept = subscribe(told.set)
    found = []
    for turn in range(200):
        told.wait(5)
        told.clear()
        begun = time.perf_counter()
        kazoo.create_async("/l/new", b'{"pid":1}')
        told.wait(5)
        found.append(time.perf_counter() - begun)
        told.clear()
        kazoo.delete("/l/new")
        assert kept is not None, turn
    return found


def registrations(kazoo: KazooClient, registry: zkfleet.Registry) -> list[Row]:
    kazoo.ensure_path("/r")
    made: list[zkfleet.Registration] = []

    def ours() -> None:
        made[:] = [registry.register("/r", f"h:{port}", wait=False) for port in range(1, 1001)]
        for registration in made:
            registration.wait_until_registered(30)

    def unregister() -> None:
        for registration in made:
            registration.begin_close()
        for registration in made:
            registration.close()

    def theirs() -> None:
        for port in range(1, 1001):
            kazoo.create(f"/r/k:{port}", b'{"pid":1}', ephemeral=True)

    def remove() -> None:
        for name in kazoo.get_children("/r"):
            kazoo.delete(f"/r/{name}")

    ours_seconds = median(ours, before=unregister, runs=3)
    unregister()
    return [row_of_seconds("1,000 registrations", ours_seconds, "kazoo create", median(theirs, before=remove, runs=3))]


def reconnecting(server: ZooKeeperServer) -> list[Row]:
    with Proxy(server.port) as proxy, zkfleet.connect(proxy.hosts) as registry:
        registry.import_tree("".join(f"/v{number}\n" for number in range(1000)))
        views = [registry.children(f"/v{number}") for number in range(1000)]
        idle = most = threading.active_count()
        proxy.refuse()
        time.sleep(0.5)
        proxy.heal()
        while any(view.stale_since for view in views):
            most = max(most, threading.active_count())
            time.sleep(0.005)
        proxy.refuse()
        time.sleep(20)
        healed = time.perf_counter()
        proxy.heal()
        while registry.statistics().state != "connected":
            time.sleep(0.005)
        seconds = time.perf_counter() - healed
    return [
        ("threads above idle, 1,000 views, link cut", str(most - idle), "bound", "4", ""),
        ("connected again after an outage of 20 s", f"{seconds:.2f} s", "bound", "1 s", ""),
    ]


def starting() -> list[Row]:
    def run(*arguments: str) -> float:
        return median(lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL))

    bare = run("-c", "pass")
    return [
        row_of_seconds("import zkfleet", run("-c", "import zkfleet"), "python -c pass", bare),
        row_of_seconds("import zkfleet, connect", run("-c", "from zkfleet import connect"), "python -c pass", bare),
        row_of_seconds("zkfleet --help", run("-c", "from zkfleet.cli import main; main()", "--help"), "same", bare),
    ]


def main() -> None:
    with ZooKeeperServer() as server, zkfleet.connect(server.hosts) as registry:
        kazoo = KazooClient(server.hosts)
        kazoo.start()
        line = four_letters(server.port, "srvr").splitlines()[0]
        print(f"{datetime.date.today()}, {os.cpu_count()} cores, Python {platform.python_version()},", end=" ")
        print(f"kazoo {version('kazoo')}, {line.partition(',')[0]}\n")
        print("| what | zkfleet | peer | its figure | ratio |\n|---|--:|---|--:|--:|")
        for rows in (
            trees(kazoo, registry),
            providers(kazoo, registry),
            latency(kazoo, registry, server.hosts),
            registrations(kazoo, registry),
            reconnecting(server),
            starting(),
        ):
            for row in rows:
                print("| " + " | ".join(row) + " |", flush=True)
        kazoo.stop()


if __name__ == "__main__":
    main()
