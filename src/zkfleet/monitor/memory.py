"""What fills the memory?"""

import gc
import os
import threading
import tracemalloc
from collections import Counter
from typing import Annotated, Literal

from zkfleet.errors import BadInput
from zkfleet.monitor.answers import Answer, Column, Kind, Value, lines, table
from zkfleet.monitor.commands import Between, command

OBJECTS = [
    Column("type", "The objects' class.", kind=Kind.LABEL),
    Column("count", "How many the collector of garbage knows; it knows no numbers and texts.", kind=Kind.GAUGE),
    Column("growth", "How many more than when this was asked before."),
]
BLOCKS = [
    Column("place", "The line that took the memory.", kind=Kind.LABEL),
    Column("size", "What it holds of it.", "bytes", Kind.GAUGE),
    Column("blocks", "In how many pieces.", kind=Kind.GAUGE),
]
Number = Annotated[int, Between(1, 1000)]
SECONDS_TO_COUNT = 60.0
_lock = threading.Lock()
_before: Counter[str] = Counter()


def _renew_lock() -> None:
    # Another thread may have held it, which is not there in a forked child.
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


@command("objects", columns=OBJECTS, deadline=SECONDS_TO_COUNT, metrics=False)
def objects(number: Number = 20) -> Answer:
    """Count the objects by type: the most numerous, and how they grew since the last call.

    All other threads wait while this is counted: about a second for ten million objects.
    """
    found = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())
    with _lock:
        before = Counter(_before)
        _before.clear()
        _before.update(found)
    rows: list[dict[str, Value]] = [
        {"type": name, "count": count, "growth": count - before[name] if before else None}
        for name, count in found.most_common(number)
    ]
    return table(OBJECTS, rows)


def _begins_or_ends(what: str, _number: int = 10) -> bool:
    return what != "top"


@command("memory", columns=BLOCKS, deadline=SECONDS_TO_COUNT, action=_begins_or_ends)
def memory(what: Literal["start", "top", "stop"], number: Number = 10) -> Answer:
    """Trace who takes memory: `memory start`, later `memory top`, then `memory stop`.

    While it is traced the process is slower, by half and more, and needs more
    memory, so `start` and `stop` are actions.  `top` shows the lines that hold
    most of what was taken since `start`.
    """
    if what == "start":
        tracemalloc.start()
        return lines("memory is traced from now on")
    if what == "stop":
        tracemalloc.stop()
        return lines("memory is not traced")
    if not tracemalloc.is_tracing():
        raise BadInput("memory: it is not traced", hint="memory start")
    found = tracemalloc.take_snapshot().statistics("lineno")[:number]
    return table(
        BLOCKS,
        [{"place": str(one.traceback[0]), "size": one.size, "blocks": one.count} for one in found],
    )
