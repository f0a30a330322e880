"""What do many views cost when the link breaks, and how soon is it back?

Peer: kazoo as it comes, on the same link at the same time.
"""

import statistics
import threading
import time
from collections.abc import Callable, Iterator

from kazoo.client import KazooClient

import zkfleet
from benchmarks.measure import Bench, Row, bounded, met, shown
from zkfleet.testing import Proxy

VIEWS = 1000
PEER_VIEWS = 500
ROUNDS = 3
CUT = 0.5
OUTAGE = 20.0
LONGEST = 60.0


def rows(bench: Bench) -> Iterator[Row]:
    """Yield the lines of this table."""
    bench.clear("/v")
    bench.registry.import_tree("/v\n" + "".join(f"  /{number}\n" for number in range(VIEWS)))
    yield from _threads(bench)
    yield _peers_threads(bench)
    yield from _outages(bench)
    bench.clear("/v")


def ours_alive() -> int:
    """Count this process's threads but for those that play the network."""
    return sum(thread.name != "proxy" for thread in threading.enumerate())


def _threads(bench: Bench) -> Iterator[Row]:
    with Proxy(bench.server.port) as proxy, zkfleet.connect(proxy.hosts) as registry:
        registry.children("/v").close()
        before = ours_alive()
        views = [registry.children(f"/v/{number}") for number in range(VIEWS)]
        for view in views:
            view(lambda _view: None)
        yield bounded("threads that 1,000 views add", ours_alive() - before - 1, 0)
        yield bounded("watches of 1,000 views", registry.statistics().watches, VIEWS)
        idle = ours_alive()
        most = _most_threads(proxy, lambda: all(view.stale_since is None for view in views))
        yield bounded("threads above idle after a cut of 0.5 s, 1,000 views", most - idle, 4)


def _peers_threads(bench: Bench) -> Row:
    with Proxy(bench.server.port) as proxy:
        client = KazooClient(proxy.hosts)
        client.start()
        for number in range(PEER_VIEWS):
            client.ChildrenWatch(f"/v/{number}", lambda _names: None)
        idle = ours_alive()
        most = _most_threads(proxy, lambda: client.connected)
        client.stop()
    return Row("", "", "kazoo, 500 `ChildrenWatch`", f"{most - idle}")


def _most_threads(proxy: Proxy, back: Callable[[], bool]) -> int:
    """Cut the link for half a second and return the most threads at any time until a second after it is back."""
    proxy.refuse()
    most = _watch_threads(lambda: False, CUT)
    proxy.heal()
    return max(most, _watch_threads(back, LONGEST), _watch_threads(lambda: False, 1.0))


def _watch_threads(ended: Callable[[], bool], seconds: float) -> int:
    most, deadline = 0, time.monotonic() + seconds
    while not ended() and time.monotonic() < deadline:
        most = max(most, ours_alive())
        time.sleep(0.001)
    return most


def _outages(bench: Bench) -> Iterator[Row]:
    """Break the link for 20 s, by refusing connections and by silence."""
    for what, end in (("refused", Proxy.refuse), ("silent", Proxy.black_hole)):
        ours, theirs = [], []
        for _ in range(ROUNDS):
            mine, its = _outage(bench, end)
            ours.append(mine)
            theirs.append(its)
        mine, its = statistics.median(ours), statistics.median(theirs)
        target = met(mine, at_most=1).replace("at most 1", "at most 1 s")
        name = f"connected again after 20 s, {what}"
        yield Row(name, shown(mine), "kazoo as it comes", shown(its), f"{mine / its:.2f}", target)


def _outage(bench: Bench, broken: Callable[[Proxy], None]) -> tuple[float, float]:
    """Return the seconds after the outage until ours, and kazoo's, is connected."""
    with Proxy(bench.server.port) as proxy, zkfleet.connect(proxy.hosts) as registry:
        client = KazooClient(proxy.hosts)
        client.start()
        broken(proxy)
        time.sleep(OUTAGE)
        assert registry.statistics().state == "suspended"
        assert not client.connected
        healed = time.monotonic()
        proxy.heal()
        both = {
            "ours": lambda: registry.statistics().state == "connected",
            "kazoo": lambda: client.connected,
        }
        found: dict[str, float] = {}
        while len(found) < len(both) and time.monotonic() < healed + LONGEST:
            for name, connected in both.items():
                if name not in found and connected():
                    found[name] = time.monotonic() - healed
            time.sleep(0.002)
        client.stop()
    return found.get("ours", LONGEST), found.get("kazoo", LONGEST)
