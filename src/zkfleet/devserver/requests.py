"""What does a client ask for?

The operations of ZooKeeper 3.8 and what each of them carries.  `decode` turns
the body of a packet into one of the requests here, or says that it is none.
Nothing is looked up and no path is judged: that is for whoever answers.

Source: `zookeeper.jute`, `ZooDefs.OpCode` and `MultiOperationRecord` of 3.8.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

from zkfleet.devserver.jute import AclEntry, Malformed, Reader


class Op(IntEnum):
    """The operations, by the numbers that stand in a request's header."""

    CREATE = 1
    DELETE = 2
    EXISTS = 3
    GET_DATA = 4
    SET_DATA = 5
    GET_ACL = 6
    SET_ACL = 7
    GET_CHILDREN = 8
    SYNC = 9
    PING = 11
    GET_CHILDREN2 = 12
    CHECK = 13
    MULTI = 14
    CREATE2 = 15
    RECONFIG = 16
    CHECK_WATCHES = 17
    REMOVE_WATCHES = 18
    CREATE_CONTAINER = 19
    DELETE_CONTAINER = 20
    CREATE_TTL = 21
    MULTI_READ = 22
    AUTH = 100
    SET_WATCHES = 101
    SASL = 102
    GET_EPHEMERALS = 103
    COUNT_ALL = 104
    SET_WATCHES2 = 105
    ADD_WATCH = 106
    WHO_AM_I = 107
    CLOSE = -11


# These take a transaction id even if they are refused.
WRITES = frozenset(
    {
        Op.CREATE,
        Op.CREATE2,
        Op.CREATE_CONTAINER,
        Op.CREATE_TTL,
        Op.DELETE,
        Op.DELETE_CONTAINER,
        Op.SET_DATA,
        Op.SET_ACL,
        Op.CHECK,
        Op.MULTI,
        Op.RECONFIG,
        Op.CLOSE,
    }
)

CONTAINER = 4
TTL_FLAGS = (5, 6)
SEQUENTIAL_FLAGS = (2, 3, 6)
EPHEMERAL_FLAGS = (1, 3)
ALL_FLAGS = range(7)


class Connect(NamedTuple):
    """The first packet of a connection; `timeout` in milliseconds.

    `session` is 0 for a new one.  Clients before 3.4 do not know of `read_only`.
    """

    last_zxid: int
    timeout: int
    session: int
    password: bytes
    knows_read_only: bool


class Create(NamedTuple):
    """Make a znode; `kind` is one of four operations, `ttl` in milliseconds."""

    kind: Op
    path: str
    data: bytes | None
    acl: list[AclEntry]
    flags: int
    ttl: int = -1


class Delete(NamedTuple):
    """Delete a znode of a version, -1 for any."""

    path: str
    version: int


class SetData(NamedTuple):
    """Set a znode's data."""

    path: str
    data: bytes | None
    version: int


class SetAcl(NamedTuple):
    """Set a znode's access control list."""

    path: str
    acl: list[AclEntry]
    version: int


class Check(NamedTuple):
    """See that a znode has a version."""

    path: str
    version: int


class Exists(NamedTuple):
    """Ask for a znode's stat."""

    path: str
    watch: bool


class GetData(NamedTuple):
    """Ask for a znode's data and stat."""

    path: str
    watch: bool


class GetChildren(NamedTuple):
    """Ask for the names of a znode's children."""

    path: str
    watch: bool


class GetChildren2(NamedTuple):
    """Ask for the names of a znode's children and its stat."""

    path: str
    watch: bool


class GetAcl(NamedTuple):
    """Ask for a znode's access control list."""

    path: str


class CountAll(NamedTuple):
    """Ask how many znodes there are below one."""

    path: str


class GetEphemerals(NamedTuple):
    """Ask for the session's ephemeral znodes below a prefix."""

    prefix: str


class Sync(NamedTuple):
    """Wait until this server has all that was written before."""

    path: str


class Multi(NamedTuple):
    """Writes that happen together or not at all."""

    writes: tuple["Write", ...]


class MultiRead(NamedTuple):
    """Reads of one moment."""

    reads: tuple[GetData | GetChildren, ...]


class AddWatch(NamedTuple):
    """Set a watch that stays: 0 persistent, 1 recursive."""

    path: str
    mode: int


class CheckWatches(NamedTuple):
    """Ask whether there is a watch: 1 of children, 2 of data, 3 of any kind."""

    path: str
    kind: int


class RemoveWatches(NamedTuple):
    """Take watches back, by kind as for `CheckWatches`."""

    path: str
    kind: int


class SetWatches(NamedTuple):
    """Set the watches of a former connection again, which had seen `zxid`."""

    zxid: int
    data: list[str]
    exist: list[str]
    children: list[str]
    persistent: list[str]
    recursive: list[str]


class Auth(NamedTuple):
    """Show credentials."""

    scheme: str
    credential: bytes | None


class Sasl(NamedTuple):
    """A step of a SASL negotiation."""

    token: bytes


class Bare(NamedTuple):
    """A request that is nothing but its operation."""

    op: Op


Write = Create | Delete | SetData | Check
Request = (
    Write | SetAcl | Exists | GetData | GetChildren | GetChildren2 | GetAcl | CountAll | GetEphemerals | Sync | Multi
    | MultiRead | AddWatch | CheckWatches | RemoveWatches | SetWatches | Auth | Sasl | Bare
)  # fmt: skip


