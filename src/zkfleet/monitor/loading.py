"""Where do the commands come from?

Ours are modules of this room, whose import adds them; others' are entry points
of the group `zkfleet.monitor`: a module whose import adds its commands, or a
`Command`.  Nothing is imported before the first monitor starts.  One that
cannot be loaded is a warning, and the others are there.
"""

import importlib
import os
import threading
from importlib.metadata import EntryPoint, entry_points

from zkfleet.errors import MissingDependency
from zkfleet.monitor import basics
from zkfleet.monitor.commands import COMMANDS, Command
from zkfleet.spelling import get_logger

logger = get_logger(__name__)

GROUP = "zkfleet.monitor"
OURS = ["health", "process", "stacks", "memory", "profiling", "loops", "registries", "called"]
OURS += ["earlier", "zodb", "transactions", "zeoclient", "zeoserver"]
"""Modules of this room that add commands when they are imported."""
_lock = threading.Lock()
_loaded: set[str] = set()


def _renew_lock() -> None:
    # Another thread may have held it, which is not there in a forked child.
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def load(*, others: bool = True) -> None:
    """Add the commands of this process that have not been added yet; `others` are those of entry points."""
    with _lock:
        if "basics" not in _loaded:
            _loaded.add("basics")
            basics.add_to(COMMANDS)
        for name in OURS:
            if name not in _loaded:
                _loaded.add(name)
                _load_ours(name)
        for point in entry_points(group=GROUP) if others else ():
            if point.value not in _loaded:
                _loaded.add(point.value)
                _load_theirs(point)


def _load_ours(name: str) -> None:
    try:
        importlib.import_module(f"zkfleet.monitor.{name}")
    except MissingDependency as exc:  # its library is not installed, so there is nothing to ask about
        logger.debug("commands_left_out module=%s reason=%s", name, exc)


def _load_theirs(point: EntryPoint) -> None:
    try:
        found = point.load()
    except Exception:  # whatever it is, it is theirs, and we have more commands
        logger.warning("commands_failed entry_point=%s value=%s", point.name, point.value, exc_info=True)
        return
    if isinstance(found, Command):
        COMMANDS.add(found)
