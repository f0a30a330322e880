"""How are views read, and what must be watched so that they stay true?

Each reading here (see `reads`) follows node and property links by asking for
what `zkfleet.tree.links` wants to look up, again and again in one batch, until
everything that the answer rests on was seen at one point in time.  It watches
exactly what was consulted: a plain path costs one watch, and a link anywhere
on the way is noticed when it is retargeted, removed, or shadowed.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from zkfleet import paths
from zkfleet.errors import AccessDenied, LinkLoop, NodeNotFound, ZkfleetError
from zkfleet.registry.portions import BYTES_AT_ONCE, FIRST, MOST, Portions, next_portion, weigh
from zkfleet.registry.reads import Batch, GetChildren, GetData, Mode, Read, Reading, Reply, Unreadable, Watch, Znode
from zkfleet.tree import decode, links
from zkfleet.tree.model import BYTES, PROPERTY_LINK, TEXT

T = TypeVar("T")
TRIES = 5
Properties = Mapping[str, Any]
Lookup = Callable[[str], Properties | None]


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[T]):
    """What a view saw at one moment; never changed once made.

    Attributes:
        content: what was seen; empty if the path leads nowhere.
        real_path: where the path led, or None.
        zxid: ZooKeeper's transaction up to which this is true.
        read_at: when it was read, seconds on `time.monotonic()`.
        consulted: the znodes that it rests on.
        mark: equal marks mean that no reader need be told.
        problem: why the path leads nowhere, or None.
        whole: whether all of it was read at one moment.
    """

    content: T
    real_path: str | None
    zxid: int
    consulted: frozenset[str]
    mark: object
    problem: ZkfleetError | None = None
    whole: bool = True
    read_at: float = field(default_factory=time.monotonic)

    def says_the_same(self, other: "Snapshot[T]") -> bool:
        """Tell whether a reader would see no difference."""
        mine, theirs = self.problem, other.problem
        return self.mark == other.mark and self.real_path == other.real_path and repr(mine) == repr(theirs)


class _NotRead(Exception):
    """A look-up of a znode that is not in the batch yet."""

    def __init__(self, path: str) -> None:
        self.path = path


@dataclass(frozen=True, slots=True)
class Consulted(Generic[T]):
    """The answer to a question about the tree, and the znodes that it rests on."""

    answer: T | None
    problem: ZkfleetError | None
    seen: Mapping[str, Reply]
    consulted: frozenset[str]
    zxid: int

    def found(self) -> T:
        """Return the answer, or raise the problem."""
        if self.answer is None:
            raise self.problem or NodeNotFound("/")
        return self.answer


def consult(question: Callable[[Lookup], T], first: Iterable[str]) -> Reading[Consulted[T]]:
    """Answer a question that looks znodes up, all of them read in one batch.

    Raises:
        AccessDenied: a znode that it needs may not be read.
    """
    needed = list(first)
    while True:
        answer = yield Batch(tuple(map(GetData, needed)), tuple(map(Watch, needed)))
        seen = dict(zip(needed, answer.replies, strict=True))
        used: set[str] = set()
        try:
            result, problem = question(_lookup(seen, used)), None
        except _NotRead as unread:
            needed = [path for path in needed if path in used] + [unread.path]
            continue
        except (NodeNotFound, LinkLoop) as exc:
            result, problem = None, exc
        return Consulted(result, problem, seen, frozenset(used), answer.zxid)


def _lookup(seen: Mapping[str, Reply], used: set[str]) -> Lookup:
    def look(path: str) -> Properties | None:
        if path not in seen:
            raise _NotRead(path)
        used.add(path)
        reply = seen[path]
        if reply is Unreadable.REFUSED:
            raise AccessDenied(path, "read")
        return decode(reply.data) if isinstance(reply, Znode) else None

    return look


def resolve(path: str) -> Reading[Consulted[str]]:
    """Find the real path of `path`; a problem says why there is none."""
    return (yield from consult(lambda lookup: links.resolve(path, lookup), [path]))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path leads, with what was read at its end in the same batch."""

    real_path: str | None
    replies: tuple[Reply, ...]
    problem: ZkfleetError | None
    consulted: frozenset[str]
    zxid: int
    whole: bool = True


