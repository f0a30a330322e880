"""What does this process hold in its registries, and does it stand?

It looks at what is known here and asks no ensemble: it answers while the link
is down, which is when one asks.  A process that has no registry is not made to
load one.
"""

import json
import sys
import time
from typing import TYPE_CHECKING

from zkfleet.monitor.answers import Answer, Column, Kind, Value, lines_of, table
from zkfleet.monitor.commands import command
from zkfleet.monitor.health import READINESS

if TYPE_CHECKING:
    from zkfleet.registry import Registration
    from zkfleet.registry.life import Life

HOSTS = Column("hosts", "The ensemble, and the path that is its root here.", kind=Kind.LABEL)
PROBLEM = Column("problem", "What is not as it should be.")
SESSION = [
    HOSTS,
    Column("session", "The session's id, in hexadecimal digits."),
    Column("state", "`connected`, or `suspended` while the link is down."),
    Column("in_state", "For how long.", "seconds", Kind.GAUGE),
    Column("timeout", "After so long without a link the session is over.", "seconds"),
    Column("reconnects", "Connections after the first.", kind=Kind.COUNTER),
    Column("expiries", "Sessions that were lost.", kind=Kind.COUNTER),
    Column("registrations", "Registrations that are open.", kind=Kind.GAUGE),
    Column("views", "Views that are open.", kind=Kind.GAUGE),
    Column("watches", "Znodes that are watched.", kind=Kind.GAUGE),
]
REGISTRATIONS = [
    HOSTS,
    Column("path", "Where it is registered.", kind=Kind.LABEL),
    Column("addresses", "What is published there.", kind=Kind.LABEL),
    Column("status", "`registered`, or what it waits for."),
    PROBLEM,
]
VIEWS = [
    HOSTS,
    Column("path", "The path that is followed.", kind=Kind.LABEL),
    Column("kind", "What of it: `children`, `providers`, `properties` or `tree`.", kind=Kind.LABEL),
    Column("real_path", "Where that leads."),
    Column("stale", "For how long it may not be what the ensemble has.", "seconds", Kind.GAUGE),
    Column("age", "Time since it was read.", "seconds", Kind.GAUGE),
    Column("watches", "Znodes that are watched for it.", kind=Kind.GAUGE),
    Column("subscribers", "Functions that are told of changes.", kind=Kind.GAUGE),
    PROBLEM,
]
SERVERS = [
    Column("address", "One of those that are published."),
    Column("path", "Where it is registered."),
    Column("properties", "What is published with it."),
]
NONE = "no registry is open in this process\n"


def _registries() -> "list[Life]":
    if "zkfleet.registry" not in sys.modules:
        return []
    from zkfleet.registry import open_registries

    return sorted(open_registries(), key=lambda one: one.session.hosts)


def _is_lock(registration: "Registration") -> bool:
    from zkfleet.registry import Lock

    return isinstance(registration, Lock)


@command("session", columns=SESSION)
def session() -> Answer:
    """Show the sessions of this process with ZooKeeper."""
    rows: list[dict[str, Value]] = []
    for registry in _registries():
        said = registry.statistics()
        rows.append(
            {
                "hosts": registry.session.hosts,
                "session": f"{said.session_id:x}",
                "state": said.state,
                "in_state": round(time.time() - said.since, 3),
                "timeout": said.negotiated_timeout,
                **{name: getattr(said, name) for name in ("reconnects", "expiries")},
                **{name: getattr(said, name) for name in ("registrations", "views", "watches")},
            }
        )
    return table(SESSION, rows, text=None if rows else NONE)


@command("registrations", columns=REGISTRATIONS)
def registrations() -> Answer:
    """Show what this process has registered, and whether it stands."""
    rows: list[dict[str, Value]] = [
        {
            "hosts": registry.session.hosts,
            "path": one.path,
            "addresses": ", ".join(one.addresses),
            "status": one.status.value,
            "problem": str(one.problem or ""),
        }
        for registry in _registries()
        for one in registry.registrations
    ]
    return table(REGISTRATIONS, rows, text=None if rows else "nothing is registered by this process\n")


@command("servers", columns=SERVERS)
def servers(path: str | None = None) -> Answer:
    """List the servers that this process has registered; with a path, the addresses of those that are registered there.

    As it was in zc.zk: without a path a line of JSON, with one a line of addresses.
    """
    found = [
        (address, one.path, one.properties)
        for registry in _registries()
        for one in registry.registrations
        if not _is_lock(one) and path in (None, one.path)
        for address in one.addresses
    ]
    rows: list[dict[str, Value]] = [
        {"address": address, "path": path, "properties": properties} for address, path, properties in found
    ]
    if path is not None:
        return table(SERVERS, rows, text=lines_of([" ".join(address for address, _, _ in found)]))
    told = [{**properties, "path": path, "address": address} for address, path, properties in found]
    return table(SERVERS, rows, text=json.dumps(told) + "\n")


@command("views", columns=VIEWS)
def views() -> Answer:
    """Show what this process follows in ZooKeeper, and what of it is stale."""
    now = time.time()
    rows: list[dict[str, Value]] = [
        {
            "hosts": registry.session.hosts,
            **{name: getattr(one, name) for name in ("path", "kind", "real_path", "watches", "subscribers", "problem")},
            "stale": None if one.stale_since is None else round(now - one.stale_since, 3),
            "age": None if one.age is None else round(one.age, 3),
        }
        for registry in _registries()
        for one in registry.followed()
    ]
    return table(VIEWS, rows, text=None if rows else "nothing is followed by this process\n")


def unregistered() -> str:
    """Return which addresses of this process are not published, or "".

    A link that is down takes no address out, and an outage of the ensemble is
    no reason to take the whole fleet out of work.  Locks are waited for, and
    say nothing of whether we can work.
    """
    if not (registries := _registries()):
        return ""
    from zkfleet.registry import Status

    standing = (Status.REGISTERED, Status.SUSPENDED, Status.CLOSED)
    missing = [
        f"{', '.join(one.addresses)} is {one.status.value} at {one.path}"
        for registry in registries
        for one in registry.registrations
        if not _is_lock(one) and one.status not in standing
    ]
    return "; ".join(missing)


READINESS.add("registrations", unregistered)
