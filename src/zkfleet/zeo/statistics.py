"""What does a ZEO client know of its cache, and of its server?

Works for every `ClientStorage`, ours or ZEO's own, and asks no server.  When it
had none only ours remember.
"""

import time
from dataclasses import dataclass
from typing import Any

from zkfleet.zeo.insides import Repair, require

CACHE = Repair(
    "a client's cache tells what it did",
    without="nobody can ask",
    needs=(
        "ZEO.ClientStorage:ClientStorage.__init__ sets _cache, _server",
        "ZEO.ClientStorage:ClientStorage.set_server_addr sets _server_addr",
        "ZEO.cache:ClientCache.getStats",
    ),
)


class Outages:
    """How often a client lost its server, and for how long; times come in as seconds of a monotonic clock."""

    def __init__(self) -> None:
        self.number, self.seconds = 0, 0.0
        self._connected: float | None = None
        self._lost: float | None = None

    def begun(self, now: float) -> None:
        """The server is gone; to be told of it twice is fine."""
        if self._connected is not None:
            self._connected, self._lost = None, now
            self.number += 1

    def over(self, now: float) -> None:
        """There is a server, again or for the first time; a change to another without a gap is none."""
        if self._lost is not None:
            self.seconds += now - self._lost
        self._lost = None
        if self._connected is None:
            self._connected = now

    def connected(self, now: float) -> float | None:
        """Return for how many seconds there has been a server, None if there is none."""
        since = self._connected
        return None if since is None else now - since

    def total(self, now: float) -> float:
        """Return for how many seconds there was none, one that goes on included."""
        lost = self._lost
        return self.seconds + (0.0 if lost is None else now - lost)


@dataclass(frozen=True, slots=True)
class ClientState:
    """A client, by its own account.

    Attributes:
        server: the address of its server, or of the last one; "" if there never was one.
        connected: whether it has one.
        connected_for: seconds, or None if there is no server or it is not known.
        outages: how often it lost its server; None if it is not known.
        outage: seconds that it was without one since it first had one; None if it is not known.
        misses: how often a load had to ask the server; None if it is not known.
    """

    server: str
    connected: bool
    connected_for: float | None = None
    outages: int | None = None
    outage: float | None = None
    misses: int | None = None


def client_state(storage: Any) -> ClientState:
    """Tell of any `ClientStorage`; what only a following one remembers is None for others."""
    require(CACHE)
    server, connected = str(storage._server_addr or ""), bool(storage.is_connected())
    known: Outages | None = getattr(storage, "outages", None)
    if known is None:
        return ClientState(server, connected)
    now, misses = time.monotonic(), getattr(storage._server, "misses", None)
    return ClientState(server, connected, known.connected(now), known.number, known.total(now), misses)


def cache_statistics(storage: Any) -> tuple[int, int, int, int, int]:
    """Return records and bytes added to a client's cache, the same evicted from it, and how often it was hit."""
    require(CACHE)
    added, added_size, evicted, evicted_size, accesses = storage._cache.getStats()
    return added, added_size, evicted, evicted_size, accesses
