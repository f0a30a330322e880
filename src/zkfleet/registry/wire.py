"""How do requests that kazoo does not know travel over its connection?

The one module that touches kazoo's insides.  It gives kazoo three requests of
ZooKeeper 3.6 (`MultiRead`, `AddWatch`, `RemoveWatches`) in the form of its own
ones, a reply object that hands results on from kazoo's connection thread, and
a tap on that thread: watch events, session grants, and a way to queue requests
that never waits.  Replies and events pass through that single thread in the
order of the stream, so whoever takes both from here keeps ZooKeeper's promise
that an event comes before the reply which reveals the change.  Nothing here
blocks or decides.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from kazoo.client import KazooClient
from kazoo.protocol.connection import ConnectionHandler
from kazoo.protocol.serialization import Connect
from kazoo.protocol.serialization import Watch as WatchNotice
from kazoo.protocol.states import KeeperState

from zkfleet.errors import UnsupportedServer
from zkfleet.registry.reads import Event, GetData, Mode, Read, Reply, Stat, Unreadable, Znode

_INT = struct.Struct(">i")
_HEADER = struct.Struct(">i?i")
_HEADER_INT = struct.Struct(">i?ii")
_STAT = struct.Struct(">qqqqiiiqiiq")
_END = _HEADER.pack(-1, True, -1)
_GET_DATA, _GET_CHILDREN = 4, 8
_REMOVE_BOTH_KINDS = 3

# A server refuses packets over jute.maxbuffer, 0xfffff bytes unless it was
# told otherwise, by closing the connection; this leaves room for the framing.
PACKET_LIMIT = 0xFFFFF
SAFE_PACKET = 900_000


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
                replies.append(names)
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


class Awaited:
    """Stands where kazoo expects its result object and hands the outcome on.

    `then(value, error, zxid)` is called once, normally on kazoo's connection
    thread, at once on the caller's if the client is closed: it must not block.
    """

    __slots__ = ("_client", "_then")

    def __init__(self, client: KazooClient, then: Callable[[Any, Exception | None, int], None]) -> None:
        self._client = client
        self._then: Callable[[Any, Exception | None, int], None] | None = then

    def set(self, value: Any = None) -> None:
        """Take the value of a reply."""
        self._finish(value, None)

    def set_exception(self, error: Exception) -> None:
        """Take the error of a reply, or of the connection."""
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


class Listener(Protocol):
    """Who is told what a tap sees, on kazoo's connection thread; must only enqueue."""

    def on_event(self, event: Event, path: str) -> None:
        """A watch fired, at a path below the chroot."""

    def on_grant(self, timeout: float) -> None:
        """The server granted or resumed a session, with this timeout in seconds."""


