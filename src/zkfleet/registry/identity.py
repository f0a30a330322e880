"""Who are we, and is the process that wrote this dead?

Every registration says `pid`, `host` and `instance`.  The instance begins with
a mark of the machine as processes see it (its boot and its pid namespace), so
a process id is only ever judged by somebody who lives among the same ones: a
container that shares a host's name never declares its neighbour dead.
"""

import hashlib
import os
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from zkfleet.errors import BadProperties

OURS = ("pid", "instance")


def machine_mark() -> str:
    """Return eight hexadecimal digits that differ wherever process ids mean other processes."""
    parts = [socket.gethostname(), _content("/proc/sys/kernel/random/boot_id") or str(uuid.getnode())]
    try:
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        parts.append("no pid namespaces")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _content(file: str) -> str:
    try:
        return Path(file).read_text().strip()
    except OSError:
        return ""


def new_instance() -> str:
    """Return a nonce for one registration: the machine's mark and eight random digits."""
    return f"{machine_mark()}-{uuid.uuid4().hex[:8]}"


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

    False whenever that cannot be known: another machine, another container,
    no `instance`, or a process id that is in use (by whomever).
    """
    instance, pid = properties.get("instance"), properties.get("pid")
    if not isinstance(instance, str) or not isinstance(pid, int) or isinstance(pid, bool) or pid <= 0:
        return False
    return instance.partition("-")[0] == machine_mark() and not psutil.pid_exists(pid)
