"""Which transactions took long, and which met conflicts?"""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Literal

from zkfleet.monitor.answers import Answer, Column, Kind, Value, table
from zkfleet.monitor.commands import Between, command
from zkfleet.monitor.databases import databases, watch
from zkfleet.monitor.history import History

DATABASE = Column("database", "Its name; `-` is the main one.")
AGO = Column("ago", "When it was over.", "seconds")
USER = Column("user", "Who it is by, as it says.")
DESCRIPTION = Column("description", "What it is for, as it says.")
THREAD = Column("thread", "The thread that ended it.")
SLOW = [
    DATABASE,
    AGO,
    Column("took", "From its begin until it was over.", "seconds"),
    Column("loads", "Objects loaded meanwhile."),
    Column("stores", "Objects stored meanwhile."),
    Column("ended", "Whether it was committed, was aborted, or failed to commit."),
    USER,
    DESCRIPTION,
    THREAD,
]
ERROR = "The class of the error."
CLASS = "The class of the object; `-` if that is not known."
CONFLICTS = [
    Column("database", "Its name; `-` is the main one.", kind=Kind.LABEL),
    Column("error", ERROR, kind=Kind.LABEL),
    Column("class", CLASS, kind=Kind.LABEL),
    Column("commits", "Commits that met such a conflict since the database is watched.", kind=Kind.COUNTER),
    Column("objects", "The objects that the last hundred conflicts were about most often, by their oids."),
]
LAST = [
    DATABASE,
    Column("ago", "When it was.", "seconds"),
    Column("error", ERROR),
    Column("class", CLASS),
    Column("oid", "The object."),
    USER,
    DESCRIPTION,
    Column("thread", "The thread that would commit."),
]
MOST_OBJECTS = 5


@command("slow", columns=SLOW)
def slow(seconds: Annotated[float, Between(0)] = 0) -> Answer:
    """List the last transactions that took longer than a second, or than so many, the newest first.

    A hundred are kept of each database.  They last from `begin` until they are
    committed or aborted; where nobody calls `begin`, from the opening of the
    connection or the end of the one before.  One whose connection is closed
    before it is over is not there, nor is what still goes on: see `connections`.
    """
    now = time.time()
    found = [(one, name) for name, history in _histories() for one in history.slow() if one.seconds > seconds]
    rows: list[dict[str, Value]] = [
        {
            "database": name,
            "ago": round(now - one.at, 3),
            "took": round(one.seconds, 3),
            "loads": one.loads,
            "stores": one.stores,
            "ended": one.ended,
            "user": one.user,
            "description": " ".join(one.description.split()),
            "thread": one.thread,
        }
        for one, name in sorted(found, key=lambda pair: -pair[0].at)
    ]
    return table(SLOW, rows)


@command("conflicts", columns=CONFLICTS)
def conflicts(what: Literal["counts", "last"] = "counts", db: str | None = None) -> Answer:
    """Count the commits that met a conflict, by error and class of object, or list the last hundred of each database.

    Those of all databases, or of one; `-` is the main one.  An attempt that is
    made again and meets a conflict again counts twice.  `ReadConflictError` is
    about an object that was read with `readCurrent`.  Not there are conflicts
    that were resolved, which ZODB keeps to itself (`zeoserver` counts them), and
    errors that are raised while an object is loaded.
    """
    return _last(db) if what == "last" else _counts(db)


def _counts(db: str | None) -> Answer:
    rows: list[dict[str, Value]] = []
    for name, history in _histories(db):
        last = history.conflicts()
        for kind, commits in sorted(history.by_kind().items(), key=lambda one: (-one[1], one[0])):
            objects = dict(Counter(one.oid for one in last if one.kind == kind and one.oid).most_common(MOST_OBJECTS))
            rows.append(
                {"database": name, "error": kind[0], "class": kind[1] or "-", "commits": commits, "objects": objects}
            )
    return table(CONFLICTS, rows)


def _last(db: str | None) -> Answer:
    now = time.time()
    found = [(one, name) for name, history in _histories(db) for one in history.conflicts()]
    rows: list[dict[str, Value]] = [
        {
            "database": name,
            "ago": round(now - one.at, 3),
            "error": one.kind[0],
            "class": one.kind[1] or "-",
            "oid": one.oid or "-",
            "user": one.user,
            "description": " ".join(one.description.split()),
            "thread": one.thread,
        }
        for one, name in sorted(found, key=lambda pair: -pair[0].at)
    ]
    return table(LAST, rows)


def _histories(db: str | None = None) -> Iterator[tuple[str, History]]:
    """Yield what is known of all databases, or of one."""
    names = sorted(databases) if db is None else [db]
    for name in names:
        database = databases[name] if db is None else databases.named(name)
        yield name or "-", watch(database).history
