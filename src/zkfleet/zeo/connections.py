"""How does one client's connection to a ZEO server begin, and how does it end?

ZEO's own two objects for a connection, the protocol and the storage behind it,
with what they do not do right when it ends.  All of it runs on the server's
loop.  Who may be connected, and until when, is up to `storage_server`.
"""

import asyncio
import itertools
import logging
import os
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from ZEO.asyncio.server import Delay, ServerProtocol
from ZEO.Exceptions import ClientDisconnected
from ZEO.StorageServer import ZEOStorage, run_in_thread
from ZODB.POSException import ConflictError
from ZODB.serialize import referencesf

from zkfleet.errors import BadInput
from zkfleet.spelling import get_logger, spell
from zkfleet.zeo.blobs import token_of
from zkfleet.zeo.databases import remember
from zkfleet.zeo.described import BLOBS, IDENTITY, PACK_TAKES_GC, TRANSIENT
from zkfleet.zeo.insides import Repair, is_on
from zkfleet.zeo.kernel import keep_alive
from zkfleet.zeo.messages import GREETING, KEEP_ALIVE, REGISTRATION, Call, Doorway, call_of, unpickle
from zkfleet.zeo.packs import PACKS, takes_gc

if TYPE_CHECKING:
    from zkfleet.zeo.storage_server import RepairedServer

logger = get_logger(__name__)

_numbers = itertools.count(1)

# Seconds until a client that has gone without a word is noticed: it may hold
# the commit lock, and then nobody else commits meanwhile.
SILENCE = 30
PROBES = 4
# Seconds by which a deadline may be kept too late without the server's loop having been busy.
LATE = 1.0
RUOK = b"ruok"
GREETINGS = {kind + version for kind in (b"Z", b"M") for version in ServerProtocol.protocols}
# ZEO passes over such a message.
NO_CALL: Call = (KEEP_ALIVE, True, "", ())
# Of a transaction's user and description nobody needs all.
LONGEST_SAID = 200

GIVE_BACK = Repair(
    "a connection that the server ends gives the commit lock back",
    without="after a transaction-timeout nobody can commit until the server is restarted",
    needs=(
        "ZEO.asyncio.server:ServerProtocol.close",
        "ZEO.StorageServer:ZEOStorage.connected",
        "ZEO.StorageServer:ZEOStorage.transaction",
        "ZEO.StorageServer:ZEOStorage.notify_connected(conn)",
        "ZEO.StorageServer:ZEOStorage.notify_disconnected",
        "ZEO.StorageServer:ZEOStorage._clear_transaction",
    ),
)
BLOB_RECORDS = Repair(
    "the record of a blob is stored once",
    without="it is stored twice, and a FileStorage ignores its index when it is opened next",
    needs=(
        "ZEO.StorageServer:ZEOStorage._vote(delay)",
        "ZEO.StorageServer:ZEOStorage._store(oid, serial, data, blobfile)",
        "ZEO.StorageServer:ZEOStorage.tpc_begin sets blob_log",
    ),
)
FENCE = Repair(
    "a server commits only while it may",
    without="two servers might write to one storage",
    needs=(
        "ZEO.StorageServer:ZEOStorage.vote(tid)",
        "ZEO.StorageServer:ZEOStorage.tpc_finish(id)",
        "ZEO.StorageServer:ZEOStorage.notify_connected sets connection",
        "ZEO.StorageServer:StorageServer.create_client_handler",
        "ZEO.asyncio.server:Acceptor.factory",
        "ZEO.asyncio.server:Delay",
    ),
)
CONNECTIONS = Repair(
    "a server knows its connections",
    without="none can be run",
    needs=(
        "ZEO.asyncio.base:ZEOBaseProtocol.__init__ sets loop, name",
        "ZEO.asyncio.server:ServerProtocol(loop, addr, zeo_storage, msgpack)",
        "ZEO.asyncio.server:ServerProtocol.__init__ sets addr, zeo_storage",
        "ZEO.asyncio.server:ServerProtocol.async_(method)",
        "ZEO.asyncio.server:ServerProtocol.async_threadsafe(method)",
        "ZEO.asyncio.server:ServerProtocol.close",
        "ZEO.asyncio.server:ServerProtocol.closed",
        "ZEO.asyncio.server:ServerProtocol.send_reply(message_id, result, send_error, flag)",
        "ZEO.asyncio.server:ServerProtocol.send_error(message_id, exc, send_error)",
        "ZEO.asyncio.server:ServerProtocol.unlogged_exception_types",
        "ZEO.asyncio.server:ServerProtocol.connected",
        "ZEO.asyncio.server:ServerProtocol.methods",
        "ZEO.asyncio.server:ServerProtocol.protocols",
        "ZEO.asyncio.server:ServerProtocol.finish_connection(protocol_version)",
        "ZEO.asyncio.server:ServerProtocol.finish_connection sets decode",
        "ZEO.asyncio.base:ZEOBaseProtocol.connection_made sets data_received, sm_protocol",
        "ZEO.asyncio.server:ServerProtocol.connection_made(transport)",
        "ZEO.asyncio.server:ServerProtocol.connection_lost(exc)",
        "ZEO.StorageServer:ZEOStorage(server, read_only)",
        "ZEO.StorageServer:ZEOStorage.__init__ sets server",
        "ZEO.StorageServer:ZEOStorage.connection",
        "ZEO.StorageServer:ZEOStorage.log_label",
        "ZEO.StorageServer:ZEOStorage.log(msg, level, exc_info)",
        "ZEO.StorageServer:ZEOStorage.set_client_label(label)",
        "ZEO.StorageServer:ZEOStorage.storage_id",
        "ZEO.StorageServer:ZEOStorage.get_info",
        "ZEO.StorageServer:ZEOStorage.sendBlob(oid, serial)",
        "ZEO.StorageServer:ZEOStorage._undo(trans_id)",
        "ZEO.StorageServer:ZEOStorage._vote(delay)",
        "ZEO.StorageServer:ZEOStorage.tpc_begin sets invalidated, serials",
        "ZEO.StorageServer:ZEOStorage._clear_transaction",
        "ZEO.StorageServer:LockManager.__init__ sets locked",
        "ZEO.StorageServer:StorageServer.__init__ sets lock_managers",
        "ZEO.StorageServer:StorageServer.create_client_handler",
    ),
)


