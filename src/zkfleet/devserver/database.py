"""What znodes are there, and what do they hold?

The tree in memory and the changes that can be made to it.  Whether a change is
allowed was decided before (`writing`); here it is carried out, what watches
will want to know of it is noted in `happened`, and how to take it back in the
journal.  Time and transaction ids come in as arguments.

Invariant: every znode but the root has a parent, and is in its `children`.

Source: `DataTree` and `DataNode` of ZooKeeper 3.8.
"""

import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from functools import partial
from typing import NamedTuple

from zkfleet.devserver.access import OPEN, READABLE, Acl
from zkfleet.devserver.quota import Quotas

STAT = struct.Struct(">qqqqiiiqiiq")
FEW_ACLS = 16
SYSTEM = ("/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config")


class Event(IntEnum):
    """What a watch reports; the values are ZooKeeper's."""

    CREATED = 1
    DELETED = 2
    CHANGED = 3
    CHILDREN = 4


class Happened(NamedTuple):
    """An event, and who may hear of it: whoever may read this."""

    event: Event
    path: str
    acl: Acl


class Znode:
    """One node: its data, who may do what, and ZooKeeper's counts.

    Attributes:
        cversion: how many children were ever made.
        owner: the session that an ephemeral one belongs to, else 0.
        children: their names; None for no children at all, which most have.
    """

    __slots__ = (
        "acl",
        "aversion",
        "children",
        "ctime",
        "cversion",
        "czxid",
        "data",
        "mtime",
        "mzxid",
        "owner",
        "pzxid",
        "version",
    )

    def __init__(self, data: bytes | None = b"", acl: Acl = OPEN, owner: int = 0, zxid: int = 0, time: int = 0) -> None:
        self.data, self.acl, self.owner = data, acl, owner
        self.czxid = self.mzxid = self.pzxid = zxid
        self.ctime = self.mtime = time
        self.version = self.cversion = self.aversion = 0
        self.children: dict[str, None] | None = None

    def stat(self) -> bytes:
        """Return the stat as clients are sent it.

        They are told of a version of the children that counts deletions too:
        as many as there were creations, but for the children that are left.
        """
        below = len(self.children or ())
        return STAT.pack(
            self.czxid,
            self.mzxid,
            self.ctime,
            self.mtime,
            self.version,
            2 * self.cversion - below,
            self.aversion,
            self.owner,
            len(self.data or b""),
            below,
            self.pzxid,
        )


def parent_of(path: str) -> str:
    """Return the path of the node above."""
    return path[: path.rindex("/")] or "/"


