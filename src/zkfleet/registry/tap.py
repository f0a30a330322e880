"""What arrives on a client's connection, and how is it sent to without waiting?

A `Tap` sits on kazoo's connection thread: it sees watch events and session
grants before kazoo acts on them, queues requests, and keeps what is true of
the connection as a whole: which watches the server has, which znodes of its
session are whose, and how long its members are waited for.  Replies and events pass through that single thread in
the order of the stream, so whoever takes both from here keeps ZooKeeper's
promise that an event comes before the reply which reveals the change.

There is one for each client, however many registries use it; the last one
leaves the connection as it was found.  Nothing here blocks, but `end_session`.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from math import inf
from typing import Any, Protocol

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionDropped, ConnectionLoss
from kazoo.protocol.connection import ConnectionHandler
from kazoo.protocol.serialization import CloseInstance, Connect
from kazoo.protocol.serialization import Watch as WatchNotice
from kazoo.protocol.states import KeeperState

from zkfleet.clocks import since_boot
from zkfleet.errors import UnsupportedServer
from zkfleet.registry.pacing import Pace
from zkfleet.registry.patience import Patience
from zkfleet.registry.reads import Event, Mode
from zkfleet.registry.wire import Awaited

_EVENTS = frozenset(Event)
_ENDED = (KeeperState.AUTH_FAILED, KeeperState.CLOSED, KeeperState.EXPIRED_SESSION)
_USED = ("_read_watch_event", "_read_socket", "_invoke", "_send_request", "_expand_client_hosts", "handler")
_AFTER_HANGING_UP = 0.5


class Listener(Protocol):
    """Who is told what a tap sees, on kazoo's connection thread; must only enqueue."""

    def on_event(self, event: Event, path: str) -> None:
        """A watch fired, at a path below the chroot."""

    def on_grant(self, timeout: float) -> None:
        """The server granted or resumed a session, with this timeout in seconds."""