def arrive(
    path: str,
    reads: Callable[[str], tuple[Read, ...]],
    watches: Callable[[str], tuple[Watch, ...]],
    before: Place | None = None,
) -> Reading[Place]:
    """Follow `path` and read, and watch, at its end: all in one batch.

    Most paths hold no link, so the first batch reads as if this one held none,
    or as if everything were as `before`.
    """
    needed, target = [path], path
    if before is not None and before.real_path is not None:
        needed, target = sorted(before.consulted), before.real_path
    while True:
        extra = reads(target)
        watch = (*map(Watch, needed), *watches(target))
        answer = yield Batch((*map(GetData, needed), *extra), watch)
        used: set[str] = set()
        try:
            real = links.resolve(path, _lookup(dict(zip(needed, answer.replies, strict=False)), used))
        except _NotRead as unread:
            needed.append(unread.path)
            continue
        except (NodeNotFound, LinkLoop) as exc:
            return Place(None, (), exc, frozenset(used), answer.zxid)
        if real != target:
            target = real
            continue
        return Place(real, answer.replies[len(needed) :], None, frozenset(used), answer.zxid, answer.whole)


def read_children(path: str) -> Reading[Snapshot[tuple[str, ...]]]:
    """Read the sorted names of a node's children."""
    place = yield from arrive(path, lambda target: (GetChildren(target),), lambda target: (Watch(target),))
    names = tuple(sorted(_names(place)))
    return Snapshot(names, place.real_path, place.zxid, place.consulted, names, place.problem)


def _names(place: Place) -> tuple[str, ...]:
    if place.real_path is None:
        return ()
    reply = place.replies[0]
    if reply is Unreadable.REFUSED:
        raise AccessDenied(place.real_path, "read")
    return reply if isinstance(reply, tuple) and not isinstance(reply, Znode) else ()


@dataclass(frozen=True, slots=True)
class InvalidProvider:
    """A provider whose properties cannot be read; the rest of the view is unharmed.

    Attributes:
        raw: its data, None if we may not read them.
        error: what is wrong with them.
    """

    raw: bytes | None
    error: str


@dataclass(frozen=True, slots=True)
class Provider:
    """One entry of a providers view: the znode's identity and what it says."""

    said: Properties | InvalidProvider
    czxid: int
    mzxid: int


Providers = Mapping[str, Provider]


def read_providers(path: str) -> Reading[Snapshot[Providers]]:
    """Read a node's children with their properties.

    Names come first.  Then names and properties together, until there is no
    name whose properties were not asked for: that is one moment.  Those that
    weigh more than a server should send at once are read in portions.
    """
    place: Place | None = None
    known: tuple[str, ...] = ()
    tries = 0
    while True:
        place = yield from arrive(path, partial(_with_children, known), _everything_below, place)
        names, tries = _names(place), tries + 1
        whole = set(known).issuperset(names)
        if whole or tries == TRIES:
            break
        if not known and place.real_path is not None and len(names) > FIRST:
            heavy = yield from _read_if_heavy(names, place)
            if heavy is not None:
                return heavy
        known = tuple(dict.fromkeys((*known, *names)))
    replies = dict(zip(known, place.replies[1:], strict=False))
    there = [name for name in names if replies.get(name, Unreadable.MISSING) is not Unreadable.MISSING]
    entries = {name: provider(replies[name]) for name in there}
    return _providers(entries, place.real_path, place.zxid, place.consulted, place.problem, whole=whole and place.whole)


def _read_if_heavy(names: tuple[str, ...], place: Place) -> Reading[Snapshot[Providers] | None]:
    """Read children in portions, unless they are likely to go in one; the watch of all of them is in place."""
    reads, portions = [GetData(paths.join(place.real_path or "/", name)) for name in names], Portions()
    answer = yield from next_portion(reads, portions)
    if weigh(answer.replies) * len(names) <= BYTES_AT_ONCE * len(answer.replies) and len(names) <= MOST:
        return None
    replies = list(answer.replies)
    while len(replies) < len(reads):
        answer = yield from next_portion(reads[len(replies) :], portions)
        replies += answer.replies
    there = {name: reply for name, reply in zip(names, replies, strict=True) if reply is not Unreadable.MISSING}
    entries = {name: provider(reply) for name, reply in there.items()}
    return _providers(entries, place.real_path, answer.zxid, place.consulted, None, whole=False)


def _with_children(names: tuple[str, ...], target: str) -> tuple[Read, ...]:
    return (GetChildren(target), *(GetData(paths.join(target, name)) for name in names))


def _everything_below(target: str) -> tuple[Watch, ...]:
    return (Watch(target, Mode.RECURSIVE),)


