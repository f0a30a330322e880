"""How are a node's properties changed so that nobody's change is lost?

Compare and set: read the node and its version, make the new properties, write
them on condition that the version is still that one, and begin again if not.
`writing` finds out what became of a write whose reply was lost.
"""

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from kazoo.exceptions import BadVersionError, NodeExistsError
from kazoo.protocol.serialization import Create, SetData
from kazoo.security import ACL

from zkfleet import paths
from zkfleet.errors import BadPath, BadProperties, LinkLoop, RegistrationConflict, TooLarge, WaitTimedOut
from zkfleet.registry import readings
from zkfleet.registry.proof import Expected
from zkfleet.registry.session import Deadline, Session, mapped
from zkfleet.registry.wire import rooted
from zkfleet.registry.writing import Lost, Writer
from zkfleet.tree import encode
from zkfleet.tree.model import BYTES, NODE_LINK, TEXT

Change = Callable[[dict[str, Any]], dict[str, Any]]
LONGEST_PAUSE = 0.05
PERSISTENT = 0
RAW = frozenset({TEXT, BYTES})


def change_properties(writer: Writer, path: str, change: Change) -> tuple[str, int]:
    """Change a node's own properties by compare-and-set.

    Args:
        writer: to work with.
        path: of the node; links are followed.
        change: makes the new properties from a copy of the present ones;
            called again if somebody else wrote meanwhile, and never when it is
            not known whether what it made was written.

    Returns:
        The node's real path and the zxid of the write.

    Raises:
        NodeNotFound, LinkLoop: the path leads nowhere.
        RegistrationConflict: the node is somebody's registration.
        BadProperties, TooLarge: what `change` returned cannot be stored.
        WaitTimedOut: others wrote all the time; nothing of ours was written.
        NotConnected: no link; nothing of ours was written.
        OutcomeUnknown: it may have been written.
    """
    session = writer.session
    deadline = Deadline(session.timeout)
    while deadline.left():
        grant = session.tap.grants
        snapshot = session.read(lambda: readings.read_properties(path), timeout=deadline.left())
        if snapshot.problem is not None:
            raise snapshot.problem
        real, seen = snapshot.real_path or "/", snapshot.content
        session.check_not_system(real)
        _check_not_registered(session, real, seen)
        data = _checked(real, dict(seen.raw), change(dict(seen.raw)), session.safe_packet)
        request = SetData(rooted(session.client.chroot, real), data, seen.version)
        expected = [Expected(real, seen.version, seen.czxid, data)]
        written = writer.write([request], path=real, deadline=deadline, expected=expected, grant=grant)
        if written.refusal is None:
            return real, written.zxid
        if isinstance(written.refusal, Lost):
            continue
        if not isinstance(written.refusal, BadVersionError):
            raise mapped(written.refusal, real, "write") from written.refusal
        time.sleep(random.uniform(0, LONGEST_PAUSE))
    raise WaitTimedOut(
        f"{path}: others changed it all the time for {session.timeout:g} s", hint="nothing was written; try again"
    )


def _check_not_registered(session: Session, path: str, found: readings.Configuration) -> None:
    """Refuse a write that the owner of a registration would undo, or that would end with its session.

    Ephemeral nodes of this session that are no registrations may be written.
    """
    if not found.owner or (found.owner == session.session_id and path not in session.tap.holders):
        return
    who = " ".join(f"{name}={found.raw[name]!r}" for name in ("pid", "host") if name in found.raw)
    raise RegistrationConflict(
        f"{path} is registered by a live session, 0x{found.owner:x} {who}".rstrip() + ": only its owner changes it",
        hint="change it where it is registered: `update()` of its registration, the options of its server; "
        f"or set the property at {paths.split(path)[0]}",
    )


def _checked(path: str, before: dict[str, Any], properties: dict[str, Any], limit: int) -> bytes:
    if not RAW.isdisjoint(before) and not RAW.isdisjoint(properties) and len(properties) > 1:
        raise BadProperties(
            f"{path}: its data are no properties, but text or bytes of somebody's",
            hint="set() or `zkfleet tree import` replaces them as a whole",
        )
    for name in properties:
        if f"{name} =>" in properties:
            raise BadProperties(
                f"{path}: {name!r} comes over the property link {name + ' =>'!r}",
                hint="set it at the node that the link leads to, or take the link away first",
            )
    data = encode(properties)
    if len(data) > limit:
        raise TooLarge(path, len(data), limit)
    return data


def make_node(writer: Writer, path: str, acl: Sequence[ACL]) -> bool:
    """Make a persistent node without properties if it is missing; tell whether it was."""
    writer.session.check_not_system(paths.check(path))
    create = Create(rooted(writer.session.client.chroot, path), encode({}), list(acl), PERSISTENT)
    deadline = Deadline(writer.session.timeout)
    while isinstance(refusal := writer.write([create], path=path, deadline=deadline).refusal, Lost):
        pass
    if refusal is None or isinstance(refusal, NodeExistsError):
        return refusal is None
    raise mapped(refusal, path, "create") from refusal


def link(writer: Writer, source: str, destination: str) -> None:
    """Make a node link at `destination` that leads to `source`; see `Registry.ln`."""
    paths.check_link(source)
    if isinstance(destination, str) and destination.endswith("/"):
        _, name = paths.split(source)
        if paths.name_fault(name):
            raise BadPath(f"{source!r} has no name to append to {destination!r}")
        destination += name
    parent, name = paths.split(paths.check(destination))
    if not name:
        raise BadPath("a link cannot stand in the place of the root")
    if paths.normalise(source, parent) == destination:
        raise LinkLoop([destination, destination])
    change_properties(writer, parent, lambda properties: {**properties, name + NODE_LINK: source})


def unlink(writer: Writer, path: str) -> bool:
    """Remove the node link at `path`; tell whether there was one."""
    parent, name = paths.split(paths.check(path))
    found = False

    def without(properties: dict[str, Any]) -> dict[str, Any]:
        nonlocal found
        found = properties.pop(name + NODE_LINK, None) is not None
        return properties

    change_properties(writer, parent, without)
    return found
