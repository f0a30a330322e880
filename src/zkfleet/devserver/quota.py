"""How much is below a node that has a quota?

A quota on `/a` is two znodes, `/zookeeper/quota/a/zookeeper_limits` and
`.../zookeeper_stats`; while the first is there the server keeps count in the
data of the second.  Nobody is held to a limit: that is off by default in
ZooKeeper, too.  Each change returns how to take it back.

Source: `Quotas`, `StatsTrack` and `DataTree` of ZooKeeper 3.8.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

ROOT = "/zookeeper/quota"
LIMITS, STATS = "zookeeper_limits", "zookeeper_stats"
Undo = Callable[[], object]
_FIRST = ("count", "bytes")
_NUMBERS = re.compile(r"(\w+)=(-?[0-9]{1,18})(?![0-9])")


class HasData(Protocol):
    """A znode, as far as it matters here."""

    data: bytes | None
    children: dict[str, None] | None


class Quotas:
    """Keeps the counts that are below `/zookeeper/quota`."""

    def __init__(self, nodes: Mapping[str, HasData]) -> None:
        self._nodes = nodes
        self._limited: set[str] = set()

    def created(self, path: str, data: bytes | None) -> list[Undo]:
        """Count a znode that was made."""
        above, _, name = path.rpartition("/")
        undo: list[Undo] = []
        if above.startswith(ROOT):
            limited = above.removeprefix(ROOT)
            if name == LIMITS and limited:
                self._limited.add(limited)
                undo.append(partial(self._limited.discard, limited))
            elif name == STATS:
                count, size = self._count(limited or "/")
                self._nodes[path].data = _spell({"count": count, "bytes": size})
        return undo + self._add(path, 1, len(data or b""))

    def restored(self, path: str) -> None:
        """Take note of a znode of an earlier run: the counts are in its data."""
        above, _, name = path.rpartition("/")
        if name == LIMITS and above.startswith(f"{ROOT}/"):
            self._limited.add(above.removeprefix(ROOT))

    def deleted(self, path: str, data: bytes | None) -> list[Undo]:
        """Count a znode that was taken out."""
        above, _, name = path.rpartition("/")
        undo: list[Undo] = []
        limited = above.removeprefix(ROOT)
        if above.startswith(ROOT) and name == LIMITS and limited in self._limited:
            self._limited.discard(limited)
            undo.append(partial(self._limited.add, limited))
        return undo + self._add(path, -1, -len(data or b""))

    def changed(self, path: str, before: bytes | None, after: bytes | None) -> list[Undo]:
        """Count the data of a znode that were set."""
        return self._add(path, 0, len(after or b"") - len(before or b""))

    def _add(self, path: str, count: int, size: int) -> list[Undo]:
        limited = self._limited and self._limit_above(path)
        stats = self._nodes.get(f"{ROOT}{limited}/{STATS}") if limited else None
        if stats is None:
            return []
        before = stats.data
        numbers = _read(before or b"")
        numbers["count"] = numbers.get("count", -1) + count
        numbers["bytes"] = numbers.get("bytes", -1) + size
        stats.data = _spell(numbers)
        return [partial(setattr, stats, "data", before)]

    def _limit_above(self, path: str) -> str:
        while path and path not in self._limited:
            path = path.rpartition("/")[0]
        return path

    def _count(self, path: str) -> tuple[int, int]:
        """Return how many znodes there are at and below a path, and the size of their data."""
        count = size = 0
        to_visit = [path]
        while to_visit:
            path = to_visit.pop()
            node = self._nodes.get(path)
            if node is not None:
                count, size = count + 1, size + len(node.data or b"")
                to_visit += [f"{path.rstrip('/')}/{name}" for name in node.children or ()]
        return count, size


def _read(data: bytes) -> dict[str, int]:
    """Return the numbers in the data of a quota's znode, as far as these are any: clients may write there."""
    return {name: int(number) for name, number in _NUMBERS.findall(data.decode(errors="replace"))}


def _spell(numbers: Mapping[str, int]) -> bytes:
    text = ",".join(f"{name}={numbers.get(name, -1)}" for name in _FIRST)
    more = [f";{name}={numbers[name]}" for name in sorted(numbers) if name not in _FIRST]
    return (text + ("=" + "".join(more) if more else "")).encode()
