"""How do requests get to the server in use, and what do callers hear if it is lost?

ZEO's requests, repaired: what is asked while the connection breaks waits for
the next one or fails by `ClientDisconnected`, with the server and the reason;
what is only sent, without an answer, is dropped without a word, because whoever
sent it learns of the loss by the next request that wants an answer.  What is
part of a transaction goes to the server where that began, and to no other one,
which would break the connection for it.  So does the next step of an iterator:
another server has another iterator of that number, or none.

All on the thread of ZEO's loop, but for `RequestingThread`.
"""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ZEO.asyncio.client import ClientIO, ClientThread
from ZEO.Exceptions import ClientDisconnected

from zkfleet.spelling import get_logger
from zkfleet.zeo.downloads import Downloads

if TYPE_CHECKING:
    from zkfleet.zeo.peer import Peer

logger = get_logger(__name__)

# Requests whose last argument is the id of their transaction.
OF_TRANSACTION = frozenset(
    ["checkCurrentSerialInTransaction", "deleteObject", "restorea", "storea", "storeBlobShared", "undoa", "vote"]
)
# Requests that begin to iterate, whose answer is the number of the iterator, and
# those whose first argument is such a number.
BEGIN_TO_ITERATE = frozenset(["iterator_start", "iterator_record_start"])
ITERATE = frozenset(["iterator_next", "iterator_record_next", "iterator_record_start"])
IO = "ZEO.asyncio.client:ClientIO."
NEEDS = (
    IO + "_prefetch_co(oid, tid)",
    IO + "await_operational_co(timeout)",
    IO + "call_async(method, args)",
    IO + "call_async_iter(it)",
    IO + "call_sync_co(method, args, timeout)",
    IO + "load_before_co(oid, tid, timeout)",
    IO + "operational",
    IO + "prefetch_co(oids, tid)",
    IO + "protocol",
    IO + "tpc_finish_co(tid, updates, f)",
    "ZEO.asyncio.base:ZEOBaseProtocol.call_async(method, args)",
    "ZEO.asyncio.base:ZEOBaseProtocol.call_async_iter(it)",
    "ZEO.asyncio.client:ClientRunner.async_(method)",
    "ZEO.asyncio.client:ClientRunner.async_iter(it)",
    "ZEO.asyncio.client:ClientRunner.setup_delegation sets call_sync_co, load_before_co",
    "ZEO.asyncio.client:Protocol.call_sync(method, args)",
    "ZEO.asyncio.client:Protocol.load_before(oid, tid)",
    "ZEO.cache:ClientCache.loadBefore(oid, before_tid)",
)


class Number(int):
    """The number of an iterator, which means something to one connection alone.

    A server counts anew for each connection, so no two are equal.

    Attributes:
        peer: that connection.
    """

    peer: "Peer"

    @classmethod
    def of(cls, number: int, peer: "Peer") -> "Number":
        """Return a number that a connection has given."""
        made = cls(number)
        made.peer = peer
        return made

    __eq__, __hash__ = object.__eq__, object.__hash__


