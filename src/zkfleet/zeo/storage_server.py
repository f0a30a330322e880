"""How does a ZEO server begin, and how does it end without harm?

ZEO's storage server on a loop of its own: transactions time out by the loop's
clock, and an end that lets commits under way finish.  With `connections` the
only place on the server's side that knows ZEO's insides.

Everything but `drain` and `abort` runs on the thread that calls `serve`.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ZEO.asyncio.server import Acceptor
from ZEO.StorageServer import StorageServer

from zkfleet.spelling import get_logger
from zkfleet.zeo.arrivals import Encrypted, Room, most_connections
from zkfleet.zeo.conflicts import CONFLICTS, MissingClasses
from zkfleet.zeo.connections import BLOB_RECORDS, CONNECTIONS, GIVE_BACK, ClientStorageSide, Connection
from zkfleet.zeo.described import LOCK_HOLDER, PACK
from zkfleet.zeo.insides import Repair, is_on
from zkfleet.zeo.pack_guard import PackGuard
from zkfleet.zeo.packs import PACKS, Packs
from zkfleet.zeo.probes import PROBES, lower_greetings

logger = get_logger(__name__)

# Seconds in which a client has to register.
HANDSHAKE = 30.0
# Seconds in which a connection that is closed may be sent what waits for it.
FLUSH = 1.0

TIMEOUTS = Repair(
    "transactions time out by the loop's clock",
    without="each storage with a transaction-timeout leaves a thread behind",
    needs=(
        "ZEO.StorageServer:LockManager(storage_id, stats, timeout)",
        "ZEO.StorageServer:LockManager.__init__ sets timeout",
        "ZEO.StorageServer:StorageServer.__init__ sets lock_managers",
        "ZEO.StorageServer:TimeoutThread.begin(client)",
        "ZEO.StorageServer:TimeoutThread.end(client)",
        "ZEO.StorageServer:ZEOStorage.connection",
        "ZEO.StorageServer:ZEOStorage.log_label",
    ),
)
ENDING = Repair(
    "a server ends without harm",
    without="none can be run",
    needs=(
        "ZEO.StorageServer:StorageServer(addr, storages, read_only, transaction_timeout, Acceptor)",
        "ZEO.StorageServer:StorageServer(invalidation_queue_size, invalidation_age, ssl, msgpack)",
        "ZEO.StorageServer:StorageServer(client_conflict_resolution)",
        "ZEO.StorageServer:StorageServer.__init__ sets acceptor, lock_managers, loop, read_only",
        "ZEO.StorageServer:StorageServer.create_client_handler",
        "ZEO.StorageServer:StorageServer.server_status(storage_id)",
        "ZEO.asyncio.server:Acceptor(storage_server, addr, ssl, msgpack)",
        "ZEO.asyncio.server:Acceptor.__init__ sets addr, event_loop, msgpack, server, storage_server",
        "ZEO.asyncio.server:Acceptor.factory",
    ),
)
RUNNING: set["RepairedServer"] = set()
"""Those of this process that serve now."""
REPAIRS = (BLOB_RECORDS, CONFLICTS, GIVE_BACK, TIMEOUTS, PACKS, PROBES)
REQUIRED = (CONNECTIONS, ENDING)


class LoopTimeout:
    """Ends transactions that hold the commit lock for too long, in place of ZEO's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop, self._seconds = loop, seconds
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, client: ClientStorageSide) -> None:
        """Start to count: a client has got the lock."""
        self._timer = self._loop.call_later(self._seconds, self._expired, client)

    def end(self, _client: ClientStorageSide) -> None:
        """Stop: the lock is free again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def is_alive(self) -> bool:
        """Tell ZEO's `server_status` that transactions do time out."""
        return True

    def _expired(self, client: ClientStorageSide) -> None:
        logger.error(
            "transaction_timed_out peer=%r after=%gs: its connection is closed", client.log_label, self._seconds
        )
        client.connection.close()


class RepairedAcceptor(Acceptor):  # type: ignore[misc]  # ZEO has no types
    """Listens, and makes our connections."""

    event_loop: asyncio.AbstractEventLoop

    def __init__(self, storage_server: "RepairedServer", addr: Any, ssl: Any, msgpack: bool) -> None:
        self._tls = ssl
        try:
            # Without TLS: whoever is slow to speak it would not be counted.
            super().__init__(storage_server, addr, None, msgpack)
        except BaseException:
            self.event_loop.close()  # the address was taken, perhaps
            raise

    def factory(self) -> asyncio.Protocol:
        """Return the protocol for a connection that was accepted."""
        connection = Connection(self.storage_server, self.addr, self.msgpack)
        return Encrypted(self.storage_server, connection, self._tls) if self._tls else connection


