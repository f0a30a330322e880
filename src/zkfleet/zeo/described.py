"""What does a ZEO server say of itself in its nodes?

The properties of a provider, and of a server with standbys, written by servers
and read by clients and by those who look at a fleet.  Pure.  Whoever registers a server of another make,
by `zkfleet run` perhaps, says none of this; what is not said is not known.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PRIMARY = "primary"

# The key of a database's identity, in its data and in what its server tells clients of a storage.
IDENTITY = "zkfleet.database"
# The key, in what its server tells clients of a storage: True if it is another database at each start, else absent.
TRANSIENT = "zkfleet.transient"
# The key, in what its server tells clients of a storage: the token in its folder for blobs.
BLOBS = "zkfleet.blobs"
# The key, in what a server says when it is asked how it is, of who holds a storage's commit lock.
LOCK_HOLDER = "zkfleet.lock_holder"
# The key, in the same, of the storage's pack that is under way or was the last one.
PACK = "zkfleet.pack"
# The key, in what a server tells clients of a storage, of whether its pack can be told to collect garbage.
PACK_TAKES_GC = "zkfleet.pack_takes_gc"


# The property `kind` of a node that is a monitor's and no server's, as `zkfleet.monitor` writes it.
MONITOR = "monitor"


def is_server(properties: object) -> bool:
    """Tell whether a node may be a ZEO server's, for all that its properties say."""
    return not (isinstance(properties, Mapping) and properties.get("kind") == MONITOR)


@dataclass(frozen=True, slots=True)
class Described:
    """A ZEO server, by its own account.

    Attributes:
        storages: their names; empty if it does not say.
        read_only: whether it refuses writing; None if it does not say.
        role: `primary` for one with standbys or without; "" if it does not say.
        databases: the identity of what each storage holds, by the storage's name.
        tids: the last transaction of each storage when the server started, 16 hex digits.
        monitor: where its monitor listens, `host:port`, or "".
        transient: whether all its storages are in memory, and so are new databases at each start.
    """

    storages: tuple[str, ...] = ()
    read_only: bool | None = None
    role: str = ""
    databases: Mapping[str, str] = field(default_factory=dict)
    tids: Mapping[str, str] = field(default_factory=dict)
    monitor: str = ""
    transient: bool = False

    def properties(self) -> dict[str, Any]:
        """Return it as a node's properties."""
        said = {
            "storages": list(self.storages),
            "read_only": self.read_only,
            "role": self.role,
            "database": dict(self.databases),
            "tid": dict(self.tids),
            "monitor": self.monitor,
            "transient": self.transient or None,
        }
        return {name: value for name, value in said.items() if value not in ("", None, {}, [])}


def described_by(properties: Mapping[str, Any]) -> Described:
    """Return what a node's properties say; what is not of its kind is taken as not said."""
    read_only = properties.get("read_only")
    return Described(
        storages=_texts(properties.get("storages")),
        read_only=read_only if isinstance(read_only, bool) else None,
        role=_text(properties.get("role")),
        databases=_by_name(properties.get("database")),
        tids=_by_name(properties.get("tid")),
        monitor=_text(properties.get("monitor")),
        transient=properties.get("transient") is True,
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """One of several servers of which one serves, by its own account.

    Attributes:
        name: of its node.
        state: how it stands, a value of `duty.State`; "" if it does not say.
        since: when, seconds since 1970; None if it does not say.
        locked_by: the id of the process that has the storage's file, if it is another's.
    """

    name: str
    state: str = ""
    since: float | None = None
    locked_by: str = ""


def standing_of(name: str, properties: Mapping[str, Any]) -> Standing:
    """Return what the node beside a service says of one of its servers."""
    since = properties.get("since")
    return Standing(
        name,
        _text(properties.get("state")),
        float(since) if isinstance(since, int | float) else None,
        _text(properties.get("locked_by")),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(_text, value)) if isinstance(value, list) and all(map(_text, value)) else ()


def _by_name(value: object) -> dict[str, str]:
    return {k: v for k, v in value.items() if _text(v)} if isinstance(value, dict) else {}
