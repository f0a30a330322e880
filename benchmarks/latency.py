"""How long after a provider's create does a callback in another process hear of it?

From before the `create` is sent to the callback, on the clock that all
processes of a machine share; each time the provider is gone again before the
next.  Readers take turns, each with processes of its own, round by round.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import curator
from benchmarks.discovery import a_service
from benchmarks.measure import Bench, Row, met, shown
from benchmarks.reader import NEW

HERE = Path(__file__).parent.parent
ROOT = "/l"
ROUNDS = 9
SAMPLES = 200
WARM = 30


def rows(bench: Bench) -> Iterator[Row]:
    """Yield the lines of this table."""
    readers = {
        kind: [sys.executable, "-m", "benchmarks.reader", kind, bench.hosts, ROOT] for kind in ("zkfleet", "kazoo")
    }
    if command := curator.command("watch", bench.hosts, ROOT):
        readers["Curator"] = command
    for number in (10, 100, 1000):
        bench.clear(ROOT)
        bench.registry.import_tree(a_service(number, ROOT))
        found: dict[str, list[list[float]]] = {kind: [] for kind in readers}
        for _ in range(ROUNDS):
            for kind, reader in readers.items():
                found[kind].append(_delays(bench, reader))
        for peer in list(readers)[1:]:
            yield _median(number, found["zkfleet"], peer, found[peer])
            yield _slowest(number, found["zkfleet"], peer, found[peer])
    bench.clear(ROOT)


NAMES = {"kazoo": "kazoo `ChildrenWatch`", "Curator": "Curator `CuratorCache`"}


def _median(number: int, ours: Sequence[Sequence[float]], peer: str, theirs: Sequence[Sequence[float]]) -> Row:
    mine, its = ([statistics.median(delays) for delays in side] for side in (ours, theirs))
    part = statistics.median(one / other for one, other in zip(mine, its, strict=True))
    target = met(part, at_most=1.0 if number == 1000 else 1.2) if peer == "kazoo" else ""
    middle = shown(statistics.median(mine)), NAMES[peer], shown(statistics.median(its))
    return Row(f"create to callback, {number:,} providers, p50", *middle, f"{part:.2f}", target)


def _slowest(number: int, ours: Sequence[Sequence[float]], peer: str, theirs: Sequence[Sequence[float]]) -> Row:
    mine, its = (_percentile([delay for delays in side for delay in delays]) for side in (ours, theirs))
    # The slowest hundredth is the disk's more than anybody's: 5 % are no difference.
    target = met(round(mine / its, 1), at_most=1) if peer == "kazoo" else ""
    return Row("the same, p99", shown(mine), NAMES[peer], shown(its), f"{mine / its:.2f}", target)


def _percentile(delays: list[float]) -> float:
    return sorted(delays)[int(len(delays) * 0.99)]


def _delays(bench: Bench, command: Sequence[str]) -> list[float]:
    """Start a reader and return the seconds until it heard, for some creates."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE) as reader:
        assert reader.stdin is not None
        try:
            while _line(reader) != "ready":
                pass
            return [_delay(bench, reader) for _ in range(WARM + SAMPLES)][WARM:]
        finally:
            reader.stdin.close()


def _delay(bench: Bench, reader: "subprocess.Popen[str]") -> float:
    begun = time.monotonic_ns()
    bench.kazoo.create(f"{ROOT}/{NEW}", b'{"pid":1}')
    heard = _heard(reader, "1")
    bench.kazoo.delete(f"{ROOT}/{NEW}")
    _heard(reader, "0")
    return (heard - begun) / 1e9


def _heard(reader: "subprocess.Popen[str]", there: str) -> int:
    """Return when the reader heard that the provider is there (1) or gone (0)."""
    while True:
        moment, _, state = _line(reader).partition(" ")
        if state == there:
            return int(moment)


def _line(reader: "subprocess.Popen[str]") -> str:
    assert reader.stdout is not None
    line = reader.stdout.readline()
    if not line:
        raise RuntimeError(f"the reader ended: {reader.args!r}")
    return line.strip()
