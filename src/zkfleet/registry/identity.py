"""Who are we, and is the process that wrote this dead?

Every registration says `pid`, `host` and `instance`.  The instance begins with
a mark of the machine as processes see it (its boot and its pid namespace), so
a process id is only ever judged by somebody who lives among the same ones: a
container that shares a host's name never declares its neighbour dead.  It ends
with the time at which the process started, so who has its id today is not
taken for it.
"""

import hashlib
import os
import socket
import sys
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from zkfleet.errors import BadProperties

OURS = ("pid", "instance")


class Process(NamedTuple):
    """What the system says about a process.

    Attributes:
        has_ended: whether it is a zombie: it has ended, and its parent has not asked for its end yet.
        started: when it started, as the system counts; "" if that is not known.
    """

    has_ended: bool = False
    started: str = ""


def machine_mark() -> str:
    """Return eight hexadecimal digits that differ wherever process ids mean other processes."""
    parts = [socket.gethostname(), _content("/proc/sys/kernel/random/boot_id") or _unknown_boot()]
    for kind in ("pid", "time"):  # times at which processes started are those of a namespace, too
        try:
            parts.append(os.readlink(f"/proc/self/ns/{kind}"))
        except OSError:
            parts.append(f"no {kind} namespaces")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


@cache
def _unknown_boot() -> str:
    # Sandboxes of Linux that do not tell their boot have network addresses that others have as well.
    return uuid.uuid4().hex if sys.platform == "linux" else str(uuid.getnode())


def _content(file: str) -> str:
    try:
        return Path(file).read_text().strip()
    except OSError:
        return ""


def new_instance() -> str:
    """Return a nonce for one registration: the machine's mark, eight random digits, and when this process started."""
    process = find_process(os.getpid())
    parts = (machine_mark(), uuid.uuid4().hex[:8], process.started if process else "")
    return "-".join(filter(None, parts))


def about_us() -> dict[str, Any]:
    """Return the properties that every registration has."""
    return {"pid": os.getpid(), "host": socket.gethostname()}


def check_not_ours(properties: Mapping[str, Any]) -> None:
    """See to it that nobody says in our place which process this is.

    Raises:
        BadProperties: they do; others would take us for dead.
    """
    for name in OURS:
        if name in properties:
            raise BadProperties(f"the property {name!r} is zkfleet's own: it says which process this is")


def is_dead(properties: Mapping[str, Any]) -> bool:
    """Tell whether the process that wrote these properties is certainly gone.

    False whenever that cannot be known: another machine, another container, no `instance`.
    """
    instance, pid = properties.get("instance"), properties.get("pid")
    if not isinstance(instance, str) or not isinstance(pid, int) or isinstance(pid, bool) or pid <= 0:
        return False
    mark, _, rest = instance.partition("-")
    return mark == machine_mark() and is_another(find_process(pid), rest.partition("-")[2])


def is_another(process: Process | None, started: str) -> bool:
    """Tell whether a process that started then is gone, by what has its id now; pure.

    Args:
        process: what has its id; None if nothing has.
        started: when it started; "" if that is not known.
    """
    if process is None or process.has_ended:
        return True
    return bool(started and process.started) and process.started != started


def find_process(pid: int) -> Process | None:
    """Return what is known of the process that has this id, or None if there is none."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass  # it is somebody else's
    try:
        # In a pid namespace whose /proc is another one's, its numbers are others.
        if os.readlink("/proc/self") != str(os.getpid()):
            return Process()
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:  # there is no /proc, or it is hidden, or it ended just now
        return Process()
    # The name before the parenthesis may hold anything. See proc(5).
    state, *rest = stat.rpartition(")")[2].split()
    threads, started = rest[16], rest[18]
    # A process lives on after its first thread has ended.
    return Process(state in "ZX" and int(threads) <= 1, started)
