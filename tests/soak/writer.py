"""A client that writes numbered transactions until it is told to end: HOSTS PATH NAME FOLDER.

What it tries, what is acknowledged, what fails and what `outcome` says of it is
a line each in FOLDER/NAME.log, by the clock that all processes share.  A number
is never tried twice.
"""

import sys
import time
from pathlib import Path

import transaction
from BTrees.OOBTree import OOBTree

from zkfleet import zeo

STOP = "stop"
PAUSE = 0.02


def main(hosts, path, name, folder):
    folder = Path(folder)
    db = zeo.DB(hosts, path, wait_timeout=5, ping_interval=1, ping_timeout=1)
    with (folder / f"{name}.log").open("a", buffering=1) as log:

        def say(what, *words):
            log.write(" ".join([f"{time.monotonic():.6f}", what, *map(str, words)]) + "\n")

        number = 0
        while not (folder / STOP).exists():
            number += 1
            say("tried", number)
            write(db, name, number, say)
            time.sleep(PAUSE)
        say("ended", number)
    db.close()


def write(db, name, number, say):
    manager = transaction.TransactionManager(explicit=True)
    begun = manager.begin()
    begun.note(f"{name}:{number}")
    marker = zeo.mark(begun)
    connection = None
    try:
        connection = db.open(manager)
        connection.root().setdefault(name, OOBTree())[number] = number
        manager.commit()
    except Exception as exc:
        manager.abort()
        say("failed", number, type(exc).__name__)
        if number % 2:
            say("outcome", number, zeo.outcome(db, marker, timeout=10).outcome.name)
    else:
        say("acknowledged", number)
    finally:
        if connection is not None:
            connection.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
