"""What goes on in the ZEO servers of this process?

Asked from any thread, read on each server's loop, and told as values.  A server
that is busy with a slow disk does not answer; the question has a deadline.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from zkfleet.endpoints import Endpoint
from zkfleet.errors import BadInput, WaitTimedOut
from zkfleet.spelling import spell
from zkfleet.zeo.connections import Connection
from zkfleet.zeo.insides import Repair, require
from zkfleet.zeo.storage_server import RUNNING, RepairedServer

INSIDE = Repair(
    "a server tells who waits for the commit lock, and what it can tell clients that were away",
    without="nobody can ask",
    needs=(
        "ZEO.StorageServer:LockManager.__init__ sets locked, stats, waiting",
        "ZEO.StorageServer:StorageServer.__init__ sets invq, invq_bound, lock_managers, storages",
        "ZEO.StorageServer:StorageServer.server_status(storage_id)",
        "ZEO.StorageServer:ZEOStorage.connection",
        "ZEO.StorageServer:ZEOStorage.storage_id",
        "ZEO.StorageServer:ZEOStorage.transaction",
    ),
)
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Client:
    """One connection of a client.

    Attributes:
        number: what `kick` takes; never used again.
        peer: its address.
        storage: the name of what it uses, or "".
        since: when it connected (seconds since 1970).
        lock: "holds", "waits", or "" if it has to do with no commit lock.
        held: for how many seconds it has held the lock, or None.
        user: who its transaction is by, or "".
        description: what its transaction is for, or "".
    """

    number: int
    peer: str
    storage: str
    since: float
    lock: str
    held: float | None
    user: str
    description: str


@dataclass(frozen=True, slots=True)
class Invalidations:
    """What a server can tell clients that were away.

    Attributes:
        storage: of which storage.
        held: how many transactions.
        most: how many there may be.
        oldest: the first of them, 16 hex digits; "" if there is none.
        newest: the last of them.
    """

    storage: str
    held: int
    most: int
    oldest: str
    newest: str


@dataclass(frozen=True, slots=True)
class Inside:
    """A server.

    Attributes:
        address: where it listens, as ZEO has it.
        storages: what it says of each, as when it is asked from outside.
        clients: its connections, the oldest first.
        invalidations: one for each storage.
    """

    address: str
    storages: Mapping[str, Mapping[str, Any]]
    clients: tuple[Client, ...]
    invalidations: tuple[Invalidations, ...]


def look_inside(timeout: float) -> list[Inside]:
    """Tell what goes on in each server of this process.

    Raises:
        WaitTimedOut: one does not answer in time, in seconds.
    """
    require(INSIDE)
    deadline = time.monotonic() + timeout
    return [_on_loop(server, _look, deadline) for server in list(RUNNING)]


def kick(number: int, timeout: float) -> str:
    """Close a client's connection, which gives its locks back; returns its address.

    Raises:
        BadInput: there is no such connection.
        WaitTimedOut: a server does not answer in time.
    """
    deadline = time.monotonic() + timeout
    for server in list(RUNNING):
        if peer := _on_loop(server, lambda server: _kick(server, number), deadline):
            return peer
    raise BadInput(f"there is no client {number}", hint="`clients` lists them")


def _on_loop(server: RepairedServer, function: Callable[[RepairedServer], Found], deadline: float) -> Found:
    found: Future[Found] = Future()

    def run() -> None:
        if found.set_running_or_notify_cancel():
            try:
                found.set_result(function(server))
            except Exception as exc:  # it is for the one who asked
                found.set_exception(exc)

    address = _spelled(server.acceptor.addr)
    try:
        server.event_loop.call_soon_threadsafe(run)
        return found.result(max(0.0, deadline - time.monotonic()))
    except RuntimeError as exc:
        raise WaitTimedOut(f"the ZEO server at {address} has just ended") from exc
    except TimeoutError as exc:
        found.cancel()
        raise WaitTimedOut(f"the ZEO server at {address} is busy and does not answer") from exc


# -- on the loop


def _look(server: RepairedServer) -> Inside:
    return Inside(
        _spelled(server.acceptor.addr),
        {name: server.server_status(name) for name in server.storages},
        tuple(_client(server, one) for one in sorted(server.connections, key=lambda one: one.number)),
        tuple(_invalidations(server, name) for name in server.storages),
    )


def _client(server: RepairedServer, connection: Connection) -> Client:
    served = connection.zeo_storage
    manager = served and server.lock_managers.get(served.storage_id)
    holds = bool(manager) and manager.locked is served
    waits = bool(manager) and served in manager.waiting
    held = max(0.0, time.time() - manager.stats.lock_time) if holds and manager.stats.lock_time else None
    transaction = served and served.transaction
    user, description = (transaction.user, transaction.description) if transaction else (b"", b"")
    return Client(
        connection.number,
        _spelled(connection.addr),
        str((served and served.storage_id) or ""),
        connection.since,
        "holds" if holds else "waits" if waits else "",
        held,
        _text(user),
        _text(description),
    )


def _invalidations(server: RepairedServer, name: str) -> Invalidations:
    known = server.invq[name]
    oldest, newest = (known[-1][0].hex(), known[0][0].hex()) if known else ("", "")
    return Invalidations(name, len(known), server.invq_bound, oldest, newest)


def _kick(server: RepairedServer, number: int) -> str:
    for connection in server.connections:
        if connection.number == number:
            connection.close()
            return _spelled(connection.addr)
    return ""


def _spelled(address: Any) -> str:
    return str(Endpoint(*address[:2]) if isinstance(address, tuple) else address)


def _text(said: bytes) -> str:
    return spell(said.decode(errors="replace")[:200])