class Database:
    """All znodes, and the transaction that was the last.

    Attributes:
        zxid: of the last transaction.
        nodes: by path.
        ephemerals: the paths that each session owns.
        containers: paths that go when their last child has gone.
        lifetimes: of paths that go when nobody wrote them for so many milliseconds.
        happened: events since somebody took them, in order.
    """

    def __init__(self) -> None:
        self.zxid = 0
        self.nodes = {path: Znode() for path in SYSTEM}
        self.nodes["/"].children = {"zookeeper": None}
        self.nodes["/zookeeper"].children = {"quota": None, "config": None}
        self.nodes["/zookeeper/config"].acl, self.nodes["/zookeeper/config"].aversion = READABLE, -1
        self.ephemerals: dict[int, dict[str, None]] = {}
        self.containers: set[str] = set()
        self.lifetimes: dict[str, int] = {}
        self.happened: list[Happened] = []
        self._quotas = Quotas(self.nodes)
        self._journal: list[Callable[[], object]] = []
        self._acls: dict[Acl, Acl] = {OPEN: OPEN}
        self._enough_acls = FEW_ACLS

    def find(self, path: str) -> Znode | None:
        """Return a znode; the empty path is the root's, too."""
        return self.nodes.get(path or "/")

    def below(self, path: str) -> int:
        """Return how many znodes there are below one."""
        if path == "/":
            return len(self.nodes) - 1
        return sum(other.startswith(f"{path}/") for other in self.nodes)

    # -- changes

    def create(
        self,
        path: str,
        data: bytes | None,
        acl: Acl,
        *,
        zxid: int,
        time: int,
        owner: int = 0,
        container: bool = False,
        lifetime: int | None = None,
    ) -> Znode:
        """Make a znode below one that is there."""
        parent = self.nodes[parent_of(path)]
        self._keep_counts(parent)
        node = Znode(data, self._shared(acl), owner, zxid, time)
        self._attach(path, node, container=container, lifetime=lifetime)
        parent.cversion += 1
        parent.pzxid = zxid
        self._journal.append(partial(self._detach, path, node))
        self._journal += self._quotas.created(path, data)
        self._note(Event.CREATED, path, node, parent)
        return node

    def delete(self, path: str, *, zxid: int) -> None:
        """Take out a znode without children."""
        node, parent = self.nodes[path], self.nodes[parent_of(path)]
        self._keep_counts(parent)
        again = partial(self._attach, path, node, container=path in self.containers, lifetime=self.lifetimes.get(path))
        self._detach(path, node)
        parent.pzxid = zxid
        self._journal.append(again)
        self._journal += self._quotas.deleted(path, node.data)
        self._note(Event.DELETED, path, node, parent)

    def set_data(self, path: str, data: bytes | None, *, zxid: int, time: int) -> Znode:
        """Set a znode's data; its version is one more."""
        node = self.nodes[path]
        before = (node.data, node.version, node.mzxid, node.mtime)
        node.data, node.version, node.mzxid, node.mtime = data, node.version + 1, zxid, time
        self._journal.append(partial(_restore, node, ("data", "version", "mzxid", "mtime"), before))
        self._journal += self._quotas.changed(path, before[0], data)
        self.happened.append(Happened(Event.CHANGED, path, node.acl))
        return node

    def _note(self, event: Event, path: str, node: Znode, parent: Znode) -> None:
        self.happened.append(Happened(event, path, node.acl))
        self.happened.append(Happened(Event.CHILDREN, parent_of(path), parent.acl))

    def set_acl(self, path: str, acl: Acl) -> Znode:
        """Set who may do what with a znode."""
        node = self.nodes[path]
        node.acl, node.aversion = self._shared(acl), node.aversion + 1
        return node

    def end_session(self, session: int, *, zxid: int) -> None:
        """Take out what a session owns."""
        for path in sorted(self.ephemerals.get(session, ())):
            self.delete(path, zxid=zxid)
        self.ephemerals.pop(session, None)

    def restore(self, path: str, node: Znode, *, container: bool, lifetime: int | None) -> None:
        """Put a znode of an earlier run back, below its parent."""
        node.acl = self._shared(node.acl)
        self._attach(path, node, container=container, lifetime=lifetime)
        self._quotas.restored(path)

    def _shared(self, acl: Acl) -> Acl:
        """Return the one that is kept of all equal lists; those that no znode has are forgotten now and then."""
        if acl not in self._acls and len(self._acls) >= self._enough_acls:
            self._acls = {OPEN: OPEN} | {node.acl: node.acl for node in self.nodes.values()}
            self._enough_acls = 2 * len(self._acls) + FEW_ACLS
        return self._acls.setdefault(acl, acl)

    def _attach(self, path: str, node: Znode, *, container: bool, lifetime: int | None) -> None:
        above, _, name = path.rpartition("/")
        parent = self.nodes[above or "/"]
        if parent.children is None:
            parent.children = {}
        parent.children[name] = None
        self.nodes[path] = node
        if node.owner:
            self.ephemerals.setdefault(node.owner, {})[path] = None
        if container:
            self.containers.add(path)
        if lifetime is not None:
            self.lifetimes[path] = lifetime

    def _detach(self, path: str, node: Znode) -> None:
        above, _, name = path.rpartition("/")
        parent = self.nodes[above or "/"]
        assert parent.children is not None, "a znode is among its parent's children"
        del parent.children[name]
        if not parent.children:
            parent.children = None
        del self.nodes[path]
        if node.owner:
            del self.ephemerals[node.owner][path]
        self.containers.discard(path)
        self.lifetimes.pop(path, None)

    # -- taking back

    def _keep_counts(self, parent: Znode) -> None:
        names = ("cversion", "pzxid")
        self._journal.append(partial(_restore, parent, names, tuple(getattr(parent, name) for name in names)))

    def commit(self) -> list[Happened]:
        """Let what was done since the last commit stand; return what watches will want to know."""
        happened, self.happened = self.happened, []
        self._journal.clear()
        return happened

    def roll_back(self) -> None:
        """Take back what was done since the last commit."""
        for undo in reversed(self._journal):
            undo()
        self._journal.clear()
        self.happened.clear()

    # -- what goes by itself

    def overdue(self, time: int) -> Iterator[str]:
        """Yield containers that are empty again, and znodes that outlived their time."""
        for path in list(self.containers):
            node = self.nodes[path]
            if not node.children and node.cversion:
                yield path
        for path, lifetime in list(self.lifetimes.items()):
            node = self.nodes[path]
            if not node.children and time - node.mtime > lifetime:
                yield path


def _restore(node: Znode, names: tuple[str, ...], values: tuple[object, ...]) -> None:
    for name, value in zip(names, values, strict=True):
        setattr(node, name, value)
