"""Was anything lost, doubled or told wrongly?  From what writers logged and what the storage has; pure."""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class History:
    """What one writer logged.

    Attributes:
        tried, acknowledged: numbers, in order.
        outcomes: what `outcome` said, by number.
        times: of the acknowledgements, seconds.
        ended: whether it came to its end.
    """

    tried: tuple = ()
    acknowledged: tuple = ()
    outcomes: tuple = ()
    times: tuple = ()
    ended: bool = False


def history(lines):
    """Read a writer's log; a line that was cut short by its end is left out."""
    words = [line.split() for line in lines if line.endswith("\n")]
    ok = [word for word in words if word[1] == "acknowledged"]
    return History(
        tuple(int(word[2]) for word in words if word[1] == "tried"),
        tuple(int(word[2]) for word in ok),
        tuple((int(word[2]), word[3]) for word in words if word[1] == "outcome"),
        tuple(float(word[0]) for word in ok),
        any(word[1] == "ended" for word in words),
    )


def breaches(name, found, stored, read, *, last_fault):
    """Return what is wrong, a sentence each.

    Args:
        name: the writer's.
        found: its history.
        stored: how often each transaction `name:number` is in the storage.
        read: which of them a client sees.
        last_fault: when it was over; each writer must have committed since.
    """
    for number in found.acknowledged:
        if stored[f"{name}:{number}"] != 1:
            yield f"{name}:{number} was acknowledged, and is there {stored[f'{name}:{number}']} times"
    for number in set(found.tried) - set(found.acknowledged):
        if stored[f"{name}:{number}"] > 1:
            yield f"{name}:{number} was not acknowledged, and is there {stored[f'{name}:{number}']} times"
    for number, outcome in found.outcomes:
        there = stored[f"{name}:{number}"] > 0
        if (outcome == "COMMITTED" and not there) or (outcome == "NOT_COMMITTED" and there):
            yield f"{name}:{number} is said to be {outcome}, and is there {stored[f'{name}:{number}']} times"
    tried = set(found.tried)
    for key in stored:
        if key.startswith(f"{name}:") and int(key.partition(":")[2]) not in tried:
            yield f"{key} is there, and was never tried"
    for key in sorted(key for key in stored.keys() ^ read if key.startswith(f"{name}:")):
        yield f"{key} is {'stored, and no client sees it' if key in stored else 'seen by a client, and not stored'}"
    if not found.ended:
        yield f"{name} did not end"
    if not any(at > last_fault for at in found.times):
        yield f"{name} is stuck: nothing was acknowledged since the last fault"


def outages(found):
    """Return the seconds between acknowledgements."""
    return [later - earlier for earlier, later in pairwise(found.times)]


def counted(descriptions):
    """Return how often each description is there."""
    return Counter(descriptions)
