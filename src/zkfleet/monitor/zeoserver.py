"""What goes on in the ZEO servers of this process, and who keeps them waiting?"""

import time

from zkfleet.monitor.answers import Answer, Column, Kind, Value, lines, table
from zkfleet.monitor.commands import command

TIMEOUT = 4.0
"""Seconds that all servers of a process have to answer in; less than a command has."""
SERVER = Column("server", "Where it listens.", kind=Kind.LABEL)
STORAGE = Column("storage", "The storage's name.", kind=Kind.LABEL)
ZEOSERVER = [
    SERVER,
    STORAGE,
    Column("clients", "Connections to the storage.", kind=Kind.GAUGE),
    Column("transactions", "Transactions under way.", kind=Kind.GAUGE),
    Column(
        "commit_lock_held", "For how long the commit lock has been held; 0 if nobody has it.", "seconds", Kind.GAUGE
    ),
    Column("commit_lock_waiting", "Transactions that wait for it.", kind=Kind.GAUGE),
    Column("loads", "Objects loaded.", kind=Kind.COUNTER),
    Column("stores", "Objects stored.", kind=Kind.COUNTER),
    Column("commits", "Transactions committed.", kind=Kind.COUNTER),
    Column("aborts", "Transactions given up.", kind=Kind.COUNTER),
    Column("conflicts", "Conflicts that clients were told of.", kind=Kind.COUNTER),
    Column("resolved", "Conflicts that were resolved.", kind=Kind.COUNTER),
    Column("last", "The last transaction, 16 hex digits."),
]
CLIENTS = [
    SERVER,
    Column("client", "Its number, which `kick` takes."),
    Column("peer", "Its address."),
    Column("storage", "What it uses."),
    Column("connected", "For how long it has been connected.", "seconds"),
    Column("lock", "Whether it holds the commit lock, or waits for it."),
]
LOCKS = [
    SERVER,
    Column("storage", "What the lock is of."),
    Column("lock", "Whether the client holds it, or waits for it."),
    Column("client", "Its number, which `kick` takes."),
    Column("peer", "Its address."),
    Column("held", "For how long it has held the lock.", "seconds"),
    Column("user", "Who its transaction is by."),
    Column("description", "What its transaction is for."),
]
INVALIDATIONS = [
    SERVER,
    STORAGE,
    Column("held", "Transactions of which a client that was away can be told.", kind=Kind.GAUGE),
    Column("most", "How many it may be.", kind=Kind.GAUGE),
    Column("oldest", "The first of them: who was away for longer verifies its whole cache."),
    Column("newest", "The last of them."),
]
_STATUS = {
    "clients": "connections",
    "transactions": "active_txns",
    "commit_lock_waiting": "waiting",
    **{name: name for name in ("loads", "stores", "commits", "aborts", "conflicts")},
    "resolved": "conflicts_resolved",
    "last": "last-transaction",
}
"""What a server calls these columns."""


@command("zeoserver", columns=ZEOSERVER)
def zeoserver() -> Answer:
    """Show what the ZEO servers of this process serve, and what they have done."""
    from zkfleet.zeo import look_inside

    rows: list[dict[str, Value]] = []
    for server in look_inside(TIMEOUT):
        held = {one.storage: round(one.held, 3) for one in server.clients if one.held is not None}
        for name, said in server.storages.items():
            told = {column: said[key] for column, key in _STATUS.items()}
            rows.append({"server": server.address, "storage": name, "commit_lock_held": held.get(name, 0.0), **told})
    return table(ZEOSERVER, rows)


@command("clients", columns=CLIENTS)
def clients() -> Answer:
    """List the clients of the ZEO servers of this process, the oldest first."""
    from zkfleet.zeo import look_inside

    now, rows = time.time(), []
    for server in look_inside(TIMEOUT):
        for one in server.clients:
            told: dict[str, Value] = {"server": server.address, "client": one.number, "peer": one.peer}
            rows.append(told | {"storage": one.storage, "connected": round(now - one.since, 3), "lock": one.lock})
    return table(CLIENTS, rows)


@command("locks", columns=LOCKS)
def locks() -> Answer:
    """Show who holds the commit locks of the ZEO servers of this process, and who waits for them."""
    from zkfleet.zeo import look_inside

    rows: list[dict[str, Value]] = []
    for server in look_inside(TIMEOUT):
        for one in sorted((one for one in server.clients if one.lock), key=lambda one: (one.storage, one.lock)):
            rows.append(
                {
                    "server": server.address,
                    "storage": one.storage,
                    "lock": one.lock,
                    "client": one.number,
                    "peer": one.peer,
                    "held": one.held and round(one.held, 3),
                    "user": one.user,
                    "description": one.description,
                }
            )
    return table(LOCKS, rows, text=None if rows else "nobody holds a commit lock\n")


@command("invalidations", columns=INVALIDATIONS)
def invalidations() -> Answer:
    """Show of which transactions a client that was away can be told."""
    from zkfleet.zeo import look_inside

    rows: list[dict[str, Value]] = []
    for server in look_inside(TIMEOUT):
        for one in server.invalidations:
            told: dict[str, Value] = {"server": server.address, "storage": one.storage, "held": one.held}
            rows.append(told | {"most": one.most, "oldest": one.oldest, "newest": one.newest})
    return table(INVALIDATIONS, rows)


@command("kick", action=True)
def kick(client: int) -> Answer:
    """Close a client's connection to a ZEO server of this process: `kick 12`, as `clients` numbers them.

    What it had begun is aborted and its lock given back; it may connect again.
    """
    from zkfleet.zeo import kick as close

    return lines(f"kicked {client}: {close(client, TIMEOUT)}")