class Tap:
    """Sees what arrives on a client's connection, before kazoo acts on it, and what leaves.

    One for each client, however many registries use it; `Tap.on` finds it.

    kazoo wakes its thread by a byte in a pipe for every request, and waits for
    room in it, which its own thread makes: a burst of requests while that
    thread is away, or sends itself, stops both for ever.  Here a few bytes are
    in the pipe at most, and each that is taken out is followed by the next.
    """

    MOST_BYTES = 64

    def __init__(self, client: KazooClient) -> None:
        connection: ConnectionHandler = client._connection
        missing = [name for name in ("_read_watch_event", "_invoke", "_send_request") if not hasattr(connection, name)]
        if missing:
            raise UnsupportedServer(
                f"this kazoo has no {' and no '.join(missing)} in its connection",
                hint="zkfleet is tested with kazoo 2.11: install that version",
            )
        self.grants = 0
        self._client, self._connection = client, connection
        self._listeners: tuple[Listener, ...] = ()
        self._forget_after: int | None = None
        self._lock = threading.Lock()
        self._bytes = self._owed = 0
        self._read_watch_event, self._invoke = connection._read_watch_event, connection._invoke
        self._send_request = connection._send_request
        connection._read_watch_event, connection._invoke = self._see_event, self._see_invoke
        connection._send_request = self._see_send

    @classmethod
    def on(cls, client: KazooClient) -> "Tap":
        """Return the tap of a client, made if there is none yet."""
        tap: Tap | None = getattr(client._connection, "_zkfleet_tap", None)
        if tap is None:
            tap = client._connection._zkfleet_tap = cls(client)
        return tap

    def add(self, listener: Listener) -> None:
        """Tell somebody of what is seen from now on."""
        self._listeners += (listener,)

    def remove(self, listener: Listener) -> None:
        """Tell somebody no more; the last one leaves the connection as it was found."""
        self._listeners = tuple(other for other in self._listeners if other is not listener)
        connection = self._connection
        if not self._listeners and not self._owed and connection._invoke == self._see_invoke:
            connection._read_watch_event, connection._invoke = self._read_watch_event, self._invoke
            connection._send_request = self._send_request
            del connection._zkfleet_tap

    def forget_session(self, grants: int) -> None:
        """Have the next connection ask for a new session, as a client that has seen nothing.

        kazoo holds on to a session until a server says that it has expired.  A
        server whose data were wiped never says so: it refuses every client that
        has seen a later zxid than its own, and kazoo would knock for ever.

        Args:
            grants: how many there had been when the session was last seen; if
                another came meanwhile, the session is alive and stays.
        """
        self._forget_after = grants

    # -- on kazoo's connection thread

    def _see_event(self, buffer: bytes, offset: int) -> None:
        notice, _ = WatchNotice.deserialize(buffer, offset)
        if notice.type in _EVENTS:
            path = self._client.unchroot(notice.path)
            for listener in self._listeners:
                listener.on_event(Event(notice.type), path)
            self._read_watch_event(buffer, offset)

    def _see_invoke(self, timeout: float, request: Any, xid: int | None = None) -> Any:
        if not isinstance(request, Connect):
            return self._invoke(timeout, request, xid)
        if self._forget_after == self.grants:
            self._client._reset_session()
            self._client.last_zxid = 0
            request = request._replace(last_zxid_seen=0, session_id=0, passwd=self._client._session_passwd)
        self._forget_after = None
        result = self._invoke(timeout, request, xid)
        if result[0].time_out > 0:
            self.grants += 1
            for listener in self._listeners:
                listener.on_grant(result[0].time_out / 1000)
        return result

    def _see_send(self, read_timeout: float, connect_timeout: float) -> None:
        self._send_request(read_timeout, connect_timeout)
        with self._lock:
            self._bytes = max(self._bytes - 1, 0)
            if not self._client._queue:
                self._owed = 0
            elif self._owed:
                self._owed -= 1
                self._put_byte()

    # -- on any thread

    def send(self, request: Any, awaited: Awaited) -> None:
        """Queue a request without waiting."""
        if self._client._state in _ENDED or self._connection._write_sock is None:
            self._client._call(request, awaited)  # which tells why not, and sends nothing
            return
        self._client._queue.append((request, awaited))
        with self._lock:
            read = self._put_byte()
        if not read:
            self._client._notify_pending(KeeperState.CLOSED)

    def _put_byte(self) -> bool:
        """Put a byte into the pipe, or owe it; tell whether anybody will read the queue."""
        if self._bytes >= self.MOST_BYTES:
            self._owed += 1
            return True
        try:
            self._connection._write_sock.send(b"\0", socket.MSG_DONTWAIT)
            self._bytes += 1
        except BlockingIOError:
            self._owed += 1
        except (AttributeError, OSError):
            return False
        return True


_EVENTS = frozenset(Event)
_ENDED = (KeeperState.AUTH_FAILED, KeeperState.CLOSED, KeeperState.EXPIRED_SESSION)


def send(client: KazooClient, request: Any, then: Callable[[Any, Exception | None, int], None]) -> None:
    """Queue a request, from any thread, without waiting; `then` gets the outcome."""
    Tap.on(client).send(request, Awaited(client, then))


def hang_up(client: KazooClient) -> None:
    """Break a client's connection, so that whoever waits for the server on it goes on."""
    connected = client._connection._socket
    with contextlib.suppress(OSError, AttributeError):
        connected.shutdown(socket.SHUT_RDWR)


def four_letters(client: KazooClient, command: bytes, timeout: float) -> str:
    """Return the connected member's answer to one of its four-letter commands.

    kazoo's own `command` gives TLS a port for a host name.  The certificate is
    checked here as it is there, but not for the name: this is the member that
    the session, whose check included it, is connected to.
    """
    connected = client._connection._socket
    if connected is None:
        raise ConnectionError("the link broke before the version was known")
    with _dial(client, connected.getpeername()[:2], timeout, check_hostname=False) as connection:
        connection.sendall(command)
        return b"".join(iter(lambda: connection.recv(8192), b"")).decode(errors="replace")


def why_unreachable(client: KazooClient, timeout: float) -> str:
    """Dial every member once and say what each has against it; kazoo only logs that."""
    found = []
    for host, port in client.hosts:
        try:
            _dial(client, (host, port), timeout, check_hostname=client.check_hostname).close()
            found.append(f"{host}:{port} accepts connections and does not answer")
        except OSError as exc:
            found.append(f"{host}:{port}: {exc}")
    return "; ".join(found)


def _dial(client: KazooClient, address: tuple[str, int], timeout: float, *, check_hostname: bool) -> Any:
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


def batches(reads: Iterable[Read], limit: int = SAFE_PACKET) -> Iterable[tuple[Read, ...]]:
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
