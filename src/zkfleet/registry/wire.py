"""How do requests that kazoo does not know travel over its connection?

Three requests of ZooKeeper 3.6 (`MultiRead`, `AddWatch`, `RemoveWatches`) and
its atomic batch with containers (`Multi`) in the form of kazoo's own, a reply
object that hands results on, and questions to single members outside any
session.  Nothing here decides.  With `tap`, which sends these, it is what knows
kazoo's insides.
"""

import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from kazoo.client import KazooClient
from kazoo.exceptions import (
    EXCEPTIONS,
    AuthFailedError,
    ConnectionLoss,
    KazooException,
    RolledBackError,
    RuntimeInconsistency,
    SessionExpiredError,
)
from kazoo.protocol.serialization import Create

from zkfleet.registry.reads import MARKS, GetData, Mode, Read, Reply, Stat, Unreadable, Znode

_INT = struct.Struct(">i")
_HEADER = struct.Struct(">i?i")
_HEADER_INT = struct.Struct(">i?ii")
_STAT = struct.Struct(">qqqqiiiqiiq")
_END = _HEADER.pack(-1, True, -1)
_CREATE, _GET_DATA, _SET_DATA, _GET_CHILDREN, _CREATE2, _CREATE_CONTAINER = 1, 4, 5, 8, 15, 19
CONTAINER = 4
_CONSEQUENCES = (RolledBackError, RuntimeInconsistency)
_REMOVE_BOTH_KINDS = 3

# A server refuses packets over jute.maxbuffer, 0xfffff bytes unless it was
# told otherwise, by closing the connection.
PACKET_LIMIT = 0xFFFFF
SMALLEST_LIMIT, LARGEST_LIMIT = 10_000, 0x7FFFFFFF


def _string(text: str) -> bytes:
    encoded = text.encode()
    return _INT.pack(len(encoded)) + encoded


@dataclass(frozen=True, slots=True)
class MultiRead:
    """Many reads, one round trip, one point in time (ZooKeeper 3.6, ZOOKEEPER-3402)."""

    type: ClassVar[int] = 22
    reads: tuple[Read, ...]
    chroot: str = ""

    def serialize(self) -> bytes:
        """Return the body: a header, the path and "no watch" for each read, then the end mark."""
        parts: list[bytes] = []
        for read in self.reads:
            opcode = _GET_DATA if isinstance(read, GetData) else _GET_CHILDREN
            parts += (_HEADER.pack(opcode, False, -1), _string(rooted(self.chroot, read.path)), b"\0")
        return b"".join((*parts, _END))

    def deserialize(self, buffer: bytes, offset: int) -> tuple[Reply, ...]:
        """Return the replies in the order of the reads."""
        replies: list[Reply] = []
        for _ in self.reads:
            kind, _done, _error, number = _HEADER_INT.unpack_from(buffer, offset)
            offset += _HEADER_INT.size
            if kind == _GET_DATA:
                end = offset + max(number, 0)
                replies.append(Znode(buffer[offset:end], Stat._make(_STAT.unpack_from(buffer, end))))
                offset = end + _STAT.size
            elif kind == _GET_CHILDREN:
                names, offset = _names(buffer, offset, number)
                replies.append(tuple(name for name in names if name != MARKS))
            else:
                replies.append(_FAULTS.get(number, Unreadable.OTHER))
        return tuple(replies)


_FAULTS = {fault.value: fault for fault in Unreadable}


def _names(buffer: bytes, offset: int, count: int) -> tuple[tuple[str, ...], int]:
    names = []
    unpack, size = _INT.unpack_from, _INT.size
    for _ in range(count):
        start = offset + size
        offset = start + unpack(buffer, offset)[0]
        names.append(buffer[start:offset].decode())
    return tuple(names), offset


class UnknownRefusal(KazooException):  # type: ignore[misc]  # kazoo has no types
    """A server refused a write for a reason that kazoo has no name for."""


@dataclass(frozen=True, slots=True)
class Multi:
    """Writes that are made together or not at all; kazoo's own form knows no containers.

    Attributes:
        operations: kazoo's `Create`, `Delete`, `SetData`, `CheckVersion`, and `container`s.
    """

    type: ClassVar[int] = 14
    operations: tuple[Any, ...]

    def serialize(self) -> bytes:
        """Return the body: a header and the request for each operation, then the end mark."""
        parts: list[bytes] = []
        for operation in self.operations:
            container = isinstance(operation, Create) and operation.flags == CONTAINER
            opcode = _CREATE_CONTAINER if container else operation.type
            parts += (_HEADER.pack(opcode, False, -1), bytes(operation.serialize()))
        return b"".join((*parts, _END))

    def deserialize(self, buffer: bytes, offset: int) -> list[Any]:
        """Return for each operation its Stat (with `SetData`), True, or kazoo's exception."""
        results: list[Any] = []
        for _ in self.operations:
            kind, _done, _error = _HEADER.unpack_from(buffer, offset)
            offset += _HEADER.size
            result: Any = True
            if kind == _SET_DATA:
                result = Stat._make(_STAT.unpack_from(buffer, offset))
                offset += _STAT.size
            elif kind in (_CREATE, _CREATE2):
                offset += _INT.size + _INT.unpack_from(buffer, offset)[0]
                offset += _STAT.size if kind == _CREATE2 else 0
            elif kind == -1:
                code = _INT.unpack_from(buffer, offset)[0]
                result = EXCEPTIONS[code]() if code in EXCEPTIONS else UnknownRefusal(f"error {code}")
                offset += _INT.size
            results.append(result)
        return results


