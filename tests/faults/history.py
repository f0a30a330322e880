"""Did every operation happen as often as its client was told?  Pure.

Clients put, take, append and make things, each known by a name of its own, and
note how each operation ended.  In the end it is looked what is there.
"""

from collections import Counter, defaultdict
from typing import NamedTuple

# How an operation ended: its client was told that it happened, or that it did
# not, or that nobody knows; or the client never heard, because it was killed.
DONE, NOT_DONE, UNKNOWN = "done", "not-done", "unknown"

# What an operation does: add a name to the end of a list, put it into a set,
# take it out of the set (of many who try one succeeds), make a node (likewise).
APPEND, PUT, TAKE, MAKE = "append", "put", "take", "make"


class Operation(NamedTuple):
    """What a client did, and how it was told that it ended."""

    kind: str
    name: str
    outcome: str


def read_log(lines):
    """Read a client's log: `begin KIND NAME` and then `end OUTCOME` for each operation.

    The last one of a client that was killed has no end.
    """
    begun = None
    for words in (line.split() for line in lines if line.endswith("\n")):
        if words[0] == "begin":
            begun = words[1:3]
        else:
            yield Operation(*begun, words[1])
            begun = None
    if begun:
        yield Operation(*begun, UNKNOWN)


def breaches(operations, *, appended, present):
    """Return what is wrong, a sentence each.

    Args:
        operations: of all clients.
        appended: names in the lists, as often as they are there.
        present: names in the sets, and nodes that were made.
    """
    outcomes = defaultdict(Counter)
    for operation in operations:
        outcomes[operation.kind, operation.name][operation.outcome] += 1
    there = Counter(appended)
    for (kind, name), told in sorted(outcomes.items()):
        match kind:
            case "append":
                count = there.pop(name, 0)
                if not told[DONE] <= count <= told[DONE] + told[UNKNOWN]:
                    yield f"append {name}: {dict(told)}, and it is there {count} times"
            case "make":
                count = int(name in present)
                if not told[DONE] <= count <= told[DONE] + told[UNKNOWN] or (count and told[DONE] > 1):
                    yield f"make {name}: {dict(told)}, and it is there {count} times"
            case "put":
                yield from _put_and_taken(name, told, outcomes[TAKE, name], name in present)
            case "take" if (PUT, name) not in outcomes:
                yield f"take {name}: nobody put it there"
    for name, count in sorted(there.items()):
        yield f"{name} is there {count} times, and nobody appended it"


def _put_and_taken(name, put, taken, is_there):
    told = f"put {dict(put)}, take {dict(taken)}, and it is {'there' if is_there else 'gone'}"
    if taken[DONE] > 1:
        yield f"{name}: taken by {taken[DONE]}: {told}"
    may_be_there, may_be_gone = put[DONE] + put[UNKNOWN], put[NOT_DONE] + put[UNKNOWN] + taken[DONE] + taken[UNKNOWN]
    if is_there and (taken[DONE] or not may_be_there):
        yield f"{name}: {told}"
    if not is_there and not may_be_gone:
        yield f"{name}: {told}"
    if taken[DONE] and not may_be_there:
        yield f"{name}: taken though it was never put: {told}"