class PlacedWatches:
    """The watches that a connection has on the server: one mode a path; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._modes: dict[str, Mode | None] = {}

    def __len__(self) -> int:
        return len(self._modes)

    def place(self, path: str, mode: Mode) -> bool:
        """Take note that a watch is wanted; tell whether the server must be asked for it."""
        with self._lock:
            placed = self._modes.get(path)
            if placed is not None and placed >= mode:
                return False
            self._modes[path] = mode
            return True

    def is_recursive(self, path: str) -> bool:
        """Tell whether the watch at a path is of the kind that hears of no lists of children."""
        return self._modes.get(path) is Mode.RECURSIVE

    def drop(self, path: str) -> bool:
        """Forget a watch; tell whether there may be one."""
        with self._lock:
            return self._modes.pop(path, self) is not self

    def doubt(self) -> None:
        """They may be lost: they are placed again when they are wanted, and still taken back."""
        with self._lock:
            self._modes = dict.fromkeys(self._modes)

    def clear(self) -> None:
        """The connection is a new one."""
        with self._lock:
            self._modes.clear()


class Tap:
    """Sees what arrives on a client's connection, and sends; see the module.

    kazoo wakes its thread by a byte in a pipe for every request, and waits for
    room in it, which its own thread makes: a burst of requests while that
    thread is away, or sends itself, stops both for ever.  Here a few bytes are
    in the pipe at most, and each that is taken out is followed by the next.

    Attributes:
        grants: how often a session was granted or resumed.
        watches: what the server watches for this connection.
        holders: which registration has which znode of this session, by path.
    """

    MOST_BYTES = 64
    _lock_of_all = threading.Lock()

    def __init__(self, client: KazooClient) -> None:
        connection: ConnectionHandler = client._connection
        missing = [name for name in _USED if not hasattr(connection, name)]
        if missing:
            raise UnsupportedServer(
                f"this kazoo has no {' and no '.join(missing)} in its connection",
                hint="zkfleet is tested with kazoo 2.11: install that version",
            )
        self.grants, self.linked_at = 0, -inf
        self.watches = PlacedWatches()
        self.holders: dict[str, object] = {}
        self._client, self._connection = client, connection
        self._listeners: tuple[Listener, ...] = ()
        self._forget_after: int | None = None
        self._lock = threading.Lock()
        self._pipe: object = None
        self._bytes = self._owed = 0
        self._read_watch_event, self._invoke = connection._read_watch_event, connection._invoke
        self._read_socket, self._send_request = connection._read_socket, connection._send_request
        connection._read_watch_event, connection._invoke = self._see_event, self._see_invoke
        connection._read_socket, connection._send_request = self._see_read, self._see_send
        self._expand_hosts, self._handler = connection._expand_client_hosts, connection.handler
        self._patience = Patience(client._session_timeout / 1000)
        connection._expand_client_hosts = self._see_hosts
        connection.handler = Pace(connection.handler, self._patience, lambda: connection._socket)

    @classmethod
    def join(cls, client: KazooClient, listener: Listener) -> "Tap":
        """Tell somebody of what a client's connection brings from now on; return its tap."""
        with cls._lock_of_all:
            tap: Tap | None = getattr(client._connection, "_zkfleet_tap", None)
            if tap is None:
                tap = client._connection._zkfleet_tap = cls(client)
            tap._listeners += (listener,)
            return tap

    def leave(self, listener: Listener) -> None:
        """Tell somebody no more; the last one leaves the connection as it was found."""
        with self._lock_of_all:
            self._listeners = tuple(other for other in self._listeners if other is not listener)
            connection = self._connection
            if not self._listeners and not self._owed and connection._invoke == self._see_invoke:
                connection._read_watch_event, connection._invoke = self._read_watch_event, self._invoke
                connection._read_socket, connection._send_request = self._read_socket, self._send_request
                connection._expand_client_hosts, connection.handler = self._expand_hosts, self._handler
                connection.__dict__.pop("_zkfleet_tap", None)

    def forget_session(self, grants: int) -> None:
        """Have the next connection ask for a new session, as a client that has seen nothing.

        kazoo holds on to a session until a server says that it has expired.  A
        server whose data were wiped never says so: it refuses every client that
        has seen a later zxid than its own, and kazoo would knock for ever.

        Args:
            grants: how many there had been when the session was last seen; if
                another came meanwhile, the session is alive and stays.
        """
        with self._lock:
            self._forget_after = grants

    # -- on kazoo's connection thread

    def _see_event(self, buffer: bytes, offset: int) -> None:
        notice, _ = WatchNotice.deserialize(buffer, offset)
        if notice.type in _EVENTS:
            path = self._client.unchroot(notice.path)
            for listener in self._listeners:
                listener.on_event(Event(notice.type), path)
            self._read_watch_event(buffer, offset)

    def _see_hosts(self) -> Any:
        addresses = self._expand_hosts()
        self._patience.begin_round(len(addresses))
        return addresses

    def _see_invoke(self, timeout: float, request: Any, xid: int | None = None) -> Any:
        if not isinstance(request, Connect):
            return self._invoke(timeout, request, xid)
        with self._lock:
            forget, self._forget_after = self._forget_after == self.grants, None
        if forget:
            self._client._reset_session()
            self._client.last_zxid = 0
            request = request._replace(last_zxid_seen=0, session_id=0, passwd=self._client._session_passwd)
        began = since_boot()
        self._patience.greet(time.monotonic())
        result = self._invoke(timeout, request, xid)
        if result[0].time_out > 0:
            self.grants, self.linked_at = self.grants + 1, began
            self._patience.link(result[0].time_out / 1000, time.monotonic())
            self.watches.clear()
            for listener in self._listeners:
                listener.on_grant(result[0].time_out / 1000)
        return result

    def _see_read(self, read_timeout: float) -> Any:
        # A member that has just learned that a session is over drops requests
        # without a reply.  kazoo takes the next reply for theirs, finds that it
        # is not, and its thread ends for good; a new connection is all it needs.
        try:
            return self._read_socket(read_timeout)
        except (RuntimeError, IndexError) as exc:
            raise ConnectionDropped(f"a reply is missing: {exc}") from exc

    def _see_send(self, read_timeout: float, connect_timeout: float) -> None:
        self._drop_what_may_not_be_sent()
        self._send_request(read_timeout, connect_timeout)
        with self._lock:
            self._bytes = max(self._bytes - 1, 0)
            if not self._client._queue:
                self._owed = 0
            elif self._owed:
                self._owed -= 1
                self._put_byte()

    def _drop_what_may_not_be_sent(self) -> None:
        """Drop requests that were queued for an earlier connection, or that nobody waits for.

        kazoo sends over the next connection, and in the next session, whatever
        was queued after the last one broke.  What a request rests on, the look
        before it, may be wrong by then.
        """
        queue = self._client._queue
        # This thread alone takes from the queue.
        while queue and isinstance(awaited := queue[0][1], Awaited) and not awaited.begin(self.grants):
            queue.popleft()
            awaited.set_exception(ConnectionLoss("the connection that it was queued for is gone"))

    # -- on any thread

    def send(
        self, request: Any, then: Callable[[Any, Exception | None, int], None], *, grant: int | None = None
    ) -> Awaited:
        """Queue a request without waiting; `then(value, error, zxid)` gets the outcome.

        Args:
            request: in kazoo's form.
            then: runs on kazoo's connection thread, or here if the client is closed.
            grant: what `grants` was when that was seen on which the request
                rests; over another connection it is not sent.  None for now.

        Returns:
            The request's place in the queue, from which it can be withdrawn.
        """
        awaited = Awaited(self._client, then, self.grants if grant is None else grant)
        if self._client._state in _ENDED or self._connection._write_sock is None:
            self._client._call(request, awaited)  # which tells why not, and sends nothing
            return awaited
        self._client._queue.append((request, awaited))
        self._wake()
        return awaited

    def _wake(self) -> None:
        with self._lock:
            read = self._put_byte()
        if not read:
            self._client._notify_pending(KeeperState.CLOSED)

    def _put_byte(self) -> bool:
        """Put a byte into the pipe, or owe it; tell whether anybody will read the queue."""
        pipe = self._connection._write_sock
        if pipe is not self._pipe:
            self._pipe, self._bytes, self._owed = pipe, 0, 0
        if self._bytes >= self.MOST_BYTES:
            self._owed += 1
            return True
        try:
            pipe.send(b"\0", socket.MSG_DONTWAIT)
            self._bytes += 1
        except BlockingIOError:
            self._owed += 1
        except (AttributeError, OSError):
            return False
        return True

    def end_session(self, timeout: float) -> bool:
        """Have kazoo close its session, and wait for that; tell whether it was done in time.

        kazoo's own `stop` waits ten seconds and more for a silent server, and
        without an end while it dials.  It starts no thread: at the end of a
        process none can be started.
        """
        client, stopped = self._client, self._connection.connection_stopped
        if not client._stopped.is_set():
            client._stopped.set()
            client._queue.append((CloseInstance, None))
            self._wake()
        if not stopped.wait(timeout):
            self._hang_up()
        if not stopped.wait(_AFTER_HANGING_UP):
            client.handler.stop()
            return False
        client._safe_close()
        client.close()
        return True

    def _hang_up(self) -> None:
        """Break the connection, so that kazoo's thread does not go on waiting for the server."""
        with contextlib.suppress(OSError, AttributeError):
            self._connection._socket.shutdown(socket.SHUT_RDWR)


def _after_fork() -> None:
    # Another thread may have held it, which is not there in the child.
    Tap._lock_of_all = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
