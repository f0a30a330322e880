"""What do the databases of this process hold, and who uses them?"""

import sys
import threading
import time
from typing import Annotated, Any, Literal

from zkfleet.errors import BadInput
from zkfleet.monitor.answers import Answer, Column, Kind, Value, lines, lines_of, table
from zkfleet.monitor.commands import Between, command
from zkfleet.monitor.databases import connections, databases, debug_info, open_connections, watch
from zkfleet.monitor.stacks import stack
from zkfleet.monitor.users import users
from zkfleet.monitor.wording import as_text

DATABASE = Column("database", "Its name; `-` is the main one.", kind=Kind.LABEL)
DATABASES = [
    DATABASE,
    Column("open", "Whether it is; of one that was closed nothing else is known.", kind=Kind.GAUGE),
    Column("storage", "What its storage calls itself."),
    Column("connected", "Whether its storage has a server; nothing if it needs none.", kind=Kind.GAUGE),
    Column("objects", "How many the storage says it has.", kind=Kind.GAUGE),
    Column("size", "What the storage says it takes.", "bytes", Kind.GAUGE),
    Column("loads", "Objects loaded since the database is watched.", kind=Kind.COUNTER),
    Column("stores", "Objects stored since then.", kind=Kind.COUNTER),
    Column("slow", "Transactions that took longer than a second since then.", kind=Kind.COUNTER),
    Column("connections", "Connections in use.", kind=Kind.GAUGE),
]
CONNECTIONS = [
    DATABASE,
    Column("age", "Since when it is in use.", "seconds"),
    Column("info", "What was said with `setDebugInfo`; of a request of Zope its method and path."),
    Column("objects", "Objects in its cache."),
    Column("loaded", "Those of them that are no ghosts."),
    Column("loads", "Objects loaded since it was opened."),
    Column("stores", "Objects stored since then."),
    Column("before", "The time it looks back to, if it does."),
]
STACKS = [
    *CONNECTIONS,
    Column("thread", "The name of the thread that uses it, if one is found that does."),
    Column("stack", "Where that thread is, the innermost call last; a line for each."),
]
EVERY = "*"
POOL = [
    DATABASE,
    Column("size", "Connections that may be in use before the log has a warning.", kind=Kind.GAUGE),
    Column("in_use", "Connections in use.", kind=Kind.GAUGE),
    Column("waiting", "Connections that wait to be used again.", kind=Kind.GAUGE),
    Column("cache_size", "Objects that a connection's cache is to hold.", kind=Kind.GAUGE),
    Column("cache_bytes", "Bytes that it is to hold; 0 for any.", "bytes", Kind.GAUGE),
]
CACHE = [Column("class", "Of these.", kind=Kind.LABEL), Column("objects", "In all caches.", kind=Kind.GAUGE)]
PACK_DEADLINE = 24 * 3600.0


@command("databases", columns=DATABASES)
def list_databases() -> Answer:
    """List the databases of this process."""
    return table(DATABASES, [_told(name) for name in sorted(databases)])


def _told(name: str) -> dict[str, Value]:
    try:
        with databases.opened(name) as database:
            return {"database": name or "-", "open": True, **_of_open(database)}
    except BadInput:
        return {"database": name or "-", "open": False}


def _of_open(database: Any) -> dict[str, Value]:
    watched = watch(database)
    loads, stores = watched.transfers()
    storage = database.storage
    is_connected = getattr(storage, "is_connected", None)
    return {
        "storage": str(database.getName()),
        "connected": is_connected and bool(is_connected()),
        "objects": _or_nothing(storage, "__len__"),
        "size": _or_nothing(storage, "getSize"),
        "loads": loads,
        "stores": stores,
        "slow": watched.history.slow_ones,
        "connections": len(open_connections(database)),
    }


def _or_nothing(storage: Any, method: str) -> int | None:
    """Return what a storage says, or None: not every one has a length and a size."""
    try:
        found: int = getattr(storage, method)()
    except (AttributeError, NotImplementedError):
        return None
    return found


