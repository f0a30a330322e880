"""Which ZEO servers do the databases of this process use, and since when?"""

from typing import Any

from zkfleet.monitor.answers import Answer, Column, Kind, Value, table
from zkfleet.monitor.commands import command
from zkfleet.monitor.databases import databases

ZEOCLIENT = [
    Column("database", "Its name; `-` is the main one.", kind=Kind.LABEL),
    Column("storage", "The storage's name on its server.", kind=Kind.LABEL),
    Column("server", "The address of its server, or of the last one."),
    Column("connected", "Whether it has a server.", kind=Kind.GAUGE),
    Column("since", "For how long it has had one.", "seconds", Kind.GAUGE),
    Column("outages", "How often it lost its server.", kind=Kind.COUNTER),
    Column("outage", "For how long it was without, in all.", "seconds", Kind.COUNTER),
    Column("reconnects", "How often it had a server after its first.", kind=Kind.COUNTER),
    Column("in_flight", "Requests that the server has not answered yet.", kind=Kind.GAUGE),
    Column("hits", "Loads that its cache answered.", kind=Kind.COUNTER),
    Column("misses", "Loads that had to ask the server.", kind=Kind.COUNTER),
    Column("added", "Objects that were put into the cache.", kind=Kind.COUNTER),
    Column("evicted", "Objects that were thrown out of it.", kind=Kind.COUNTER),
    Column("cache_objects", "Objects in it, each revision counted.", kind=Kind.GAUGE),
    Column("cache_used", "What its file takes on the disk.", "bytes", Kind.GAUGE),
    Column("cache_limit", "What it may take.", "bytes", Kind.GAUGE),
]


@command("zeoclient", columns=ZEOCLIENT)
def zeoclient(db: str | None = None) -> Answer:
    """Show the ZEO clients of the open databases, or that of one: server, outages, cache.

    It asks no server.  Outages and misses are known of clients that follow the registry.
    """
    return table(ZEOCLIENT, databases.seen(db, _rows))


def _rows(name: str, database: Any) -> list[dict[str, Value]]:
    storage = database.storage
    if not hasattr(storage, "is_connected"):
        return []
    from zkfleet.zeo import cache_state, cache_statistics, client_state

    state, cache, (added, _, evicted, _, hits) = client_state(storage), cache_state(storage), cache_statistics(storage)
    told: dict[str, Value] = {
        "database": name,
        "storage": state.storage,
        "server": state.server,
        "connected": state.connected,
        "since": state.connected_for and round(state.connected_for, 3),
        "outages": state.outages,
        "outage": state.outage and round(state.outage, 3),
        "reconnects": state.reconnects,
        "in_flight": state.in_flight,
        "hits": hits,
        "misses": state.misses,
        "added": added,
        "evicted": evicted,
        "cache_objects": cache.objects,
        "cache_used": cache.used,
        "cache_limit": cache.limit,
    }
    return [told]
