"""What do the loops of this process have to do?

Everything is read from another thread while the loops run: what changes under
the reader's hands is read again, and what cannot be read is left out.
"""

import asyncio
import gc
import sys
from typing import Any

from zkfleet.monitor.answers import Answer, Column, Kind, Value, fields, lines_of, table
from zkfleet.monitor.commands import command

TASKS = [
    Column("name", "The task's name."),
    Column("coroutine", "What it runs."),
    Column("state", "What it is about to do: pending, done, cancelled."),
    Column("loop", "The number of its loop."),
    Column("stack", "Where it waits, the innermost call last."),
]
REACTOR = [
    Column("reactor", "Its class.", kind=Kind.LABEL),
    Column("running", "Whether it runs."),
    Column("delayed_calls", "Calls that are planned.", kind=Kind.GAUGE),
    Column("readers", "Sockets and files that are watched for input.", kind=Kind.GAUGE),
    Column("writers", "Those that are watched for room.", kind=Kind.GAUGE),
    Column("pool_threads", "Threads of its pool.", kind=Kind.GAUGE),
    Column("pool_queue", "Calls that wait for one of them.", kind=Kind.GAUGE),
]
CALLS = [
    Column("seconds", "When it is due, from now.", "seconds"),
    Column("function", "What is called."),
    Column("waits", "It is in the future, and not late."),
]
TRIES = 10


@command("tasks", columns=TASKS)
def tasks() -> Answer:
    """Show the asyncio tasks of all loops: what each runs, and where it waits."""
    found = [_task(one) for one in _all_tasks() if not one.done()]
    return table(TASKS, found, text="\n".join(map(_text, found)) or "no tasks\n")


def _all_tasks() -> "list[asyncio.Task[Any]]":
    loops = {id(one): one for one in gc.get_objects() if isinstance(one, asyncio.AbstractEventLoop)}
    found = []
    for loop in loops.values():
        for _ in range(TRIES):
            try:
                found += list(asyncio.all_tasks(loop))
                break
            except RuntimeError:  # the loop made a task meanwhile
                continue
    return found


def _task(one: "asyncio.Task[Any]") -> dict[str, Value]:
    frames = one.get_stack()
    places: list[Value] = [f"{f.f_code.co_filename}:{f.f_lineno} {f.f_code.co_qualname}" for f in frames]
    coroutine = one.get_coro()
    return {
        "name": one.get_name(),
        "coroutine": getattr(coroutine, "__qualname__", type(coroutine).__name__),
        "state": "cancelling" if one.cancelling() else "pending",
        "loop": id(one.get_loop()),
        "stack": places,
    }


def _text(row: dict[str, Value]) -> str:
    places = row["stack"]
    assert isinstance(places, list)
    return lines_of([f"{row['name']} {row['coroutine']} ({row['state']})", *(f"    {place}" for place in places)])


@command("reactor", columns=REACTOR)
def reactor() -> Answer:
    """Show how much Twisted's reactor has to do, if there is one."""
    one = _reactor()
    if one is None:
        return fields(REACTOR, {"running": False}, text="no reactor is installed\n")
    pool = getattr(one, "threadpool", None)
    values: dict[str, Value] = {
        "reactor": type(one).__name__,
        "running": bool(one.running),
        "delayed_calls": len(one.getDelayedCalls()),
        "readers": len(one.getReaders()),
        "writers": len(one.getWriters()),
        "pool_threads": len(pool.threads) if pool is not None else 0,
        "pool_queue": pool._team.statistics().backloggedWorkCount if pool is not None else 0,
    }
    return fields(REACTOR, values)


@command("deferreds", columns=CALLS)
def deferreds() -> Answer:
    """Show the calls that Twisted's reactor has planned, the next one first."""
    one = _reactor()
    if one is None:
        return table(CALLS, [], text="no reactor is installed\n")
    now = one.seconds()
    planned = sorted(((call.getTime() - now, call.func) for call in one.getDelayedCalls()), key=lambda pair: pair[0])
    return table(
        CALLS,
        [
            {"seconds": round(due, 3), "function": getattr(call, "__qualname__", repr(call)), "waits": due > 0}
            for due, call in planned
        ],
    )


def _reactor() -> Any:
    """Return the reactor that is installed; asking for it must not install one."""
    return sys.modules.get("twisted.internet.reactor")