@command("connections", columns=STACKS)
def list_connections(
    seconds: Annotated[float, Between(0)] = 0, db: str = EVERY, stacks: Literal["stacks"] | None = None
) -> Answer:
    """List the connections that have been in use for so many seconds, the oldest first.

    Those of all databases, `*`, or of one; `-` is the main one. With the word `stacks` also
    the thread that uses each, and where it is.
    """
    now = time.time()

    def look(name: str, database: Any) -> list[tuple[float, Any, dict[str, Value]]]:
        opened = [(since, one) for one in open_connections(database) if (since := one.opened)]
        aged = [(since, one, max(0.0, now - since)) for since, one in opened]  # the clock may have gone back
        return [(since, one, _connection(name, one, age)) for since, one, age in aged if age >= seconds]

    found = sorted(databases.seen(None if db == EVERY else db, look), key=lambda one: one[0])
    rows = [row for _, _, row in found]
    if stacks is None:
        return table(CONNECTIONS, rows)
    used = _used([connection for _, connection, _ in found])
    rows = [{**row, **more} for row, more in zip(rows, used, strict=True)]
    return table(STACKS, rows, text="".join(map(_with_stack, rows)) or as_text(table(CONNECTIONS, [])))


def _used(opened: list[Any]) -> list[dict[str, Value]]:
    """Return who uses each connection, and where that thread is."""
    by_connection, frames = users(opened), sys._current_frames()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    found: list[dict[str, Value]] = []
    for connection in opened:
        ident = by_connection.get(id(connection))
        if ident is None or ident not in frames:
            found.append({"thread": None, "stack": []})
        else:
            found.append({"thread": names.get(ident, str(ident)), "stack": stack(frames[ident])})
    return found


def _with_stack(row: dict[str, Value]) -> str:
    calls = row["stack"]
    assert isinstance(calls, list)
    told = table(CONNECTIONS, [{name: value for name, value in row.items() if name not in ("thread", "stack")}])
    return as_text(told) + lines_of([f"  in thread {row['thread'] or '?'}", *(f"    {line}" for line in calls)])


def _connection(name: str, connection: Any, age: float) -> dict[str, Value]:
    loads, stores = connection.getTransferCounts()
    return {
        "database": name,
        "age": round(age, 3),
        "info": " ".join(debug_info(connection)),
        "objects": len(connection._cache),
        "loaded": connection._cache.cache_non_ghost_count,
        "loads": loads,
        "stores": stores,
        "before": connection.before and str(connection.before),
    }


@command("pool", columns=POOL)
def pool() -> Answer:
    """Show the connection pool of every open database."""
    return table(POOL, databases.seen(None, _pool))


def _pool(name: str, database: Any) -> list[dict[str, Value]]:
    used = len(open_connections(database))
    return [
        {
            "database": name,
            "size": database.getPoolSize(),
            "in_use": used,
            "waiting": max(0, len(connections(database)) - used),
            "cache_size": database.getCacheSize(),
            "cache_bytes": database.getCacheSizeBytes(),
        }
    ]


@command("cache", metrics=False, columns=CACHE)
def cache(db: str = "") -> Answer:
    """Count the objects in the caches of a database by class, the most frequent first."""
    with databases.opened(db) as database:
        found = sorted(database.cacheDetail(), key=lambda one: (-one[1], one[0]))
    return table(CACHE, [{"class": name, "objects": count} for name, count in found])


def _deadline(days: float, db: str, seconds: float = PACK_DEADLINE) -> float:
    return seconds


@command("pack", action=True, deadline=_deadline)
def pack(
    days: Annotated[float, Between(0)], db: str, seconds: Annotated[float, Between(0.01)] = PACK_DEADLINE
) -> Answer:
    """Pack a database: forget what is older than so many days, and what nothing refers to.

    It answers when that is done, or after so many seconds, a day by default; then
    it goes on all the same.  `-` is the main database.
    """
    with databases.opened(db) as database:
        before = _or_nothing(database.storage, "getSize")
        database.pack(days=days)
        return lines(f"packed {db}: {before} bytes, now {_or_nothing(database.storage, 'getSize')}")


# A connection is for one thread: those in use are left to theirs.
@command("minimize", action=True)
def minimize(db: str = "") -> Answer:
    """Empty the caches of the connections that wait in the pool; those in use are left alone."""
    done = 0
    with databases.opened(db) as database:
        for connection in connections(database):
            with database._lock:  # nobody opens it meanwhile
                if not connection.opened:
                    connection.cacheMinimize()
                    done += 1
    return lines(f"minimized {db or '-'}: caches of {done} connections")
