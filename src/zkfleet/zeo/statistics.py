"""What does a ZEO client know of its cache, and of its server?

Works for every `ClientStorage`, ours or ZEO's own, and asks no server.  When it
had none only ours remember.  What ZEO's thread changes is read from others
without a lock: single attributes and lengths, each whole by itself.
"""

import os
import re
import time
from dataclasses import dataclass
from typing import Any

from zkfleet.endpoints import Endpoint
from zkfleet.zeo.insides import Repair, is_on, require

CACHE = Repair(
    "a client's cache tells what it did",
    without="nobody can ask",
    needs=(
        "ZEO.ClientStorage:ClientStorage.__init__ sets _cache, _server, _storage",
        "ZEO.ClientStorage:ClientStorage.set_server_addr sets _server_addr",
        "ZEO.cache:ClientCache.getStats",
        "ZEO.cache:ClientCache.__len__",
        "ZEO.cache:ClientCache.__init__ sets f, maxsize",
    ),
)
IN_FLIGHT = Repair(
    "a client tells how many replies it waits for",
    without="it is not known",
    needs=(
        "ZEO.asyncio.client:ClientRunner.setup_delegation sets client",
        "ZEO.asyncio.client:ClientIO.protocol",
        "ZEO.asyncio.client:Protocol.__init__ sets futures",
    ),
)
RECONNECTS = Repair(
    "ZEO's own client tells how often it connected again",
    without="it is known of clients that follow the registry alone",
    needs=("ZEO.ClientStorage:ClientStorage._connection_generation",),
)
BLOCK = 512
"""Bytes, in which `stat` counts what a file takes, whatever the disk's own blocks are."""


_PAIR = re.compile(r"\('(?P<host>[^']*)', (?P<port>\d+)(?:, .*)?\)")


class Outages:
    """How often a client lost its server, and for how long; times come in as seconds of a monotonic clock.

    Attributes:
        number: of outages.
        seconds: those of outages that are over.
        reconnects: how often there was a server after the first; -1 before that.
    """

    def __init__(self) -> None:
        self.number, self.seconds, self.reconnects = 0, 0.0, -1
        self._connected: float | None = None
        self._lost: float | None = None

    def begun(self, now: float) -> None:
        """The server is gone; to be told of it twice is fine."""
        if self._connected is not None:
            self._connected, self._lost = None, now
            self.number += 1

    def over(self, now: float) -> None:
        """There is a server, again or for the first time; a change to another without a gap is none."""
        self.reconnects += 1
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
        in_flight: requests sent whose reply is awaited; None if it is not known.
        reconnects: how often it had a server after its first; None if it is not known.
        storage: its storage's name on the server.
    """

    server: str
    connected: bool
    connected_for: float | None = None
    outages: int | None = None
    outage: float | None = None
    misses: int | None = None
    in_flight: int | None = None
    reconnects: int | None = None
    storage: str = ""


@dataclass(frozen=True, slots=True)
class CacheState:
    """A client's cache.

    Attributes:
        limit: bytes that its file may have.
        used: bytes that its file takes on the disk; None once it is closed.
        objects: how many are in it, the revisions of one counted each.
    """

    limit: int
    used: int | None
    objects: int


def client_state(storage: Any) -> ClientState:
    """Tell of any `ClientStorage`; what only a following one remembers is None for others."""
    require(CACHE)
    server, connected = _shown(str(storage._server_addr or "")), bool(storage.is_connected())
    waits = _in_flight(storage)
    known: Outages | None = getattr(storage, "outages", None)
    if known is None:
        return ClientState(
            server, connected, in_flight=waits, reconnects=_reconnects(storage), storage=storage._storage
        )
    return ClientState(
        server,
        connected,
        known.connected(now := time.monotonic()),
        known.number,
        known.total(now),
        getattr(storage._server, "misses", None),
        waits,
        max(0, known.reconnects),
        storage._storage,
    )


def _in_flight(storage: Any) -> int | None:
    if not is_on(IN_FLIGHT):
        return None
    protocol = storage._server.client.protocol
    return 0 if protocol is None else len(protocol.futures)


# ZEO counts a generation with every server and another with its loss.
def _reconnects(storage: Any) -> int | None:
    return max(0, storage._connection_generation - 1) // 2 if is_on(RECONNECTS) else None


def cache_state(storage: Any) -> CacheState:
    """Tell how full the cache of any `ClientStorage` is.

    The file is sparse: it takes what was once written of it.  ZEO writes on from
    where it was to the end and begins anew, so that is the limit from then on.
    """
    require(CACHE)
    cache = storage._cache
    return CacheState(cache.maxsize, _on_disk(cache.f), len(cache))


def _on_disk(file: Any) -> int | None:
    try:
        return None if file is None else os.fstat(file.fileno()).st_blocks * BLOCK
    except ValueError:  # it was closed in this moment
        return None


def _shown(address: str) -> str:
    """Return a client's spelling of an address, `('::1', 8100)`, as all others have it; a Unix socket is as it is."""
    pair = _PAIR.fullmatch(address)
    return address if pair is None else str(Endpoint(pair["host"], int(pair["port"])))


def cache_statistics(storage: Any) -> tuple[int, int, int, int, int]:
    """Return records and bytes added to a client's cache, the same evicted from it, and how often it was hit."""
    require(CACHE)
    added, added_size, evicted, evicted_size, accesses = storage._cache.getStats()
    return added, added_size, evicted, evicted_size, accesses
