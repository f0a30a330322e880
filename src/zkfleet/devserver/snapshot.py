"""How does a dev server's state survive its process?

As one JSON document with every znode, session and count.  For small trees, like
everything here.  Pure: the file is `datafile`'s.
"""

import base64
import json
import struct
from typing import Any

from zkfleet import paths
from zkfleet.devserver.access import Acl
from zkfleet.devserver.database import SYSTEM, Database, Znode
from zkfleet.devserver.jute import AclEntry
from zkfleet.devserver.sessions import LONGEST_TIMEOUT, Sessions
from zkfleet.errors import BadInput

FORMAT = "zkfleet dev server 1"
_HINT = "name a file of its own, or a new one"
_NOT_OURS = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
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
    except (*_NOT_OURS, struct.error) as exc:
        raise BadInput(f"{source}: no snapshot of a dev server: {type(exc).__name__}: {exc}", hint=_HINT) from exc
    raise BadInput(f"{source}: a snapshot of another format: {found!r}", hint=f"this version reads {FORMAT!r}")


def _load(kept: dict[str, Any], database: Database, sessions: Sessions, now: float) -> None:
    sessions.secret, sessions.next_id = bytes.fromhex(kept["secret"]), int(kept["next_id"])
    for session, timeout in kept["sessions"]:
        if not 0 < timeout <= LONGEST_TIMEOUT:
            raise ValueError(f"no timeout of a session: {timeout}")
        sessions.restore(int(session), float(timeout), now=now)
        sessions.password(int(session))  # which fails if that is no id
    acls = [tuple(AclEntry(int(bits), str(scheme), str(id_)) for bits, scheme, id_ in acl) for acl in kept["acls"]]
    containers = set(kept["containers"])
    for path, data, acl, *counts in kept["nodes"]:
        node = database.nodes[path] if path in SYSTEM else Znode()
        node.data = None if data is None else base64.b64decode(data, validate=True)
        node.acl = acls[acl]
        for name, count in zip(_COUNTS, counts, strict=True):
            setattr(node, name, int(count))
        if node.owner and node.owner not in sessions.timeouts:
            raise ValueError(f"nobody owns {path}")
        if path not in SYSTEM:
            database.restore(
                paths.check(path), node, container=path in containers, lifetime=kept["lifetimes"].get(path)
            )
        node.stat()  # which fails if a count is too large for its place
    database.zxid = int(kept["zxid"])