def reread_providers(old: Snapshot[Providers], names: frozenset[str]) -> Reading[Snapshot[Providers]]:
    """Read some children of a providers view again; the others are as they were."""
    real = old.real_path or "/"
    ordered = sorted(names)
    reads, portions = [GetData(paths.join(real, name)) for name in ordered], Portions()
    answer = yield from next_portion(reads, portions)
    replies = list(answer.replies)
    while len(replies) < len(reads):
        answer = yield from next_portion(reads[len(replies) :], portions)
        replies += answer.replies
    entries = dict(old.content)
    for name, reply in zip(ordered, replies, strict=True):
        if reply is Unreadable.MISSING:
            entries.pop(name, None)
        else:
            entries[name] = provider(reply)
    return _providers(entries, old.real_path, answer.zxid, old.consulted, None, whole=False)


def _providers(
    entries: dict[str, Provider],
    real: str | None,
    zxid: int,
    consulted: frozenset[str],
    problem: ZkfleetError | None,
    *,
    whole: bool,
) -> Snapshot[Providers]:
    return Snapshot(MappingProxyType(entries), real, zxid, consulted, entries, problem, whole)


def provider(reply: Reply) -> Provider:
    """Return the entry for a provider's znode."""
    if not isinstance(reply, Znode):
        return Provider(InvalidProvider(None, "no read permission"), 0, 0)
    said = decode(reply.data)
    readable = TEXT not in said and BYTES not in said
    shown = said if readable else InvalidProvider(reply.data, "its data are no JSON object")
    return Provider(shown, reply.stat.czxid, reply.stat.mzxid)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the value of a property came from.

    Attributes:
        value: the value.
        chain: `(path, property)` pairs, from the node asked to the one that
            holds the value; a single pair if no property link was followed.
    """

    value: Any
    chain: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Configuration:
    """A node's properties, with those that come over property links.

    Attributes:
        values: raw properties, and the linked value for every `NAME =>`.
        version: of the node's data, for compare-and-set.
        broken: links that lead nowhere, by property name.
        czxid: the transaction that created the node.
        owner: the session that the node is there for, 0 if it is persistent.
    """

    values: Properties
    version: int
    raw: Properties
    broken: Mapping[str, ZkfleetError]
    czxid: int = 0
    owner: int = 0


def read_properties(path: str) -> Reading[Snapshot[Configuration]]:
    """Read a node's properties; all nodes that they come from in one batch."""
    found = yield from consult(lambda lookup: _configuration(path, lookup), [path])
    if found.answer is None:
        nothing = Configuration({}, -1, {}, {})
        return Snapshot(nothing, None, found.zxid, found.consulted, "", found.problem)
    real, configuration = found.answer
    reply = found.seen[real]
    if isinstance(reply, Znode):
        stat = reply.stat
        configuration = replace(configuration, version=stat.version, czxid=stat.czxid, owner=stat.ephemeral_owner)
    mark = json.dumps(dict(configuration.values), sort_keys=True, default=repr)
    return Snapshot(configuration, real, found.zxid, found.consulted, mark)


def _configuration(path: str, lookup: Lookup) -> tuple[str, Configuration]:
    real = links.resolve(path, lookup)
    raw = dict(lookup(real) or {})
    values, broken = dict(raw), {}
    for name in [key.removesuffix(PROPERTY_LINK) for key in raw if key.endswith(PROPERTY_LINK)]:
        try:
            values[name] = links.property_value(real, name, lookup).value
        except (NodeNotFound, LinkLoop, AccessDenied) as exc:
            broken[name] = exc
    return real, Configuration(MappingProxyType(values), -1, MappingProxyType(raw), broken)


def read_origin(path: str, name: str) -> Reading[Consulted[Origin]]:
    """Find where the value of one property comes from."""

    def question(lookup: Lookup) -> Origin:
        found = links.property_value(links.resolve(path, lookup), name, lookup)
        return Origin(found.value, tuple(found.chain))

    return (yield from consult(question, [path]))


def nothing(_target: str) -> tuple[Read, ...]:
    """Read nothing else."""
    return ()


def read_claim(path: str, name: str, beside: Callable[[str], tuple[Read, ...]]) -> Reading[Place]:
    """Read what stands at a service's child `name`: its reply is the place's first one, then come those `beside` it."""

    def child(target: str) -> str:
        return paths.join(target, name)

    def reads(target: str) -> tuple[Read, ...]:
        return (GetData(child(target)), *beside(target))

    return (yield from arrive(path, reads, lambda target: (Watch(child(target)),)))
