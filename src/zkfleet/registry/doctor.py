"""What is wrong with the tree, and what should be done about it?

A look at everything below a path, for people who were called at night.  It
reads, and changes nothing.  The kinds of findings are told in docs/doctor.md.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zkfleet import paths
from zkfleet.errors import LinkLoop, NodeNotFound
from zkfleet.registry import identity
from zkfleet.registry.formats import CURATOR, UNKNOWN, Instance, read_instance
from zkfleet.registry.reads import Znode
from zkfleet.registry.subtree import Subtree, read_subtree
from zkfleet.spelling import spell
from zkfleet.tree import decode, links
from zkfleet.tree.model import BYTES, NODE_LINK, PROPERTY_LINK, TEXT

if TYPE_CHECKING:
    from zkfleet.registry.registry import Registry

NEAR = 0.8
PROVIDERS = "providers"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something that is wrong, or will be.

    Attributes:
        path: of the znode.
        kind: one word or two, as in docs/doctor.md.
        what: what was found.
        remedy: what to do about it.
    """

    path: str
    kind: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return spell(f"{self.path}: {self.kind}: {self.what} ({self.remedy})")


def examine(registry: "Registry", path: str) -> list[Finding]:
    """Look for what is wrong below a path, in the order of the paths; see `Registry.doctor`."""
    real = registry.resolve(path)
    # Links may lead anywhere, so everything is read, and what is below `path` reported.
    subtree = registry.read(lambda: read_subtree(["/"]))
    return sorted(
        finding for finding in findings(subtree, registry.session.packet_limit) if paths.within(finding.path, real)
    )


def findings(subtree: Subtree, limit: int) -> Iterator[Finding]:
    """Yield what is wrong with a tree that was read.  Pure but for the look at local process ids.

    Args:
        subtree: all of it.
        limit: the ensemble's jute.maxbuffer, in bytes.
    """
    znodes = subtree.znodes
    properties = {path: decode(znode.data) for path, znode in znodes.items()}
    for path in subtree.refused:
        yield Finding(
            path, "unreadable", "we have no read permission", "connect with other credentials, or see its ACL"
        )
    for path, znode in znodes.items():
        yield from _data(path, znode, properties[path], limit)
        yield from _links(path, properties)
    yield from _services(znodes, properties, limit)


def _data(path: str, znode: Znode, properties: Mapping[str, Any], limit: int) -> Iterator[Finding]:
    if BYTES in properties:
        yield Finding(path, "unreadable", "its data are neither JSON nor text", "see who writes it: `zkfleet get`")
    elif znode.stat.ephemeral_owner and TEXT in properties:
        yield Finding(path, "unreadable", "a provider whose data are no JSON object", "have it registered by zkfleet")
    if len(znode.data) > NEAR * limit:
        size = f"{len(znode.data):,} bytes of data"
        yield Finding(
            path,
            "near the packet limit",
            size,
            "keep large data elsewhere; readers in Java stop at their jute.maxbuffer",
        )


def _links(path: str, properties: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    for key, value in properties[path].items():
        try:
            if key.endswith(NODE_LINK) and isinstance(value, str):
                links.resolve(paths.join(path, key.removesuffix(NODE_LINK)), properties.get)
            elif key.endswith(PROPERTY_LINK) and isinstance(value, str):
                links.property_value(path, key.removesuffix(PROPERTY_LINK), properties.get)
        except LinkLoop as exc:
            yield Finding(path, "link loop", str(exc), exc.hint)
        except NodeNotFound as exc:
            yield Finding(
                path, "dangling link", f"{key} {value}: there is no {exc.missing}", "correct it with `zkfleet ln`"
            )


def _services(
    znodes: Mapping[str, Znode], properties: Mapping[str, Mapping[str, Any]], limit: int
) -> Iterator[Finding]:
    children: dict[str, list[str]] = defaultdict(list)
    for path in znodes:
        if path != "/":
            children[paths.split(path)[0]].append(path)
    homes: dict[str, list[str]] = defaultdict(list)
    for parent, members in children.items():
        yield from _listing(parent, members, limit)
        ephemeral = [path for path in members if znodes[path].stat.ephemeral_owner]
        if ephemeral or paths.split(parent)[1] == PROVIDERS:
            yield from _persistent(members, znodes, properties)
        instances = {path: read_instance(paths.split(path)[1], properties[path]) for path in ephemeral}
        yield from _unknown(parent, instances, properties)
        for path, instance in instances.items():
            homes[str(instance.endpoint or path)].append(path)
            if identity.is_dead(properties[path]):
                pid = properties[path].get("pid")
                yield Finding(
                    path, "dead provider", f"process {pid} of this machine is gone", "it goes with its session"
                )
    for endpoint, where in homes.items():
        for path in where if len(where) > 1 else ():
            others = ", ".join(other for other in where if other != path)
            yield Finding(
                path, "same endpoint twice", f"{endpoint} is also at {others}", "one of them is in the wrong place"
            )


def _listing(parent: str, members: list[str], limit: int) -> Iterator[Finding]:
    size = sum(len(paths.split(path)[1].encode()) + 4 for path in members)
    if size > NEAR * limit:
        what = f"the names of its {len(members):,} children take {size:,} bytes"
        yield Finding(
            parent, "near the packet limit", what, "divide the node; readers in Java stop at their jute.maxbuffer"
        )


def _persistent(
    members: list[str], znodes: Mapping[str, Znode], properties: Mapping[str, Mapping[str, Any]]
) -> Iterator[Finding]:
    for path in members:
        # Curator has static services, which are meant to stay.
        meant = read_instance(paths.split(path)[1], properties[path]).format == CURATOR
        if not znodes[path].stat.ephemeral_owner and not meant:
            what = "a persistent node where providers belong"
            yield Finding(path, "persistent provider", what, "delete it: nobody takes it away when its server dies")


def _unknown(
    parent: str, instances: Mapping[str, Instance], properties: Mapping[str, Mapping[str, Any]]
) -> Iterator[Finding]:
    """Yield who is registered where providers are, and cannot be found by anybody."""
    service = paths.split(parent)[1] == PROVIDERS or any(one.format != UNKNOWN for one in instances.values())
    for path, instance in instances.items():
        if not service or not instance.broken or "instance" in properties[path] or TEXT in properties[path]:
            continue  # a lock of ours, or told of already
        whose = f"a {instance.format} instance: " if instance.format else ""
        yield Finding(
            path, "unknown provider", whose + instance.reason, "see what it says with `zkfleet get`, and who writes it"
        )
