"""What does a ZEO client know of its cache?

Works for every `ClientStorage`, ours or ZEO's own, and asks no server.
"""

from typing import Any

from zkfleet.zeo.insides import Repair, require

CACHE = Repair(
    "a client's cache tells what it did",
    without="nobody can ask",
    needs=("ZEO.ClientStorage:ClientStorage.__init__ sets _cache", "ZEO.cache:ClientCache.getStats"),
)


def cache_statistics(storage: Any) -> tuple[int, int, int, int, int]:
    """Return records and bytes added to a client's cache, the same evicted from it, and how often it was asked."""
    require(CACHE)
    added, added_size, evicted, evicted_size, accesses = storage._cache.getStats()
    return added, added_size, evicted, evicted_size, accesses
