"""What does a client that asks see?

The answers to all reads, as the bytes of a reply's body.  A read may leave a
watch behind, in the same breath in which it looks.

Source: `FinalRequestProcessor` of ZooKeeper 3.8.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from zkfleet.devserver import access, jute
from zkfleet.devserver.codes import Code, Refused
from zkfleet.devserver.database import Database, Event, Znode
from zkfleet.devserver.jute import Malformed
from zkfleet.devserver.requests import (
    AddWatch,
    CheckWatches,
    CountAll,
    Exists,
    GetAcl,
    GetChildren,
    GetChildren2,
    GetData,
    GetEphemerals,
    MultiRead,
    Op,
    RemoveWatches,
    Request,
    SetWatches,
    Sync,
)
from zkfleet.devserver.watches import Kind, Mode, Watches
from zkfleet.devserver.writing import END, error_part, part

# Bytes of the reply to one batch, whose few bytes could else ask for gigabytes.
# Clients take no more than jute.maxbuffer in a packet anyway.
MOST_AT_ONCE = 16 << 20


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads.

    Attributes:
        connection: who is told when a watch that is left fires.
        identities: what the client has shown itself to be.
    """

    database: Database
    watches: Watches
    connection: int
    session: int
    identities: Collection[access.Identity]

    def answer(self, wish: Request) -> bytes:
        """Return the body of the reply to any request that changes nothing."""
        match wish:
            case Exists():
                return self.exists(wish)
            case GetData():
                return self.get_data(wish)
            case GetChildren():
                return self.get_children(wish)
            case GetChildren2():
                return self.get_children(wish) + self._node(wish.path).stat()
            case MultiRead():
                return self.multi_read(wish)
            case GetAcl():
                return self.get_acl(wish)
            case CountAll():
                self._readable(wish.path)
                return jute.INT.pack(self.database.below(wish.path))
            case GetEphemerals():
                return self.get_ephemerals(wish)
            case Sync():
                return jute.text(wish.path)
            case AddWatch() | CheckWatches() | RemoveWatches():
                return self.about_watches(wish)
        return self.who_am_i()

    # -- znodes

    def exists(self, wish: Exists) -> bytes:
        """Look whether there is a znode; anybody may, and may watch for it to come."""
        if "\0" in wish.path:
            raise Refused(Code.BAD_ARGUMENTS)
        if wish.watch:
            self.watches.watch_data(wish.path, self.connection)
        return self._node(wish.path).stat()

    def get_data(self, wish: GetData) -> bytes:
        """Read a znode's data and stat."""
        node = self._readable(wish.path)
        if wish.watch:
            self.watches.watch_data(wish.path, self.connection)
        return jute.buffer(node.data) + node.stat()

    def get_children(self, wish: GetChildren | GetChildren2) -> bytes:
        """Read the names of a znode's children."""
        node = self._readable(wish.path)
        if wish.watch:
            self.watches.watch_children(wish.path, self.connection)
        return jute.texts(node.children or ())

    def multi_read(self, wish: MultiRead) -> bytes:
        """Read several things at once."""
        parts, size = [], 0
        for read in wish.reads:
            parts.append(self._part(read))
            size += len(parts[-1])
            if size > MOST_AT_ONCE:
                raise Malformed("a batch that reads too much")
        return b"".join((*parts, END))

    def _part(self, read: GetData | GetChildren) -> bytes:
        # In a batch no read leaves a watch behind.
        quiet = read._replace(watch=False)
        try:
            if isinstance(quiet, GetData):
                return part(Op.GET_DATA, self.get_data(quiet))
            return part(Op.GET_CHILDREN, self.get_children(quiet))
        except Refused as refused:
            return error_part(refused.code)

    def get_acl(self, wish: GetAcl) -> bytes:
        """Read an access control list, without its secrets unless one may change it."""
        node = self._node(wish.path)
        access.check(node.acl, access.READ | access.ADMIN, self.identities)
        try:
            access.check(node.acl, access.ADMIN, self.identities)
            shown = node.acl
        except Refused:
            shown = access.without_secrets(node.acl)
        return jute.acl(shown) + node.stat()

    def get_ephemerals(self, wish: GetEphemerals) -> bytes:
        """List the session's ephemeral znodes."""
        prefix = "" if wish.prefix.strip() in ("", "/") else wish.prefix
        owned = self.database.ephemerals.get(self.session, {})
        return jute.texts(path for path in owned if path.startswith(prefix))

    def who_am_i(self) -> bytes:
        """List what the client has shown itself to be."""
        told = [jute.text(identity.scheme) + jute.text(identity.user) for identity in self.identities]
        return jute.INT.pack(len(told)) + b"".join(told)

    # -- watches

    def about_watches(self, wish: AddWatch | CheckWatches | RemoveWatches) -> bytes:
        """Set a watch that stays, or look for one, or take it back."""
        match wish:
            case AddWatch(path, number):
                self.watches.add(path, self.connection, _mode(number))
                return jute.INT.pack(0)
            case CheckWatches(path, number):
                kind = _kind(number)
                # As in ZooKeeper 3.8: it cuts the path at its last slash, if there is a path.
                if path and "/" not in path:
                    raise Malformed("a path without a slash")
                found = path != "" and self.watches.exists(path, kind)
            case RemoveWatches(path, number):
                found = self.watches.remove(path, self.connection, _kind(number))
        if not found:
            raise Refused(Code.NO_WATCHER)
        return b""

    def missed(self, wish: SetWatches) -> Iterator[tuple[Event, str]]:
        """Set watches again, and yield what happened meanwhile; nobody keeps that for those that stay."""
        for path in wish.data:
            node = self.database.find(path)
            if node is None or node.mzxid > wish.zxid:
                yield Event.CHANGED if node else Event.DELETED, path
            else:
                self.watches.watch_data(path, self.connection)
        for path in wish.exist:
            if self.database.find(path) is not None:
                yield Event.CREATED, path
            else:
                self.watches.watch_data(path, self.connection)
        for path in wish.children:
            node = self.database.find(path)
            if node is None or node.pzxid > wish.zxid:
                yield Event.CHILDREN if node else Event.DELETED, path
            else:
                self.watches.watch_children(path, self.connection)
        for mode, paths in ((Mode.PERSISTENT, wish.persistent), (Mode.RECURSIVE, wish.recursive)):
            for path in paths:
                self.watches.add(path, self.connection, mode)

    # -- looking up

    def _readable(self, path: str) -> Znode:
        node = self._node(path)
        access.check(node.acl, access.READ, self.identities)
        return node

    def _node(self, path: str) -> Znode:
        node = self.database.find(path)
        if node is None:
            raise Refused(Code.NO_NODE)
        return node


def _mode(number: int) -> Mode:
    if number not in (Mode.PERSISTENT, Mode.RECURSIVE):
        raise Malformed(f"no mode of a watch: {number}")
    return Mode(number)


def _kind(number: int) -> Kind:
    try:
        return Kind(number)
    except ValueError as exc:
        raise Malformed(f"no kind of a watch: {number}") from exc