def connect(payload: bytes) -> Connect:
    """Return the first packet of a connection.

    Raises:
        Malformed: it is none.
    """
    reader = Reader(payload)
    reader.number()  # the protocol's version: there is only one
    last_zxid, timeout, session, password = reader.long(), reader.number(), reader.long(), reader.buffer() or b""
    knows = not reader.at_end
    return Connect(last_zxid, timeout, session, password, knows)


def decode(op: Op, reader: Reader) -> Request:
    """Return the request of a packet whose header was read.

    Raises:
        Malformed: the bytes spell none.
    """
    return _DECODERS[op](reader) if op in _DECODERS else Bare(op)


def _create(kind: Op) -> Callable[[Reader], Create]:
    def read(reader: Reader) -> Create:
        return Create(kind, reader.text(), reader.buffer(), reader.acl(), reader.number())

    return read


def _create_ttl(reader: Reader) -> Create:
    return _create(Op.CREATE_TTL)(reader)._replace(ttl=reader.long())


def _credential(reader: Reader) -> Auth:
    reader.number()  # a kind that nobody uses
    return Auth(reader.name(), reader.buffer())


def _token(reader: Reader) -> Sasl:
    token = reader.buffer()
    if token is None:
        raise Malformed("no token at all")
    return Sasl(token)


def _reconfigure(reader: Reader) -> Bare:
    for _ in ("joining", "leaving", "new"):
        reader.name()
    reader.long()
    return Bare(Op.RECONFIG)


def _set_watches(reader: Reader) -> SetWatches:
    return SetWatches(reader.long(), reader.texts(), reader.texts(), reader.texts(), [], [])


def _set_watches2(reader: Reader) -> SetWatches:
    return _set_watches(reader)._replace(persistent=reader.texts(), recursive=reader.texts())


def _parts(reader: Reader, allowed: frozenset[Op]) -> list[tuple[Op, Request]]:
    """Read the operations of a batch up to its end mark."""
    found: list[tuple[Op, Request]] = []
    while True:
        number, done = reader.number(), reader.flag()
        reader.number()  # an error code, in requests always -1
        if done:
            return found
        if number not in allowed:
            raise Malformed(f"operation {number} in a batch that does not take it")
        op = Op(number)
        found.append((op, decode(op, reader)))


def _multi(reader: Reader) -> Multi:
    return Multi(tuple(_in_multi(op, request) for op, request in _parts(reader, _IN_MULTI)))


def _in_multi(op: Op, request: Request) -> Write:
    """Return a write as a batch has it: the flags tell its kind, and not the operation."""
    if isinstance(request, Create):
        if request.flags in TTL_FLAGS and op is not Op.CREATE_TTL:
            raise Malformed("a time to live in an operation that has no place for it")
        kind = (
            Op.CREATE_CONTAINER
            if request.flags == CONTAINER
            else Op.CREATE_TTL
            if request.flags in TTL_FLAGS
            else Op.CREATE
        )
        return request._replace(kind=kind, ttl=request.ttl if kind is Op.CREATE_TTL else -1)
    assert isinstance(request, (Delete, SetData, Check))
    return request


def _multi_read(reader: Reader) -> MultiRead:
    found = _parts(reader, _IN_MULTI_READ)
    return MultiRead(tuple(request for _, request in found if isinstance(request, (GetData, GetChildren))))


_IN_MULTI = frozenset({Op.CREATE, Op.CREATE2, Op.CREATE_CONTAINER, Op.CREATE_TTL, Op.DELETE, Op.SET_DATA, Op.CHECK})
_IN_MULTI_READ = frozenset({Op.GET_DATA, Op.GET_CHILDREN})
_DECODERS: dict[Op, Callable[[Reader], Request]] = {
    Op.CREATE: _create(Op.CREATE),
    Op.CREATE2: _create(Op.CREATE2),
    Op.CREATE_CONTAINER: _create(Op.CREATE_CONTAINER),
    Op.CREATE_TTL: _create_ttl,
    Op.DELETE: lambda reader: Delete(reader.text(), reader.number()),
    Op.SET_DATA: lambda reader: SetData(reader.text(), reader.buffer(), reader.number()),
    Op.SET_ACL: lambda reader: SetAcl(reader.text(), reader.acl(), reader.number()),
    Op.CHECK: lambda reader: Check(reader.text(), reader.number()),
    Op.EXISTS: lambda reader: Exists(reader.text(), reader.flag()),
    Op.GET_DATA: lambda reader: GetData(reader.text(), reader.flag()),
    Op.GET_CHILDREN: lambda reader: GetChildren(reader.text(), reader.flag()),
    Op.GET_CHILDREN2: lambda reader: GetChildren2(reader.text(), reader.flag()),
    Op.GET_ACL: lambda reader: GetAcl(reader.text()),
    Op.COUNT_ALL: lambda reader: CountAll(reader.text()),
    Op.GET_EPHEMERALS: lambda reader: GetEphemerals(reader.name()),
    Op.SYNC: lambda reader: Sync(reader.text()),
    Op.MULTI: _multi,
    Op.MULTI_READ: _multi_read,
    Op.ADD_WATCH: lambda reader: AddWatch(reader.text(), reader.number()),
    Op.CHECK_WATCHES: lambda reader: CheckWatches(reader.text(), reader.number()),
    Op.REMOVE_WATCHES: lambda reader: RemoveWatches(reader.text(), reader.number()),
    Op.SET_WATCHES: _set_watches,
    Op.SET_WATCHES2: _set_watches2,
    Op.RECONFIG: _reconfigure,
    Op.AUTH: _credential,
    Op.SASL: _token,
}
