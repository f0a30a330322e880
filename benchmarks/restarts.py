"""How soon are the clients of one ZooKeeper back after it is killed and started again?

A connection that is made while the server comes up may get no answer to its
handshake; a client that waits for it is out for as long as it is patient.
"""

import statistics
import time
from collections.abc import Iterator

import zkfleet
from benchmarks.measure import Bench, Row, bounded, shown
from zkfleet.testing import ZooKeeperServer
from zkfleet.testing.zookeeper import four_letters

SESSIONS = 100
RESTARTS = 10
SESSION_TIMEOUT = 10.0
LONGEST = 2 * SESSION_TIMEOUT
SETTLED = 1.0


def rows(_bench: Bench) -> Iterator[Row]:
    """Yield the lines of this table."""
    away: list[float] = []
    with ZooKeeperServer() as server:
        registries = [zkfleet.connect(server.hosts, session_timeout=SESSION_TIMEOUT) for _ in range(SESSIONS)]
        outs = []
        for _ in range(RESTARTS):
            time.sleep(SETTLED)
            out, back = restart(server, registries)
            outs.append(out)
            away += back
        lost = sum(registry.statistics().expiries for registry in registries)
        for registry in registries:
            registry.close()
    what = f"{SESSIONS} sessions, {RESTARTS} restarts: seconds after the first `ruok`"
    yield Row(f"{what}, median", shown(statistics.median(away)))
    yield Row("the same, p99", shown(statistics.quantiles(away, n=100)[98]))
    yield bounded("the same, the last", max(away), 1.5, "s")
    yield Row("that the server did not answer", f"{min(outs):.1f} to {max(outs):.1f} s")
    yield bounded("sessions lost", lost, 0)


def restart(server: ZooKeeperServer, registries: list[zkfleet.Registry]) -> tuple[float, list[float]]:
    """Kill a server and start it again.

    Returns:
        The seconds until it answered `ruok`, and those from there until each client was connected.
    """
    before = [registry.statistics().reconnects for registry in registries]
    killed = time.monotonic()
    server.restart(wait=False)
    while four_letters(server.port, "ruok") != "imok":
        time.sleep(0.005)
    answered = time.monotonic()
    back: dict[int, float] = {}
    while len(back) < len(registries) and time.monotonic() < answered + LONGEST:
        for number, registry in enumerate(registries):
            now = registry.statistics()
            if number not in back and now.reconnects > before[number] and now.state == "connected":
                back[number] = time.monotonic() - answered
        time.sleep(0.002)
    return answered - killed, [back.get(number, LONGEST) for number in range(len(registries))]
