"""What is this process, and what does it use?"""

import functools
import gc
import logging
import os
import platform
import sys
import threading
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import psutil

from zkfleet.errors import BadInput
from zkfleet.monitor.answers import Answer, Column, Kind, Value, fields, table
from zkfleet.monitor.commands import command

LIBRARIES = ["zkfleet", "kazoo", "ZODB", "ZEO", "transaction", "Twisted"]
PROCESS = [
    Column("pid", "The process id."),
    Column("command", "How it was started."),
    Column("host", "The machine's name."),
    Column("uptime", "Time since it was started.", "seconds", Kind.GAUGE),
    Column("cpu", "Time that it spent on processors, in all its threads.", "seconds", Kind.COUNTER),
    Column("rss", "Memory that it has, with what it shares with others.", "bytes", Kind.GAUGE),
    Column("uss", "Memory that would be free if it ended.", "bytes", Kind.GAUGE),
    Column("vms", "Addresses that it has taken.", "bytes", Kind.GAUGE),
    Column("fds", "Open files and sockets.", kind=Kind.GAUGE),
    Column("fds_limit", "Files and sockets that it may have open.", kind=Kind.GAUGE),
    Column("threads", "Threads of Python.", kind=Kind.GAUGE),
    Column("python", "The version of Python."),
    Column("versions", "Versions of the libraries that are installed."),
]
LOGLEVEL = [
    Column("logger", "Its name; `root` for the one above all."),
    Column("level", "What was set for it, or NOTSET."),
    Column("effective", "What counts: its own, or that of the next above it that has one."),
]
GC = [
    Column("generation", "The youngest is 0.", kind=Kind.LABEL),
    Column("count", "Objects, or collections of the generation before, since its last collection."),
    Column("threshold", "What starts the next one."),
    Column("collections", "How often it was collected.", kind=Kind.COUNTER),
    Column("collected", "Objects that were freed.", kind=Kind.COUNTER),
    Column("uncollectable", "Objects that could not be.", kind=Kind.COUNTER),
]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "NOTSET"]
_this = psutil.Process()


@command("process", columns=PROCESS)
def process() -> Answer:
    """Show what this process is, and what it uses."""
    this = _this if _this.pid == os.getpid() else psutil.Process()
    with this.oneshot():
        memory, times = this.memory_full_info(), this.cpu_times()
        values: dict[str, Value] = {
            "pid": this.pid,
            "command": " ".join(this.cmdline()),
            "host": platform.node(),
            "uptime": round(time.time() - this.create_time(), 3),
            "cpu": round(times.user + times.system, 3),
            "rss": memory.rss,
            "uss": memory.uss,
            "vms": memory.vms,
            "fds": this.num_fds(),
            "fds_limit": this.rlimit(psutil.RLIMIT_NOFILE)[0] if hasattr(this, "rlimit") else None,
            "threads": threading.active_count(),
            "python": sys.version.split()[0],
            "versions": _versions(),
        }
    return fields(PROCESS, values)


@functools.cache  # to find them takes more than all the rest
def _versions() -> dict[str, Value]:
    found: dict[str, Value] = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _sets(_name: str, level: Level | None = None) -> bool:
    return level is not None


@command("loglevel", columns=LOGLEVEL, blocks=False, action=_sets)
def loglevel(name: str, level: Level | None = None) -> Answer:
    """Show the level of a logger, or set it: `loglevel zkfleet.registry DEBUG`.

    `root` is the logger above all others.  A level lasts until the process ends;
    to set one is an action.
    """
    known = "" if name == "root" else name
    if level is None and known and known not in logging.Logger.manager.loggerDict:
        raise BadInput(f"loglevel: nobody has used a logger {name[:100]!r}", hint="set a level to have it made")
    logger = logging.getLogger(known)
    if level is not None:
        logger.setLevel(level)
    own, counts = logging.getLevelName(logger.level), logging.getLevelName(logger.getEffectiveLevel())
    return fields(LOGLEVEL, {"logger": name, "level": own, "effective": counts}, text=f"{name} {own} {counts}\n")


@command("gc", columns=GC)
def collector() -> Answer:
    """Show what the collector of cyclic garbage has done."""
    parts = zip(gc.get_count(), gc.get_threshold(), gc.get_stats(), strict=True)
    return table(
        GC,
        [
            {"generation": number, "count": count, "threshold": threshold, **done}
            for number, (count, threshold, done) in enumerate(parts)
        ],
    )
