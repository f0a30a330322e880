"""How are two things compared fairly, and how is that shown?

Ours and the peer's are run in turn, round after round, so that a machine that
slows down slows both.  Every row keeps the median of the rounds' ratios.
"""

import datetime
import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from kazoo.client import KazooClient

import zkfleet
from zkfleet.testing.zookeeper import ZooKeeperServer, four_letters, java

HEAD = "| what | zkfleet | peer | its figure | ratio | target |\n|---|--:|---|--:|--:|---|"


@dataclass(frozen=True, slots=True)
class Bench:
    """What every table is measured on: one real server, and a client of either kind."""

    server: ZooKeeperServer
    registry: zkfleet.Registry
    kazoo: KazooClient

    @property
    def hosts(self) -> str:
        """The connection string."""
        return self.server.hosts

    def clear(self, path: str) -> None:
        """Remove what an earlier round left."""
        if self.kazoo.exists(path):
            self.registry.delete_recursive(path, force=True)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table; empty texts are left empty."""

    what: str
    ours: str
    peer: str = ""
    theirs: str = ""
    ratio: str = ""
    target: str = ""

    def __str__(self) -> str:
        return f"| {self.what} | {self.ours} | {self.peer} | {self.theirs} | {self.ratio} | {self.target} |"


Side = tuple[Callable[[], object], Callable[[], object]]
"""What to do before the clock starts, and what to measure."""


def nothing() -> None:
    """Prepare nothing."""


def rounds(number: int, *sides: Side, warm: int = 1) -> list[list[float]]:
    """Measure some actions in turn.

    Args:
        number: of rounds that count.
        sides: what is compared.
        warm: rounds before, which do not count.

    Returns:
        For each side the seconds of its rounds, in order.
    """
    found: list[list[float]] = [[] for _ in sides]
    for turn in range(warm + number):
        for seconds, (before, action) in zip(found, sides, strict=True):
            before()
            begun = time.perf_counter()
            action()
            if turn >= warm:
                seconds.append(time.perf_counter() - begun)
    return found


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the rounds' ratios."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


def met(value: float, *, at_least: float | None = None, at_most: float | None = None) -> str:
    """Say what the target is, and whether a value meets it."""
    if at_least is not None:
        return f"at least {at_least:g}: {_verdict(value >= at_least)}"
    if at_most is not None:
        return f"at most {at_most:g}: {_verdict(value <= at_most)}"
    return ""


def _verdict(kept: bool) -> str:
    return "met" if kept else "**missed**"


def rates(
    what: str,
    ours: Sequence[float],
    peer: str,
    theirs: Sequence[float],
    *,
    number: int,
    theirs_number: int | None = None,
    at_least: float | None = None,
) -> Row:
    """Compare how many nodes a second two sides did: `number` of them in each round's seconds."""
    other = theirs_number or number
    quotient = ratio([number / seconds for seconds in ours], [other / seconds for seconds in theirs])
    mine, its = number / statistics.median(ours), other / statistics.median(theirs)
    return Row(what, f"{mine:,.0f}/s", peer, f"{its:,.0f}/s", f"{quotient:.2f}", met(quotient, at_least=at_least))


def times(what: str, ours: Sequence[float], peer: str, theirs: Sequence[float], *, at_most: float | None = None) -> Row:
    """Compare the seconds that two sides took."""
    part = ratio(ours, theirs)
    mine, its = statistics.median(ours), statistics.median(theirs)
    return Row(what, shown(mine), peer, shown(its), f"{part:.2f}", met(part, at_most=at_most))


def bounded(what: str, value: float, limit: float, unit: str = "", *, peer: str = "", theirs: str = "") -> Row:
    """Compare a figure with a limit, whatever a peer's may be."""
    text = f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"
    mark = f" {unit}" if unit else ""
    return Row(what, text + mark, peer, theirs, target=f"at most {limit:g}{mark}: {_verdict(value <= limit)}")


def shown(seconds: float) -> str:
    """Return seconds as people read them."""
    if seconds >= 1:
        return f"{seconds:,.2f} s"
    return f"{seconds * 1000:,.1f} ms" if seconds >= 0.01 else f"{seconds * 1000:.2f} ms"


def table(rows: Iterable[Row]) -> str:
    """Return rows as a Markdown table."""
    return "\n".join([HEAD, *map(str, rows)])


def machine(server: ZooKeeperServer) -> str:
    """Say what something is measured on, when, and what else was going on there."""
    line = re.search(r"version: ([0-9.]+)", four_letters(server.port, "srvr"))
    runtime = subprocess.run([java(), "-version"], capture_output=True, text=True, check=True).stderr.splitlines()[0]
    return (
        f"Measured on {datetime.date.today()}: {os.cpu_count()} cores, {platform.system()} on {platform.machine()}, "
        f"Python {platform.python_version()}, kazoo {version('kazoo')}, ZEO {version('ZEO')}, "
        f"ZooKeeper {line[1] if line else 'unknown'}, Java {runtime.replace('version ', '').replace(chr(34), '')}, "
        f"all on one machine over loopback, where the load was {os.getloadavg()[0]:.1f} before."
    )
