"""How soon are the clients of one ZooKeeper back after it is killed and started again?

A connection that is made while the server comes up may get no answer to its
handshake; a client that waits for it is out for as long as it is patient.
"""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

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
    with ZooKeeperServer() as server:
        registries = [zkfleet.connect(server.hosts, session_timeout=SESSION_TIMEOUT) for _ in range(SESSIONS)]
        restarts = []
        for _ in range(RESTARTS):
            time.sleep(SETTLED)
            restarts.append(restart(server, registries))
        lost = sum(registry.statistics().expiries for registry in registries)
        for registry in registries:
            registry.close()
    silent, starting = [one.silent for one in restarts], [one.starting for one in restarts]
    back = [seconds for one in restarts for seconds in one.back]
    after = [max(seconds - one.starting, 0) for one in restarts for seconds in one.back]
    yield Row(f"{RESTARTS} restarts: until the first `ruok`", f"{min(silent):.1f} to {max(silent):.1f} s")
    yield Row("from then until the server serves (`srvr`)", f"{min(starting):.1f} to {max(starting):.1f} s")
    yield Row(f"from `ruok` until each of {SESSIONS} sessions is back, median", shown(statistics.median(back)))
    yield bounded("the same, the last", max(back), 1.5, "s")
    yield Row("from when the server serves, median", shown(statistics.median(after)))
    yield bounded("the same, the last", max(after), 1.5, "s")
    yield bounded("sessions lost", lost, 0)


@dataclass(frozen=True, slots=True)
class Restart:
    """Seconds: from the kill to `ruok`, from there until it serves, and until each client is connected."""

    silent: float
    starting: float
    back: tuple[float, ...]


def restart(server: ZooKeeperServer, registries: list[zkfleet.Registry]) -> Restart:
    """Kill a server and start it again."""
    before = [registry.statistics().reconnects for registry in registries]
    killed = time.monotonic()
    server.restart(wait=False)
    while four_letters(server.port, "ruok") != "imok":
        time.sleep(0.005)
    answered = time.monotonic()
    back: dict[int, float] = {}
    starting: float | None = None
    while (starting is None or len(back) < len(registries)) and time.monotonic() < answered + LONGEST:
        if starting is None and "Mode:" in four_letters(server.port, "srvr"):
            starting = time.monotonic() - answered
        for number, registry in enumerate(registries):
            now = registry.statistics()
            if number not in back and now.reconnects > before[number] and now.state == "connected":
                back[number] = time.monotonic() - answered
        time.sleep(0.002)
    seconds = tuple(back.get(number, LONGEST) for number in range(len(registries)))
    return Restart(answered - killed, LONGEST if starting is None else starting, seconds)