class RequestingIO(ClientIO):  # type: ignore[misc]  # ZEO has no types
    """What sends requests to the server in use.

    Attributes:
        loss: which server was lost last, and why; "" if none was.
        downloads: the blobs that are on their way from the server.
    """

    loop: asyncio.AbstractEventLoop
    protocol: "Peer | None"
    downloads: Downloads
    loss = ""

    def gone(self) -> ClientDisconnected:
        """Return what to raise where a server is needed, and nobody may wait for one."""
        return ClientDisconnected(self.loss or "no server was met yet")

    async def _server(self, timeout: float) -> "Peer":
        deadline = self.loop.time() + timeout
        while not self.operational:  # it may be lost again before we are woken
            await self.await_operational_co(max(deadline - self.loop.time(), 0))
        if self.protocol is None or self.protocol.closed:
            raise self.gone()
        return self.protocol

    async def call_sync_co(self, method: str, args: Any, timeout: float) -> Any:
        """Ask the server, when there is one, and return its answer."""
        if method in ITERATE:
            _check_number(args[0], self.protocol)
        peer = await self._server(timeout)
        if _is_elsewhere(peer, method, args):
            raise self.gone()
        if method == "sendBlob":
            return await self._download(peer, *args)
        if method in ITERATE:
            _check_number(args[0], peer)  # while it waited a server may have been left
            args = (int(args[0]), *args[1:])
        answer = await peer.call_sync(method, args)
        return Number.of(answer, peer) if method in BEGIN_TO_ITERATE else answer

    async def _download(self, peer: "Peer", oid: bytes, serial: bytes) -> None:
        try:
            size = await peer.call_sync("sendBlob", (oid, serial))
            self.downloads.finish(oid, serial, size)
        finally:
            self.downloads.drop(oid, serial)

    async def load_before_co(self, oid: bytes, tid: bytes, timeout: float) -> Any:
        """Load a revision from the cache, or from the server when there is one."""
        data = self.cache.loadBefore(oid, tid)
        return data if data is not None else await (await self._server(timeout)).load_before(oid, tid)

    async def tpc_finish_co(self, tid: int, updates: Any, f: Any) -> Any:
        """Finish a transaction."""
        if self.protocol is None or not self.operational or self.protocol.transaction != tid:
            raise self.gone()
        return await super().tpc_finish_co(tid, updates, f)

    def call_async(self, method: str, args: Any) -> None:
        """Tell the server something, if there is one."""
        peer = self.protocol
        if peer is None or peer.closed or _is_elsewhere(peer, method, args):
            return
        if method == "tpc_begin":
            peer.transaction = args[0]
        if method == "iterator_gc":
            args = ([int(one) for one in args[0] if one.peer is peer],)
        super().call_async(method, args)

    def call_async_iter(self, it: Iterable[Any]) -> None:
        """Send the server a blob, if the transaction began there."""
        if self.protocol is not None and not self.protocol.closed and self.protocol.transaction is not None:
            super().call_async_iter(it)

    async def prefetch_co(self, oids: Any, tid: bytes) -> None:
        """Load what will be needed soon, if there is a server."""
        if self.operational:
            await super().prefetch_co(oids, tid)

    async def _prefetch_co(self, oid: bytes, tid: bytes) -> None:
        try:
            if self.protocol is not None:
                await self.protocol.load_before(oid, tid)
        except Exception as exc:  # it will be loaded when it is needed, and whoever needs it will hear of this
            logger.debug("object_not_prefetched oid=%s reason=%s", oid.hex(), exc)


def _is_elsewhere(peer: "Peer", method: str, args: Any) -> bool:
    """Return whether a request is part of a transaction that did not begin at this server."""
    return method in OF_TRANSACTION and args[-1] != peer.transaction


def _check_number(number: Any, peer: "Peer | None") -> None:
    """See to it that an iterator is one of a connection."""
    if not isinstance(number, Number):
        raise ClientDisconnected("the iterator's server was lost")
    if number.peer is not peer:
        raise ClientDisconnected(f"{number.peer} was lost or left, and what was iterated over there with it")


class RequestingThread(ClientThread):  # type: ignore[misc]  # ZEO has no types
    """What hands requests to a `RequestingIO`; from any thread."""

    client: RequestingIO

    def delegate(self) -> None:
        """Send requests by the repaired ways; ZEO has noted those of before."""
        self.call_sync_co, self.load_before_co = self.client.call_sync_co, self.client.load_before_co

    def async_(self, method: str, *args: Any) -> None:
        """Tell the server something."""
        if not self.client.operational:
            raise self.client.gone()
        super().async_(method, *args)

    def async_iter(self, it: Iterable[Any]) -> None:
        """Tell the server several things."""
        if not self.client.operational:
            raise self.client.gone()
        super().async_iter(it)