class ClientStorageSide(ZEOStorage):  # type: ignore[misc]  # ZEO has no types
    """What one client sees of a storage."""

    server: "RepairedServer"
    _with_blobs: Collection[bytes] = ()

    def get_info(self) -> dict[str, Any]:
        """Tell about the storage; also its identity, whether that is new at each start, and the token of its blobs."""
        info: dict[str, Any] = super().get_info()
        if identity := self.server.identities.get(self.storage_id):
            info[IDENTITY] = identity
        if self.storage_id in self.server.transient:
            info[TRANSIENT] = True
        if is_on(PACKS):
            info[PACK_TAKES_GC] = takes_gc(self.storage)
        if token := token_of(self.storage):
            info[BLOBS] = token
        return info

    def set_client_label(self, label: object) -> None:
        """Take what a client calls itself, for ZEO's log and ours: a text, and no longer than a line."""
        super().set_client_label(spell(label[:LONGEST_SAID]) if isinstance(label, str) else "?")

    def pack(self, time: float, wait: bool = True, gc: bool | None = None) -> Any:
        """Pack the storage on a thread; with `gc`, collect garbage or not, whatever the storage's settings are."""
        if gc is None:
            return super().pack(time, wait)
        return run_in_thread(self._pack_impl, time, gc)

    def _pack_impl(self, time: float, gc: bool | None = None) -> None:
        identity = self.server.identities.get(self.storage_id, "")
        with self.server.pack_guard.inside(self.storage_id):
            remember(self.storage, identity)
            self._pack(time, gc)
            remember(self.storage, identity)

    def _pack(self, time: float, gc: bool | None) -> None:
        if not is_on(PACKS):
            super()._pack_impl(time)
            return
        with self.server.packs.noted(self.storage_id):
            if gc is None:
                super()._pack_impl(time)
                return
            self.log(f"pack(time={time!r}, gc={gc}) started...")
            self.storage.pack(time, referencesf, gc=gc)
            self.log(f"pack(time={time!r}, gc={gc}) complete")
            self.server.broadcast_info(self.storage_id, self.get_size_info())

    def log(self, msg: str, level: int = logging.INFO, exc_info: Any = False) -> None:
        """Log; whoever has not registered is a probe, perhaps, and there are many of them."""
        super().log(msg, level if self.storage is not None else logging.DEBUG, exc_info)

    def sendBlob(self, oid: bytes, serial: bytes) -> int:  # noqa: N802  the name is ZEO's
        """Send a blob; the answer, which comes after it, is its size in bytes, for who checks that it is whole."""
        size = os.path.getsize(self.storage.loadBlob(oid, serial))
        super().sendBlob(oid, serial)
        return size

    def presented(self) -> str:
        """Return who the client is, and what its transaction says of itself."""
        said = (self.transaction.user, self.transaction.description) if self.transaction else ()
        return " ".join([self.log_label, *(text.decode(errors="replace") for text in said if text)])[:LONGEST_SAID]

    def vote(self, tid: bytes) -> Any:
        """Vote, while this server may still commit."""
        return super().vote(tid) if self._may_commit() else Delay()

    def tpc_finish(self, id: bytes) -> Any:
        """Commit, while this server may still do so."""
        return super().tpc_finish(id) if self._may_commit() else Delay()

    def _vote(self, delay: Any = None) -> Any:
        self._with_blobs = frozenset(oid for oid, *_ in self.blob_log) if is_on(BLOB_RECORDS) else ()
        with self.server.missing_classes[self.storage_id].watched():
            answer = super()._vote(delay)
        if answer and answer is self.serials:
            self.invalidated.extend(set(answer).difference(self.invalidated))
        return answer

    # A client's storage, which serves on what another server has, hears only when it
    # votes which objects an undo changes, and returns them then.
    def _undo(self, trans_id: bytes) -> None:
        if (undone := self.storage.undo(trans_id, self.transaction)) is not None:
            self.invalidated.extend(undone[1])
            self.serials.extend(undone[1])

    def _store(self, oid: bytes, serial: bytes, data: bytes, blobfile: str | None = None) -> None:
        # A client sends the record of a blob twice, alone and with the blob.  If
        # both are stored, FileStorage takes its index for wrong at the next start
        # and scans the whole file, which takes minutes where a site is big.
        if blobfile is None and oid in self._with_blobs:
            return
        try:
            super()._store(oid, serial, data, blobfile)
        except ConflictError:
            # ZODB is silent where a class is mentioned and none of its objects is there.
            self.server.missing_classes[self.storage_id].look_at(data)
            raise

    def notify_disconnected(self) -> None:
        """Abort what the client had begun; the lock is given back even if that fails."""
        try:
            super().notify_disconnected()
        except Exception:  # a failing disk, say: the others are to be told of that by their own transactions
            if self.transaction is None:
                raise
            logger.exception("transaction_not_aborted peer=%s", self.log_label)
            self._clear_transaction()
            super().notify_disconnected()

    def _may_commit(self) -> bool:
        allowed = self.server.may_commit()
        if not allowed:
            # Another server may have taken over.  The client sees that the
            # connection is gone, which it may try again elsewhere.
            logger.warning("commit_refused peer=%s: this server may no longer commit", self.log_label)
            self.connection.close()
        return allowed

    def _clear_transaction(self) -> None:
        super()._clear_transaction()
        if self.server.draining:
            # Not at once: the reply is still to be written.
            self.server.event_loop.call_soon(self.connection.close)


