"""A client that writes at random over a link that breaks, and notes how each operation ended.

python -m tests.faults.client HOSTS NAME SEED SECONDS LOG
"""

import random
import sys
import time

import zkfleet
from tests.faults.history import APPEND, DONE, MAKE, NOT_DONE, PUT, TAKE, UNKNOWN
from zkfleet.errors import NotConnected, OutcomeUnknown, WaitTimedOut, ZkfleetError

COUNTERS, NODES = 2, 40
LOGS = "".join(f"/log{number}\n  names = []\n" for number in range(COUNTERS))
TREE = LOGS + "".join(f"/counter{number}\n  n = 0\n" for number in range(COUNTERS)) + "/set\n/links\n/nodes\n"
KINDS = ["count"] * 4 + ["append"] * 2 + ["put", "take", "take", "ln", "unlink", "unlink", "make"]
SESSION_TIMEOUT, TIMEOUT = 2.0, 2.5


class Client:
    """One process's registry, and what it does with it."""

    def __init__(self, registry, name, seed, log):
        self.registry, self.name, self.log = registry, name, log
        self.random, self.number = random.Random(seed), 0

    def step(self):
        """Do one operation."""
        self.number += 1
        fresh = f"{self.name}-{self.number}"
        kind = self.random.choice(KINDS)
        match kind:
            case "count":
                # All clients write the same content: nothing in it tells whose it is.
                name = f"counter{self.random.randrange(COUNTERS)}"
                self.note(APPEND, name, lambda: self.change(f"/{name}", lambda before: {"n": before["n"] + 1}))
            case "append":
                at = f"/log{self.random.randrange(COUNTERS)}"
                self.note(APPEND, fresh, lambda: self.change(at, lambda b: {"names": [*b["names"], fresh]}))
            case "put":
                self.note(PUT, f"s-{fresh}", lambda: self.change("/set", lambda before: {**before, f"s-{fresh}": 1}))
            case "take" if there := self.names("/set"):
                name = self.random.choice(there)
                self.note(TAKE, name, lambda: self.take(name))
            case "ln":
                self.note(PUT, f"l-{fresh}", lambda: self.registry.ln("/set", f"/links/l-{fresh}") is None)
            case "unlink" if there := self.names("/links"):
                name = self.random.choice(there).removesuffix(" ->")
                self.note(TAKE, name, lambda: self.registry.unlink(f"/links/{name}"))
            case "make":
                name = f"n{self.random.randrange(NODES)}-{self.number // 30}"
                self.note(MAKE, name, lambda: self.registry.make_node(f"/nodes/{name}"))

    def note(self, kind, name, operation):
        """Do an operation; `operation()` tells whether it happened."""
        self.log.write(f"begin {kind} {name}\n")
        self.log.flush()
        try:
            outcome = DONE if operation() else NOT_DONE
        except OutcomeUnknown:
            outcome = UNKNOWN
        except (NotConnected, WaitTimedOut):
            outcome = NOT_DONE
        self.log.write(f"end {outcome}\n")
        self.log.flush()

    def change(self, path, change):
        self.registry.change_properties(path, change)
        return True

    def take(self, name):
        def without(before):
            del before[name]
            return before

        try:
            self.registry.change_properties("/set", without)
        except KeyError:
            return False
        return True

    def names(self, path):
        try:
            return sorted(self.registry.get_properties(path))
        except ZkfleetError:
            return []


def main(hosts, name, seed, seconds, log):
    """Work for a time."""
    end = time.monotonic() + float(seconds)
    with open(log, "a", encoding="utf-8") as notes:
        registry = zkfleet.connect(hosts, session_timeout=SESSION_TIMEOUT, timeout=TIMEOUT, wait=True)
        client = Client(registry, name, int(seed), notes)
        while time.monotonic() < end:
            client.step()
        registry.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
