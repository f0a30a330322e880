"""What did zc.z3monitor say of a process and its databases?

Its four commands, to the letter: scripts read their lines.  `databases`,
`connections` and `zeoclient` tell more, and say what is what.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from zkfleet.errors import BadInput
from zkfleet.monitor.answers import Answer, Column, Kind, Value, fields, lines
from zkfleet.monitor.commands import Between, command
from zkfleet.monitor.databases import databases, debug_info, open_connections

DATABASE = Column("database", "Its name; `-` is the main one.", kind=Kind.LABEL)
DBINFO = [
    DATABASE,
    Column("loads", "Objects loaded by connections that were closed in the interval.", kind=Kind.GAUGE),
    Column("stores", "Objects that they stored.", kind=Kind.GAUGE),
    Column("connections", "How many were closed in it.", kind=Kind.GAUGE),
    Column("objects", "Objects in the caches of all connections.", kind=Kind.GAUGE),
    Column("loaded", "Those of them that are no ghosts.", kind=Kind.GAUGE),
]
ZEOCACHE = [
    DATABASE,
    Column("added", "Records put into the cache.", kind=Kind.COUNTER),
    Column("added_size", "Their size.", "bytes", Kind.COUNTER),
    Column("evicted", "Records thrown out of it.", kind=Kind.COUNTER),
    Column("evicted_size", "Their size.", "bytes", Kind.COUNTER),
    Column("accesses", "How often it had what it was asked for.", kind=Kind.COUNTER),
]
_STATUS = Path("/proc/self/status")


@command("monitor")
def monitor(seconds: Annotated[float, Between(0)] = 100, db: str = "") -> Answer:
    """Count open connections, tell the memory, list old connections.

    Connections are of one database, the main one by default; old ones are open
    for 100 seconds or longer, and shown with their age, debug info and number of
    objects.  `monitor 0` shows all of them.
    """
    opened = open_connections(databases.named(db))
    now = time.time()
    aged = sorted((max(0.0, round(now - since, 2)), _info(one)) for one in opened if (since := one.opened))
    old = [f"{age} {info}" for age, info in aged if age >= seconds]
    return lines(str(len(opened)), *_memory(), *old)


def _info(connection: Any) -> str:
    said = debug_info(connection)
    shown = said[0] if len(said) == 1 else tuple(said) or ""
    return f"{shown} ({len(connection._cache)})"


def _memory() -> list[str]:
    if not _STATUS.exists():
        return []
    said = _STATUS.read_text().splitlines()
    return [line.strip() for line in said if line.startswith(("VmSize:", "VmRSS:"))]


@command("dbinfo", columns=DBINFO)
def dbinfo(db: str = "", seconds: Annotated[int, Between(0)] = 300) -> Answer:
    """Tell a database's activity and caches in one line.

    These are loads and stores of the connections that were closed in the last
    five minutes, or another number of seconds up to an hour; how many were
    closed; objects in all caches, and those that are no ghosts.  `-` is the main
    database.
    """
    database = databases.named(db)
    activity, now = database.getActivityMonitor(), time.time()
    found = activity and activity.getActivityAnalysis(now - seconds, now, 1)[0]
    sizes = database.cacheDetailSize()
    counted = [found[name] if found else -1 for name in ("loads", "stores", "connections")]
    values = [*counted, sum(one["size"] for one in sizes), sum(one["ngsize"] for one in sizes)]
    return _in_one_line(DBINFO, db, values)


@command("zeocache", columns=ZEOCACHE)
def zeocache(db: str = "") -> Answer:
    """Tell what a ZEO client's cache did, in one line.

    These are records added to the cache and their bytes, records evicted from
    it and their bytes, and how often it had what it was asked for.
    """
    from zkfleet.zeo import cache_statistics

    return _in_one_line(ZEOCACHE, db, cache_statistics(_of_zeo(db)))


def _in_one_line(columns: Sequence[Column], db: str, numbers: Sequence[int]) -> Answer:
    names = [column.name for column in columns]
    values: dict[str, Value] = dict(zip(names, (db or "-", *numbers), strict=True))
    return fields(columns, values, text=" ".join(map(str, numbers)) + "\n")


@command("zeostatus")
def zeostatus(db: str = "") -> Answer:
    """Say whether a ZEO client has a server: `True` or `False`."""
    return lines(str(bool(_of_zeo(db).is_connected())))


def _of_zeo(db: str) -> Any:
    with databases.opened(db) as database:
        storage = database.storage
    if not hasattr(storage, "is_connected"):
        raise BadInput(f"the database {db or '-'!r} has no ZEO server", hint="its storage is of this process alone")
    return storage