class RepairedServer(StorageServer):  # type: ignore[misc]
    """A ZEO server whose end is in order.

    Args:
        address: `(host, port)` or a path; it listens when this returns.
        storages: open ones, by name; closing them is the caller's, after `serve` returned.
        identities: of what they hold, by their names.
        transient: the names of those that are new databases at each start.
        may_commit: asked before every commit; called on the loop, so it must be quick.
        transaction_timeout: seconds that a client may hold the commit lock, or None.
        handshake_timeout: seconds in which a client has to register.
        max_connections: how many clients may be connected; None for as many as files allow.
        options: ZEO's others.

    Attributes:
        draining: whether it is about to end.
        packs: of its storages.
        pack_guard: what stops them.
        missing_classes: what conflicts in each storage have been lacking.
    """

    def __init__(
        self,
        address: Any,
        storages: Mapping[str, Any],
        *,
        identities: Mapping[str, str],
        transient: Collection[str] = (),
        may_commit: Callable[[], bool],
        transaction_timeout: float | None = None,
        handshake_timeout: float = HANDSHAKE,
        max_connections: int | None = None,
        **options: Any,
    ) -> None:
        self.handshake_timeout = handshake_timeout
        self.identities, self.transient, self.may_commit = identities, transient, may_commit
        self.connections: set[Connection] = set()
        self.draining, self.packs = False, Packs(storages)
        self.pack_guard = PackGuard(storages, may_commit)
        self.missing_classes = {name: MissingClasses(name) for name in storages}
        self._end: asyncio.Task[None] | None = None
        lower_greetings()
        ours = is_on(TIMEOUTS)
        theirs = None if ours else transaction_timeout
        super().__init__(address, storages, Acceptor=RepairedAcceptor, transaction_timeout=theirs, **options)
        self.room = Room(most_connections(max_connections), self.event_loop)
        if ours and transaction_timeout is not None:
            for manager in self.lock_managers.values():
                manager.timeout = LoopTimeout(self.event_loop, transaction_timeout)

    @property
    def event_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that everything runs on."""
        loop: asyncio.AbstractEventLoop = self.acceptor.event_loop
        return loop

    def create_client_handler(self) -> ClientStorageSide:
        """Return the storage that a new client will see."""
        return ClientStorageSide(self, self.read_only)

    def server_status(self, storage_id: str) -> dict[str, Any]:
        """Return what is said of a storage to whoever asks; also who holds its commit lock, and of its last pack."""
        status: dict[str, Any] = super().server_status(storage_id)
        if holder := self.lock_managers[storage_id].locked:
            status[LOCK_HOLDER] = holder.presented()
        if pack := self.packs.last(storage_id):
            status[PACK] = pack.said()
        return status

    def serve(self) -> None:
        """Serve on this thread until `drain` or `abort` has done its work."""
        RUNNING.add(self)
        try:
            self.loop()
        finally:
            RUNNING.discard(self)

    # -- from any thread

    def drain(self, seconds: float) -> None:
        """Begin to end: clients that hold a commit lock may finish, all others are sent away now."""
        self._from_outside(self._begin_to_end, seconds)

    def abort(self) -> None:
        """Break all connections and end, now, even in the middle of a drain."""
        self._from_outside(self._begin_to_end, 0.0)
        self._from_outside(self._drop_all)

    def _from_outside(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            self.event_loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            logger.debug("server_ended_already")

    # -- on the loop

    def _begin_to_end(self, seconds: float) -> None:
        if self._end is None:
            self.draining = True
            self.pack_guard.stop()  # one that holds the commit lock would keep those who are to finish waiting
            self._end = self.event_loop.create_task(self._come_to_an_end(seconds))

    def _drop_all(self) -> None:
        for connection in list(self.connections):
            connection.drop()

    async def _come_to_an_end(self, seconds: float) -> None:
        try:
            self.acceptor.server.close()
            committing = {connection for connection in self.connections if connection.holds_lock}
            others = self.connections - committing
            logger.info("drain_began committing=%d sent_away=%d", len(committing), len(others))
            for connection in others:
                connection.close()
            await asyncio.gather(_see_off(others, min(FLUSH, seconds)), _see_off(committing, seconds))
            await _cancel_others()
        finally:
            self.event_loop.stop()


async def _see_off(connections: Collection[Connection], seconds: float) -> None:
    """Wait until connections are closed; those that are not in time are broken."""
    if not connections:
        return
    await asyncio.wait([connection.gone for connection in connections], timeout=seconds)
    late = [connection for connection in connections if not connection.gone.done()]
    for connection in late:
        logger.warning("connection_broken peer=%s: not done after %g s", connection.name, seconds)
        connection.drop()
    if late:
        await asyncio.wait([connection.gone for connection in late], timeout=FLUSH)


async def _cancel_others() -> None:
    """End what else the loop is busy with, such as handshakes of clients that have just come."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
