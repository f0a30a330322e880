"""May this change be made, and what does the client hear of it?

The rules of every write, one after the other as ZooKeeper checks them, since
the first that is broken gives the error code.  A `Writer` is one transaction:
its changes stand together, or none of them is made.

Source: `PrepRequestProcessor` and `FinalRequestProcessor` of ZooKeeper 3.8.
"""

import struct
from collections.abc import Collection
from dataclasses import dataclass

from zkfleet import paths
from zkfleet.devserver import access, jute
from zkfleet.devserver.codes import Code, Refused
from zkfleet.devserver.database import SYSTEM, Database, Znode, parent_of
from zkfleet.devserver.requests import (
    ALL_FLAGS,
    EPHEMERAL_FLAGS,
    SEQUENTIAL_FLAGS,
    TTL_FLAGS,
    Check,
    Create,
    Delete,
    Multi,
    Op,
    Request,
    SetAcl,
    SetData,
    Write,
)
from zkfleet.errors import BadPath

LONGEST_LIFE = (1 << 40) - 1
ANY_VERSION = -1
_PLAIN = (Op.CREATE, Op.CREATE2)
_NEVER = {
    Op.RECONFIG: Code.RECONFIG_DISABLED,
    # Only the server's own cleaning may do that.
    Op.DELETE_CONTAINER: Code.BAD_ARGUMENTS,
}
_PART = struct.Struct(">i?i")
END = _PART.pack(-1, True, -1)


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes, when, and in which transaction.

    Attributes:
        time: milliseconds since 1970.
        identities: what the client has shown itself to be.
    """

    database: Database
    zxid: int
    time: int
    session: int
    identities: Collection[access.Identity]

    def answer(self, op: Op, wish: Request) -> bytes:
        """Make a change and return the body of the reply."""
        match wish:
            case Create():
                path, node = self.create(wish)
                return jute.text(path) + (b"" if op is Op.CREATE else node.stat())
            case Delete():
                self.delete(wish)
            case SetData():
                return self.set_data(wish).stat()
            case SetAcl():
                return self.set_acl(wish).stat()
            case Check():
                self.check(wish)
            case Multi():
                return self.multi(wish)
            case _ if op is Op.CLOSE:
                self.database.end_session(self.session, zxid=self.zxid)
            case _:
                raise Refused(_NEVER[op])
        return b""

    def create(self, wish: Create) -> tuple[str, Znode]:
        """Make a znode; returns the path that it got."""
        self._check_flags(wish)
        if "/" not in wish.path or "\0" in wish.path:
            raise Refused(Code.BAD_ARGUMENTS)
        acl = access.settled(wish.acl, self.identities)
        parent = self._node(parent_of(wish.path))
        access.check(parent.acl, access.CREATE, self.identities)
        path = f"{wish.path}{parent.cversion:010d}" if wish.flags in SEQUENTIAL_FLAGS else wish.path
        _check_path(path)
        if self.database.find(path) is not None:
            raise Refused(Code.NODE_EXISTS)
        if parent.owner:
            raise Refused(Code.NO_CHILDREN_FOR_EPHEMERALS)
        node = self.database.create(
            path,
            wish.data,
            acl,
            zxid=self.zxid,
            time=self.time,
            owner=self.session if wish.flags in EPHEMERAL_FLAGS and wish.kind in _PLAIN else 0,
            container=wish.kind is Op.CREATE_CONTAINER,
            lifetime=wish.ttl if wish.kind is Op.CREATE_TTL else None,
        )
        return path, node

    @staticmethod
    def _check_flags(wish: Create) -> None:
        mortal = wish.flags in TTL_FLAGS
        in_time = 0 < wish.ttl <= LONGEST_LIFE if mortal else wish.ttl < 0
        if wish.flags not in ALL_FLAGS or not in_time or (wish.kind is Op.CREATE_TTL and not mortal):
            raise Refused(Code.BAD_ARGUMENTS)

    def delete(self, wish: Delete) -> None:
        """Delete a znode."""
        if "/" not in wish.path or "\0" in wish.path or wish.path in SYSTEM:
            raise Refused(Code.BAD_ARGUMENTS)
        parent = self._node(parent_of(wish.path))
        access.check(parent.acl, access.DELETE, self.identities)
        node = self._node(wish.path)
        _check_version(node.version, wish.version)
        if node.children:
            raise Refused(Code.NOT_EMPTY)
        self.database.delete(wish.path, zxid=self.zxid)

    def set_data(self, wish: SetData) -> Znode:
        """Set a znode's data."""
        _check_path(wish.path)
        node = self._node(wish.path)
        access.check(node.acl, access.WRITE, self.identities)
        _check_version(node.version, wish.version)
        return self.database.set_data(wish.path, wish.data, zxid=self.zxid, time=self.time)

    def set_acl(self, wish: SetAcl) -> Znode:
        """Set who may do what with a znode."""
        _check_path(wish.path)
        acl = access.settled(wish.acl, self.identities)
        node = self._node(wish.path)
        access.check(node.acl, access.ADMIN, self.identities)
        _check_version(node.aversion, wish.version)
        return self.database.set_acl(wish.path, acl)

    def check(self, wish: Check) -> Znode:
        """See that a znode has a version."""
        _check_path(wish.path)
        node = self._node(wish.path)
        access.check(node.acl, access.READ, self.identities)
        _check_version(node.version, wish.version)
        return node

    def multi(self, wish: Multi) -> bytes:
        """Make all changes or none; returns the reply's body, which tells of each."""
        results: list[bytes] = []
        for number, write in enumerate(wish.writes):
            try:
                results.append(self._part(write))
            except Refused as refused:
                self.database.roll_back()
                codes = [Code.OK] * number + [refused.code]
                codes += [Code.RUNTIME_INCONSISTENCY] * (len(wish.writes) - len(codes))
                results = [error_part(code) for code in codes]
                break
        return b"".join((*results, END))

    def _part(self, write: Write) -> bytes:
        match write:
            case Create():
                path, node = self.create(write)
                if write.kind is Op.CREATE:
                    return part(Op.CREATE, jute.text(path))
                return part(Op.CREATE2, jute.text(path) + node.stat())
            case Delete():
                self.delete(write)
                return part(Op.DELETE)
            case SetData():
                return part(Op.SET_DATA, self.set_data(write).stat())
        self.check(write)
        return part(Op.CHECK)

    def _node(self, path: str) -> Znode:
        node = self.database.find(path)
        if node is None:
            raise Refused(Code.NO_NODE)
        return node


def part(op: Op, body: bytes = b"") -> bytes:
    """Return the result of one operation in a batch."""
    return _PART.pack(op, False, 0) + body


def error_part(code: Code) -> bytes:
    """Return the error of one operation in a batch."""
    return _PART.pack(-1, False, code) + jute.INT.pack(code)


def _check_path(path: str) -> None:
    try:
        paths.check(path)
    except BadPath as exc:
        raise Refused(Code.BAD_ARGUMENTS) from exc


def _check_version(is_: int, wanted: int) -> None:
    if wanted not in (ANY_VERSION, is_):
        raise Refused(Code.BAD_VERSION)