class Connection(ServerProtocol):  # type: ignore[misc]
    """A client's connection.

    Attributes:
        number: tells it from all others of this process.
        since: when it was made (seconds since 1970).
        gone: is done once the connection is closed in both directions.
        encrypting: what agrees with the client on TLS, or None.
    """

    encrypting: asyncio.Future[Any] | None = None
    unlogged_exception_types = (*ServerProtocol.unlogged_exception_types, ClientDisconnected)

    def __init__(self, server: "RepairedServer", address: Any, msgpack: bool) -> None:
        super().__init__(server.event_loop, address, server.create_client_handler(), msgpack)
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._doorway: Doorway | None = Doorway(GREETING, REGISTRATION)
        self._deadline: asyncio.TimerHandle | None = None
        self._unpack: Callable[[bytes], Any] = unpickle
        self.number, self.since = next(_numbers), time.time()
        self.gone: asyncio.Future[None] = server.event_loop.create_future()

    # -- from its beginning until the client has registered

    def arrive(self, peer: Any) -> bool:
        """Begin to be counted, if there is room, and to have a deadline; tells whether there was room."""
        if isinstance(peer, tuple):
            # ZEO's log would name the server's own address.
            self.addr, self.name = peer[:2], repr(peer[:2])
        if not self._server.room.make(self._server.connections):
            return False
        self._server.connections.add(self)
        self._allow(self._server.handshake_timeout)
        return True

    def leave(self) -> None:
        """Be counted no more."""
        self._end_deadline()
        self._server.connections.discard(self)
        if not self.gone.done():
            self.gone.set_result(None)

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to talk."""
        self._transport = transport
        peer = transport.get_extra_info("peername")
        if self not in self._server.connections and not self.arrive(peer):
            transport.abort()
            return
        if isinstance(peer, tuple):
            one = transport.get_extra_info("socket")
            keep_alive(one, idle=SILENCE / 3, every=SILENCE / 6, times=PROBES, at_most=SILENCE)
        super().connection_made(transport)
        # ZEO has made this one: it takes all that comes.
        self._take_all = vars(self)["data_received"]
        self.data_received: Callable[[bytes], None] = self._take_little
        if self._server.draining:
            self.drop()

    def _allow(self, seconds: float) -> None:
        due = self.loop.time() + seconds
        self._deadline = self.loop.call_at(due, self._out_of_time, due)

    def _out_of_time(self, due: float) -> None:
        if self.loop.time() > due + LATE:
            # It was the loop that was busy, and what the client has sent is still to be read.
            self._allow(LATE)
            return
        logger.info("client_refused peer=%s: it had not registered within the handshake's time", self.name)
        self.drop()

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _take_little(self, data: bytes) -> None:
        """Take in what comes before the client has registered, message by message."""
        while data and self._doorway is not None and not self.closed:
            try:
                taken, data = self._doorway.take(data)
            except BadInput as exc:
                self._refuse(exc)
                return
            self._take_all(taken)
            if self.has_registered:
                self._doorway = None
                self._end_deadline()
                logger.info("client_registered peer=%s storage=%s", self.name, self.zeo_storage.storage_id)
                self.data_received = self._take_all
        if data and not self.closed:
            self._take_all(data)

    @property
    def has_registered(self) -> bool:
        """Whether the client has said which storage it wants, and has got it."""
        served = self.zeo_storage
        return served is not None and served.storage is not None

    def finish_connection(self, protocol_version: bytes) -> None:
        """Go on with a client that has greeted."""
        try:
            if protocol_version != RUOK and protocol_version not in GREETINGS:
                raise BadInput(f"a greeting of {protocol_version[:GREETING]!r}, which no client of ZEO sends")
            super().finish_connection(protocol_version)
        except (BadInput, ImportError) as exc:  # without msgpack ZEO cannot speak it
            self._refuse(exc)
            return
        if protocol_version[:1] == b"M":
            self._unpack = vars(self)["decode"]
        self.decode = self._decode

    def _decode(self, message: bytes) -> Call:
        """Return the call that a message is; of whoever sends another thing the connection is ended."""
        try:
            return call_of(self._unpack(message), self.methods)
        except Exception as exc:  # what an unpickler may raise is not known
            self._refuse(exc)
            return NO_CALL

    def _refuse(self, reason: Exception) -> None:
        logger.warning("client_refused peer=%s reason=%s", self.name, str(reason) or repr(reason))
        self.drop()

    # -- its end

    def connection_lost(self, exc: Exception | None) -> None:
        """End, whoever wanted it."""
        if exc is not None:
            # A probe that only looks whether somebody listens may end so.
            level = logging.INFO if self.has_registered else logging.DEBUG
            logger.log(level, "connection_lost peer=%s reason=%s", self.name, exc)
        try:
            if self.sm_protocol is not None:
                super().connection_lost(None)
        finally:
            self.leave()

    def send_reply(self, message_id: int, result: Any, send_error: bool = False, flag: int = 0) -> None:
        """Answer, unless the client has gone meanwhile: a pack, say, goes on without it."""
        if not (self.closed or self.gone.done()):
            super().send_reply(message_id, result, send_error, flag)

    def send_error(self, message_id: int, exc: Exception, send_error: bool = False) -> None:
        """Answer by an error; if the storage is another server's and has lost that one, by the end of the connection.

        ZEO's clients know no other error that means so: it is to be tried again, and of
        a commit it leaves open whether it happened.
        """
        if isinstance(exc, ClientDisconnected):
            logger.warning("client_sent_away peer=%s reason=%s", self.name, exc)
            self.close()
        else:
            super().send_error(message_id, exc, send_error)

    def async_threadsafe(self, method: str, *args: Any) -> None:
        """Send a message that has no reply; from the loop's own thread at once, before all that is sent later."""
        # uvloop carries out what is to be done soon later than asyncio does: a
        # client would hear of another's commit after the reply to its own.
        if asyncio._get_running_loop() is self.loop:
            self.async_(method, *args)
        else:
            super().async_threadsafe(method, *args)

    def close(self) -> None:
        """Close from our side; what the client had begun is aborted."""
        served = self.zeo_storage
        super().close()
        if self.encrypting is not None:
            self.encrypting.cancel()
        # ZEO tells the storage only of connections that the client ends.
        if is_on(GIVE_BACK) and served is not None and served.connected:
            served.notify_disconnected()

    def drop(self) -> None:
        """Close without waiting for anything that is still to be sent."""
        self.close()
        if self._transport is not None:
            self._transport.abort()

    @property
    def holds_lock(self) -> bool:
        """Whether the client is in the middle of a commit that keeps all others waiting."""
        served = self.zeo_storage
        managers = self._server.lock_managers
        return served is not None and served.storage_id in managers and managers[served.storage_id].locked is served