def refusal_in(results: Sequence[Any]) -> tuple[Exception | None, int]:
    """Return why a batch was refused, and by which operation: not what the others say that were rolled back with it."""
    faults = [(result, at) for at, result in enumerate(results) if isinstance(result, Exception)]
    if not faults:
        return None, 0
    return next((fault for fault in faults if not isinstance(fault[0], _CONSEQUENCES)), faults[0])


def container(path: str, data: bytes, acl: list[Any]) -> Create:
    """Return the request for a znode that the server deletes some time after its last child (ZooKeeper 3.5)."""
    return Create(path, data, acl, CONTAINER)


@dataclass(frozen=True, slots=True)
class AddWatch:
    """A watch that stays when it has fired (ZooKeeper 3.6, ZOOKEEPER-1416)."""

    type: ClassVar[int] = 106
    path: str
    mode: Mode

    def serialize(self) -> bytes:
        """Return the body: path and mode."""
        return _string(self.path) + _INT.pack(self.mode)

    def deserialize(self, buffer: bytes, offset: int) -> bool:
        """Return True: the reply has no body worth a look."""
        return True


@dataclass(frozen=True, slots=True)
class RemoveWatches:
    """Take back all of this connection's watches on one path."""

    type: ClassVar[int] = 18
    path: str

    def serialize(self) -> bytes:
        """Return the body: path and the kind "any"."""
        return _string(self.path) + _INT.pack(_REMOVE_BOTH_KINDS)

    def deserialize(self, buffer: bytes, offset: int) -> bool:
        """Return True: the reply has no body."""
        return True


class NotSent(ConnectionLoss):  # type: ignore[misc]  # kazoo has no types
    """The link broke, or the caller lost patience, before a request was sent: it was not carried out."""


class Awaited:
    """Stands where kazoo expects its result object and hands the outcome on.

    `then(value, error, zxid)` is called once, normally on kazoo's connection
    thread, at once on the caller's if the client is closed: it must not block.

    A request is sent over the connection that it was queued for, or never:
    `grant` counts the connections before it, and `begin` and `withdraw` agree
    on whether any of its bytes may have left.
    """

    __slots__ = ("_client", "_lock", "_then", "_withdrawn", "grant", "sent")

    def __init__(self, client: KazooClient, then: Callable[[Any, Exception | None, int], None], grant: int) -> None:
        self._client, self.grant = client, grant
        self._then: Callable[[Any, Exception | None, int], None] | None = then
        self._lock = threading.Lock()
        self.sent = self._withdrawn = False

    def begin(self, grant: int) -> bool:
        """Take note that it is being sent over this connection; tell whether it may be."""
        with self._lock:
            self.sent = self.sent or (grant == self.grant and not self._withdrawn)
            return self.sent

    def withdraw(self) -> bool:
        """Have it never be sent; tell whether that is so."""
        with self._lock:
            self._withdrawn = True
            return not self.sent

    def set(self, value: Any = None) -> None:
        """Take the value of a reply."""
        self._finish(value, None)

    def set_exception(self, error: Exception) -> None:
        """Take the error of a reply, or of the connection."""
        # So kazoo says that replies are missing (see `Tap`): ours may be among them.
        # No server refuses the credentials in a reply: the connection ends so.
        if isinstance(error, (ConnectionLoss, SessionExpiredError)) and not self.sent:
            error = NotSent(str(error))
        elif isinstance(error, RuntimeError) or (isinstance(error, AuthFailedError) and self.sent):
            error = ConnectionLoss(str(error))
        self._finish(None, error)

    def _finish(self, value: Any, error: Exception | None) -> None:
        then, self._then = self._then, None
        if then is not None:
            then(value, error, self._client.last_zxid)


def rooted(chroot: str, path: str) -> str:
    """Return the path as the server knows it."""
    if not chroot:
        return path
    return chroot if path == "/" else chroot + path


def four_letters(client: KazooClient, command: bytes, timeout: float) -> str:
    """Return the connected member's answer to one of its four-letter commands.

    kazoo's own `command` gives TLS a port for a host name.  The certificate is
    checked here as it is there, but not for the name: this is the member that
    the session, whose check included it, is connected to.
    """
    connected = client._connection._socket
    if connected is None:
        raise ConnectionError("the link broke before the version was known")
    with dial(client, connected.getpeername()[:2], timeout, check_hostname=False) as connection:
        connection.sendall(command)
        return b"".join(iter(lambda: connection.recv(8192), b"")).decode(errors="replace")


def dial(client: KazooClient, address: tuple[str, int], timeout: float, *, check_hostname: bool) -> Any:
    """Connect to a member outside any session, as kazoo would; raises `OSError`."""
    return client.handler.create_connection(
        address,
        hostname=address[0],
        timeout=timeout,
        use_ssl=client.use_ssl,
        ca=client.ca,
        certfile=client.certfile,
        keyfile=client.keyfile,
        keyfile_password=client.keyfile_password,
        verify_certs=client.verify_certs,
        check_hostname=check_hostname,
    )


def safe_packet(limit: int) -> int:
    """Return how many bytes we put into one packet, so that there is room for the framing: 6/7 of jute.maxbuffer."""
    return limit * 6 // 7


def batches(reads: Iterable[Read], limit: int) -> Iterable[tuple[Read, ...]]:
    """Split reads into runs whose requests stay under the packet limit."""
    run: list[Read] = []
    size = 0
    for read in reads:
        cost = len(read.path.encode()) + _HEADER.size + 5
        if run and size + cost > limit:
            yield tuple(run)
            run, size = [], 0
        run.append(read)
        size += cost
    yield tuple(run)
