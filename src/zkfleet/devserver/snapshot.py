"""How does a dev server's state survive its process?

As one JSON document with every znode, session and count.  For small trees, like
everything here.  Pure: the file is `datafile`'s.
"""

import base64
import json
from typing import Any

from zkfleet import paths
from zkfleet.devserver.access import Acl, settled
from zkfleet.devserver.codes import Refused
from zkfleet.devserver.database import SYSTEM, Database, Znode
from zkfleet.devserver.jute import AclEntry
from zkfleet.devserver.sessions import LONGEST_TIMEOUT, Sessions
from zkfleet.devserver.writing import LONGEST_LIFE
from zkfleet.errors import BadInput

FORMAT = "zkfleet dev server 1"
# There must be room for what is still to come.
HALF_OF_64, HALF_OF_32 = 1 << 62, 1 << 30
_HINT = "name a file of its own, or a new one"
_NOT_OURS = (ValueError, LookupError, TypeError, AttributeError, RecursionError, Refused)
_COUNTS = ("owner", "czxid", "mzxid", "pzxid", "ctime", "mtime", "version", "cversion", "aversion")


def dump(database: Database, sessions: Sessions) -> str:
    """Return everything as text."""
    acls: dict[Acl, int] = {}
    nodes = []
    for path, node in database.nodes.items():
        data = None if node.data is None else base64.b64encode(node.data).decode()
        counts = [getattr(node, name) for name in _COUNTS]
        nodes.append([path, data, acls.setdefault(node.acl, len(acls)), *counts])
    return json.dumps(
        {
            "format": FORMAT,
            "zxid": database.zxid,
            "secret": sessions.secret.hex(),
            "next_id": sessions.next_id,
            "sessions": list(sessions.timeouts.items()),
            "acls": list(acls),
            "nodes": nodes,
            "containers": sorted(database.containers),
            "lifetimes": database.lifetimes,
        },
        separators=(",", ":"),
    )


def load(text: str, database: Database, sessions: Sessions, *, now: float, source: str = "a text") -> None:
    """Put what a text tells into an empty database and session table.

    Args:
        text: what `dump` returned, perhaps in another process.
        database: filled, if all is well.
        sessions: filled, each session with its whole timeout from now on.
        now: seconds on the server's clock.
        source: where the text is from, for the message of the error.

    Raises:
        BadInput: it is no snapshot.
    """
    try:
        kept = json.loads(text)
        found = kept["format"]
        if found == FORMAT:
            _load(kept, database, sessions, now)
            return
    # Whatever a file can hold that is JSON and not ours.
    except _NOT_OURS as exc:
        raise BadInput(f"{source}: no snapshot of a dev server: {type(exc).__name__}: {exc}", hint=_HINT) from exc
    raise BadInput(f"{source}: a snapshot of another format: {found!r}", hint=f"this version reads {FORMAT!r}")


def _load(kept: dict[str, Any], database: Database, sessions: Sessions, now: float) -> None:
    sessions.secret = bytes.fromhex(kept["secret"])
    if not sessions.secret:
        raise ValueError("no secret")
    sessions.next_id = _count("next_id", kept["next_id"], 1, HALF_OF_64)
    database.zxid = _count("zxid", kept["zxid"], 0, HALF_OF_64)
    for session, timeout in kept["sessions"]:
        _load_session(session, timeout, sessions, now)
    acls = [_acl(entries) for entries in kept["acls"]]
    containers = _set_of("containers", kept["containers"])
    lifetimes: dict[str, int] = dict(kept["lifetimes"].items())
    seen: set[str] = set()
    for path, data, acl, *counts in kept["nodes"]:
        if path in seen:
            raise ValueError(f"{path} twice")
        seen.add(path)
        node = database.nodes[path] if path in SYSTEM else Znode()
        node.data = None if data is None else base64.b64decode(data, validate=True)
        node.acl = acls[_count(f"access list of {path}", acl, 0, len(acls) - 1)]
        _set_counts(path, node, counts, database.zxid)
        if path not in SYSTEM:
            database.restore(paths.check(path), node, container=path in containers, lifetime=lifetimes.get(path))
    _check_kinds(database, sessions, containers, lifetimes)
    _check_children(database)


def _load_session(session: object, timeout: object, sessions: Sessions, now: float) -> None:
    # The next one must not get the id of one that is open.
    id_ = _count("a session", session, 1, sessions.next_id - 1)
    if id_ in sessions.timeouts:
        raise ValueError(f"session {id_} twice")
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= LONGEST_TIMEOUT:
        raise ValueError(f"no timeout of a session: {timeout!r}")
    sessions.restore(id_, float(timeout), now=now)


def _acl(entries: list[Any]) -> Acl:
    acl = []
    for bits, scheme, id_ in entries:
        if not isinstance(scheme, str) or not isinstance(id_, str):
            raise TypeError(f"nobody's permission: {scheme!r}, {id_!r}")
        acl.append(AclEntry(_count("permissions", bits, -1 << 31, (1 << 31) - 1), scheme, id_))
    settled(acl, ())  # which fails if one of them names nobody
    return tuple(acl)


def _set_counts(path: str, node: Znode, counts: list[Any], zxid: int) -> None:
    bounds = {"owner": (0, HALF_OF_64), "ctime": (-HALF_OF_64, HALF_OF_64), "mtime": (-HALF_OF_64, HALF_OF_64)}
    bounds |= dict.fromkeys(("czxid", "mzxid", "pzxid"), (0, zxid))
    # Clients are told of twice as many versions of the children.
    bounds |= {"version": (0, HALF_OF_32), "aversion": (-1, HALF_OF_32), "cversion": (0, HALF_OF_32 // 2)}
    for name, count in zip(_COUNTS, counts, strict=True):
        setattr(node, name, _count(f"{name} of {path}", count, *bounds[name]))


def _check_kinds(database: Database, sessions: Sessions, containers: set[str], lifetimes: dict[str, int]) -> None:
    """See that what goes by itself is there, may go, and goes for one reason alone."""
    owned = {path for path, node in database.nodes.items() if node.owner}
    for path in owned:
        if database.nodes[path].owner not in sessions.timeouts or database.nodes[path].children:
            raise ValueError(f"nobody can own {path}")
    for path, lifetime in lifetimes.items():
        _count(f"the lifetime of {path}", lifetime, 1, LONGEST_LIFE)
    mortal = [*owned, *containers, *lifetimes]
    if len(set(mortal)) < len(mortal):
        raise ValueError("a znode that is ephemeral, a container, or has a lifetime is one of them alone")
    if wrong := [path for path in mortal if path not in database.nodes or path in SYSTEM]:
        raise ValueError(f"no znode that goes by itself: {wrong[0]}")


def _check_children(database: Database) -> None:
    """See that no fewer children were made than there are: numbers would be given a second time."""
    for path, node in database.nodes.items():
        made = [name for name in node.children or () if paths.join(path, name) not in SYSTEM]
        if node.cversion < len(made):
            raise ValueError(f"cversion of {path}: {node.cversion}, with {len(made)} children")


def _set_of(name: str, values: list[str]) -> set[str]:
    found = set(values)
    if not isinstance(values, list) or len(found) < len(values):
        raise ValueError(f"{name}: not a list without duplicates")
    return found


def _count(name: str, value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name}: {value!r}")
    return value
