"""Which transactions took long?"""

import time
from collections.abc import Iterator
from typing import Annotated

from zkfleet.monitor.answers import Answer, Column, Value, table
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


def _histories() -> Iterator[tuple[str, History]]:
    """Yield what is known of each database."""
    for name, database in sorted(databases.items()):
        yield name or "-", watch(database).history
