"""Which server is a client connected to, and what if that changes?

ZEO's choice among addresses, repaired: a new list is followed by its
differences, so that nobody who waits, no connection that is being verified and
none that works is dropped for it.  A server that registers is tried at once,
one that was delisted is left at a good moment (`move`), one that serves another
database is refused.

All on the thread of ZEO's loop; other threads say `follow` by `LinkThread`.
Invariant: no address has more than one open `Peer`, and none has one that is
not a candidate, but for the peer in use.  Which peer that is changes only under
ZEO's `register_lock`, but for the loss of it.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from ZEO.asyncio.client import ClientIO, Fallback
from ZEO.Exceptions import ClientDisconnected
from ZODB.Connection import resetCaches
from ZODB.utils import z64

from zkfleet.errors import BadInput, ServerBehind, WrongDatabase
from zkfleet.spelling import get_logger
from zkfleet.zeo import downloads
from zkfleet.zeo.blobs import check_shared
from zkfleet.zeo.boundary import Boundary
from zkfleet.zeo.cache_file import Kept
from zkfleet.zeo.candidates import NAME_IT, Candidate, Choice
from zkfleet.zeo.downloads import Downloads
from zkfleet.zeo.insides import Repair
from zkfleet.zeo.move import ALL_MAY_WAIT, WHAT_IS_UNDER_WAY_MAY_TAKE, NotNow, caught_up, standstill
from zkfleet.zeo.options import Settings
from zkfleet.zeo.peer import FIRST_PAUSE, Peer
from zkfleet.zeo.reasons import Address, Reasons, spelled
from zkfleet.zeo.requests import NEEDS, RequestingIO, RequestingThread

logger = get_logger(__name__)

SECONDS_A_TIER = 0.5
REST = 1.0
SECONDS_BETWEEN_OFFERS = 9.0
ENOUGH = 20

CLIENT = "ZEO.asyncio.client:"
FOLLOWING = Repair(
    "following addresses",
    "addresses are followed by new_addr, which may break waiting calls; silent servers are not noticed",
    (
        *NEEDS,
        *downloads.NEEDS,
        CLIENT + "ClientThread(addrs, client, cache, storage_key, read_only, timeout, ssl, ssl_server_hostname)",
        CLIENT + "ClientRunner.load_before(oid, tid)",
        CLIENT + "ClientRunner.setup_delegation(loop)",
        CLIENT + "ClientRunner.setup_delegation sets client, loop",
        CLIENT + "ClientIO.__init__ sets addrs, cache, client, closing_protocol_futures, connect_poll, loop, read_only",
        CLIENT + "ClientIO.__init__ sets register_lock, ssl, ssl_server_hostname, storage_key",
        CLIENT + "ClientIO.closed",
        CLIENT + "ClientIO.connected",
        CLIENT + "ClientIO.operational",
        CLIENT + "ClientIO.protocol",
        CLIENT + "ClientIO.protocols",
        CLIENT + "ClientIO.ready",
        CLIENT + "ClientIO._clear_protocols(protocol)",
        CLIENT + "ClientIO.await_operational_co(timeout, init_ok)",
        CLIENT + "ClientIO.close",
        CLIENT + "ClientIO.disconnected(protocol)",
        CLIENT + "ClientIO.invalidateTransaction(tid, oids)",
        CLIENT + "ClientIO.manage_connected",
        CLIENT + "ClientIO.register(protocol, server_tid)",
        CLIENT + "ClientIO.register_failed(protocol, exc)",
        CLIENT + "ClientIO.try_connecting",
        CLIENT + "ClientIO.upgrade(protocol)",
        CLIENT + "ClientIO.verify(server_tid)",
        CLIENT + "Protocol(loop, addr, client, storage_key, read_only, connect_poll, ssl, ssl_server_hostname)",
        CLIENT + "Protocol.__init__ sets addr, connect_poll, futures, invalidations, read_only, storage_key",
        CLIENT + "Protocol.__init__ sets ssl, ssl_server_hostname",
        CLIENT + "Protocol.close(exc)",
        CLIENT + "Protocol.closed",
        CLIENT + "Protocol.connect sets _connecting",
        CLIENT + "Protocol.connection_lost(exc)",
        CLIENT + "Protocol.connection_made(transport)",
        CLIENT + "Protocol.finish_connection(protocol_version)",
        CLIENT + "Protocol.finish_connection sets decode",
        CLIENT + "Protocol.message_received(data)",
        CLIENT + "Protocol.server_call(method)",
        CLIENT + "Protocol.verify_connection",
        "ZEO.asyncio.base:ZEOBaseProtocol.__init__ sets loop",
        "ZEO.asyncio.base:ZEOBaseProtocol.connection_made sets data_received, sm_protocol",
        "ZEO.asyncio.base:ZEOBaseProtocol.connection_made sets write_message, write_message_iter",
        "ZEO.asyncio.base:ZEOBaseProtocol.protocol_factory",
        "ZEO.asyncio.smp:SizedMessageProtocol.set_receive",
        "ZEO.asyncio.smp:SizedMessageProtocol.transport",
        "ZEO.cache:ClientCache.clear",
        "ZEO.cache:ClientCache.getLastTid",
        "ZEO.ClientStorage:ClientStorage.invalidateCache",
        "ZEO.ClientStorage:ClientStorage.notify_disconnected",
    ),
)


class Link(RequestingIO):
    """A client's connection to whichever server is right.

    ZEO makes its `ClientIO` itself; `begin` makes it one of ours before it has
    done anything.

    Attributes:
        settings: how to follow.
        candidates: the servers that may be tried.
        left_out: what is wrong with those that may not, by name.
        database: the identity of what is followed; "" while it is not known.
        transient: whether that is in memory, and so ends with its server.
    """

    protocol: Peer | None
    protocols: list[Peer]
    connected: "asyncio.Future[None] | None"
    ready: bool | None

    @classmethod
    def begin(cls, io: ClientIO, settings: Settings, boundary: Boundary, kept: Kept) -> None:
        """Take over from ZEO, which was given no address yet."""
        io.__class__ = cls
        io._take_over(settings, boundary, kept)

    def _take_over(self, settings: Settings, boundary: Boundary, kept: Kept) -> None:
        self.settings, self.boundary = settings, boundary
        self.database, self.transient = settings.database or kept.database, kept.transient
        self.candidates: tuple[Candidate, ...] = ()
        self.left_out: Mapping[str, Exception] = {}
        self._reasons = Reasons(waits_for_behind=settings.on_behind != "refuse")
        self._sought_since = self.loop.time()
        self._gone_since: float | None = None
        self._stays_until, self._warned_of_blobs = 0.0, False
        self._take_downloads_over()
        self._watch = self.loop.create_task(self._look_now_and_then())

    # ZEO has put its storage's methods here, for the messages of those names.
    def _take_downloads_over(self) -> None:
        storage = self.client

        def note(size: int) -> None:
            storage._blob_data_bytes_loaded += size
            storage._check_blob_size(storage._blob_data_bytes_loaded)

        self.downloads = Downloads(lambda oid, serial: str(storage.fshelper.getBlobFilename(oid, serial)), note)
        self.receiveBlobStart, self.receiveBlobChunk = self.downloads.start, self.downloads.add
        self.receiveBlobStop = self.downloads.stop

    # -- following

    def follow(self, choice: Choice) -> None:
        """Take a new list of servers, the old one's differences alone."""
        if self.closed:
            return
        known = {one.address: one.instance for one in self.candidates}
        fresh = {one.address for one in choice.candidates if known.get(one.address) != one.instance}
        self.candidates, self.left_out = choice.candidates, choice.left_out
        self.addrs = [one.address for one in choice.candidates]
        for address in [*fresh, *(set(known) - set(self.addrs))]:
            self._reasons.forget(address)
        self._see_whether_it_is_listed()
        self.dial(fresh)
        self._tell_those_who_wait_for_nothing()

    def dial(self, fresh: Iterable[Address] = ()) -> None:
        """Try those that are to be tried now, and nobody else."""
        if self.closed:
            return
        due = self._due() if self._seeks() else set()
        for peer in self.protocols:
            if peer is not self.protocol and not peer.closed and peer.addr not in due:
                peer.close()
        self.protocols = [peer for peer in self.protocols if not peer.closed]
        for peer in self.protocols:
            if peer.addr in fresh:
                peer.try_now()
        there = {peer.addr for peer in self._peers()}
        now = self.loop.time()
        for address in self.addrs:
            if address in due - there and self._reasons.may_be_tried(address, now):
                self.protocols.append(Peer(self, address))

    def try_connecting(self) -> None:
        """Begin to look for a server; ZEO calls this when it has none."""
        self._sought_since = self.loop.time()
        self.dial()

    def _peers(self) -> set[Peer]:
        return {peer for peer in (*self.protocols, self.protocol) if peer is not None}

    def _seeks(self) -> bool:
        if self.protocol is None:
            return True
        wants_more = self.read_only is Fallback and self.protocol.read_only
        return (wants_more or self._leaves()) and self.loop.time() >= self._stays_until

    def _leaves(self) -> bool:
        """Whether the server in use was delisted for so long that we go to another one, once there is one."""
        if self._gone_since is None or self.settings.on_delisted == "stay":
            return False
        return bool(self.addrs) and self.loop.time() >= self._gone_since + self.settings.leave_after

    def _due(self) -> set[Address]:
        since = self._due_since()
        due: set[Address] = set()
        for tier in sorted({one.tier for one in self.candidates}):
            due |= {one.address for one in self.candidates if one.tier == tier}
            waited = since + (tier + 1) * SECONDS_A_TIER
            if self.loop.time() < waited and not all(self._has_failed(address, since) for address in due):
                self.loop.call_at(waited, self.dial)
                break
        return due

    def _due_since(self) -> float:
        if self._gone_since is None:
            return self._sought_since
        return max(self._sought_since, self._gone_since + self.settings.leave_after)

    def _has_failed(self, address: Address, since: float) -> bool:
        tried = (peer for peer in self.protocols if peer.addr == address)
        return self._reasons.has_failed(address, since) or any(peer.failed for peer in tried)

    def _see_whether_it_is_listed(self) -> None:
        if self.protocol is None or self.protocol.addr in self.addrs:
            self._gone_since = None
        elif self._gone_since is None:
            self._gone_since = self.loop.time()
            self.protocol.look(gone=True)

    async def _look_now_and_then(self) -> None:
        while not self.closed:
            await asyncio.sleep(self.settings.ping_timeout / 5)
            try:
                for peer in self._peers():
                    peer.look(gone=peer is self.protocol and self._gone_since is not None)
                if self._seeks():
                    self.dial()
            except Exception:  # whatever it is: without this watch a silent server would be waited for for ever
                logger.exception("zeo_watch_failed")

    # -- taking a server

    def manage_connected(self) -> None:
        """Have a future for those who wait; who waits already goes on waiting."""
        if self.connected is None or self.connected.done():
            self.connected = self.loop.create_future()

    async def register(self, peer: Peer, server_tid: bytes) -> None:
        """Take a server that has let us in, if it is the right one and none that is as good is in use.

        Raises:
            WrongDatabase, ServerBehind: it is not.
            BadInput: it has another folder for blobs than the one that we share with it.
        """
        old = self.protocol
        if old is None and self._is_renewed(peer):
            self._begin_anew(peer)
        self._check_database(peer)
        self._check_blobs(peer)
        if old is None:
            if self._is_behind(server_tid):
                # That was when it let us in, and others may have been in use since.
                server_tid = await peer.server_call("lastTransaction")
            self._check_not_behind(peer, server_tid)
            await super().register(peer, server_tid)
        elif self._seeks() and self._is_as_good(peer, old):
            await self._move(old, peer)
        else:
            self._turn_down(peer)  # it has nothing that we lack
        if peer is self.protocol and self.operational:
            peer.is_taken = True
            self._reasons.forgive(peer.addr)
            self._see_whether_it_is_listed()

    def _is_as_good(self, peer: Peer, old: Peer) -> bool:
        """Whether a server can do what the one in use does: who falls back to reading does not do so from writing."""
        return not peer.read_only or (self._leaves() and old.read_only)

    async def _move(self, old: Peer, peer: Peer) -> None:
        try:
            await caught_up(self, peer, WHAT_IS_UNDER_WAY_MAY_TAKE, old)
            async with standstill(self, old):
                server_tid = await caught_up(self, peer, ALL_MAY_WAIT, old)
                if self.protocol is old:
                    logger.info("zeo_server_left server=%s for=%s", old, peer)
                    self.client.notify_left()
                    self.upgrade(peer)
                    self._gone_since = None
                    await self.verify(server_tid)
                else:
                    await super().register(peer, server_tid)
        except (NotNow, ServerBehind) as exc:
            self._put_off(old, peer, exc)

    def _put_off(self, old: Peer, peer: Peer, exc: Exception) -> None:
        if self.protocol is not old:
            raise exc  # there is none to stay with: it is a server like any other that is not taken
        if isinstance(exc, NotNow):
            logger.info("zeo_move_put_off server=%s for=%s reason=%s", old, peer, exc)
            self._stays_until = self.loop.time() + SECONDS_BETWEEN_OFFERS
        elif self._is_news(peer, exc):
            logger.warning("zeo_move_put_off server=%s for=%s reason=%s", old, peer, exc)
        self._turn_down(peer)

    def _turn_down(self, peer: Peer) -> None:
        peer.close()
        self._let_rest(peer, SECONDS_BETWEEN_OFFERS)

    def _check_database(self, peer: Peer) -> None:
        found = peer.database
        # What is in memory may be of a later start than its node, which ends with a session.
        listed = "" if peer.transient else self._listed(peer)
        for expected in (self.database, listed):
            if expected and found != expected and (found or expected is listed):
                found = found or "that it does not name"
                raise WrongDatabase(str(peer), found=found, expected=expected, transient=peer.transient)
        if self.database and not found:
            logger.warning("zeo_database_unknown server=%s: it does not say whether it has %s", peer, self.database)

    def _listed(self, peer: Peer) -> str:
        return next((one.database for one in self.candidates if one.address == peer.addr), "")

    # A database in memory ends with its server, so it cannot be waited for.  But
    # if some server still says that it has it, that is the one to go to.
    def _is_renewed(self, peer: Peer) -> bool:
        """Whether a server has the successor of the database that was followed."""
        if not (self.transient and peer.transient) or peer.database == self.database:
            return False
        others = (one for one in self.candidates if one.address != peer.addr)
        there = any(one.database == self.database for one in others)
        return not there and not self.settings.database and self.settings.on_behind != "refuse"

    def _begin_anew(self, peer: Peer) -> None:
        logger.warning(
            "zeo_database_renewed server=%s database=%s former=%s: it is in memory, and new at each start",
            peer,
            peer.database,
            self.database,
        )
        self._forget_all()
        # Ids mean other objects now: connections get an empty cache when they are opened.
        resetCaches()
        self.database = peer.database

    def _forget_all(self) -> None:
        self.cache.clear()
        self.client.invalidateCache()

    def _check_blobs(self, peer: Peer) -> None:
        storage = self.client
        if not storage.shared_blob_dir or check_shared(storage.blob_dir, peer.blobs, server=str(peer)):
            return
        if not self._warned_of_blobs:
            self._warned_of_blobs = True
            logger.warning(
                "zeo_blobs_unchecked server=%s blob_dir=%s: it does not say which folder is its own",
                peer,
                storage.blob_dir,
            )

    def _is_behind(self, server_tid: bytes | None) -> bool:
        return bool((self.cache.getLastTid() or z64) > (server_tid or z64))

    def _check_not_behind(self, peer: Peer, server_tid: bytes | None) -> None:
        if not self._is_behind(server_tid):
            return
        has, seen = (server_tid or z64).hex(), self.cache.getLastTid().hex()
        if self.settings.on_behind != "clear":
            raise ServerBehind(str(peer), has=has, seen=seen)
        logger.warning("zeo_cache_cleared server=%s has=%s seen=%s", peer, has, seen)
        self._forget_all()

    # -- what goes wrong

    def disconnected(self, protocol: Peer | None = None) -> None:
        """Look for another server, if that was the one in use."""
        if protocol is self.protocol:
            if protocol is not None:
                self.loss = protocol.loss
                logger.warning("zeo_server_lost server=%s reason=%s", protocol, protocol.reason)
                self.client.notify_disconnected()
            if self.ready:
                self.ready = self.operational = False
            self.manage_connected()
            self.protocol = self._gone_since = None
            self._sought_since, self._stays_until = self.loop.time(), 0.0
        if protocol is not None and not protocol.is_taken:
            # It let us in and then no further: not at once again, and each time later.
            stumbles = self._reasons.stumbled(protocol.addr)
            self._let_rest(protocol, min(FIRST_PAUSE * 2 ** min(stumbles, ENOUGH), self.connect_poll))
        self.dial()

    def note(self, peer: Peer, exc: Exception) -> None:
        """Remember why a server cannot be had, and see who else may be tried."""
        if self._is_news(peer, exc):
            logger.info("zeo_server_not_reached server=%s reason=%s", peer, spelled(exc))
        self.loop.call_soon(self.dial)

    def register_failed(self, peer: Peer, exc: Exception) -> None:
        """Let a server rest that does not want us, or that we do not want."""
        if "unknown storage" in str(exc):
            exc = BadInput(
                f"{peer}: it has no storage {self.storage_key!r}", hint=f"name one that it has with {NAME_IT}"
            )
        if not peer.closed:
            if self._is_news(peer, exc):
                logger.warning("zeo_server_refused server=%s reason=%s", peer, spelled(exc))
            peer.close()
            self._let_rest(peer, REST)
        if peer is self.protocol:
            self.disconnected(peer)
        else:
            self.dial()
        self._tell_those_who_wait_for_nothing()

    def _tell_those_who_wait_for_nothing(self) -> None:
        waiting = self.connected
        if self.protocol is None and waiting is not None and not waiting.done():
            final = self._reasons.final(self.addrs, self.left_out)
            if final is not None:
                waiting.set_exception(final)
                waiting.exception()  # it may be that nobody waits
                self.manage_connected()

    def _is_news(self, peer: Peer, exc: Exception) -> bool:
        """Remember what is wrong with a server, unless it was delisted, and return whether that is news."""
        return peer.addr in self.addrs and self._reasons.note(peer.addr, exc, self.loop.time())

    def _let_rest(self, peer: Peer, seconds: float) -> None:
        if peer.addr in self.addrs:
            self._reasons.rest(peer.addr, self.loop.time() + seconds)
        self.loop.call_later(seconds, self.dial)

    async def await_operational_co(self, timeout: float, init_ok: bool = False) -> None:
        """Wait for a server, at most so long; says what is wrong with each if none can be had."""
        if self.protocol is None and (final := self._reasons.final(self.addrs, self.left_out)) is not None:
            raise final
        try:
            await super().await_operational_co(timeout, init_ok)
        except ClientDisconnected as exc:
            why = self._reasons.why(self.addrs, self.left_out)
            raise ClientDisconnected(f"{exc.args[0] if exc.args else 'closed'}: {why}") from exc

    # -- the end

    def close(self) -> Any:
        """Schedule the end, and return the future of it."""
        self.see_off(self._watch)
        self._watch.cancel()
        self.boundary.open()
        return super().close()

    def see_off(self, task: "asyncio.Task[None]") -> None:
        """Let the end of the client wait for a task's."""
        if not task.done():
            gone = self.loop.create_future()
            task.add_done_callback(lambda _task: gone.set_result(None))
            self.closing_protocol_futures.add(gone)
            gone.add_done_callback(self.closing_protocol_futures.discard)


class LinkThread(RequestingThread):
    """ZEO's thread for a client, with a `Link` on it; made by `ClientStorage`.

    Attributes:
        misses: how often a load had to ask the server.
    """

    def __init__(self, *args: Any, settings: Settings, boundary: Boundary, kept: Kept, **options: Any) -> None:
        self._ours = (settings, boundary, kept)
        self.misses, self._counting = 0, threading.Lock()
        super().__init__(*args, **options)

    def setup_delegation(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make what lives on the loop."""
        super().setup_delegation(loop)
        Link.begin(self.client, *self._ours)
        self.delegate()

    def load_before(self, oid: bytes, tid: bytes) -> Any:
        """Load what the cache has not: beside the way to the server the lock costs nothing."""
        with self._counting:
            self.misses += 1
        return super().load_before(oid, tid)

    def follow(self, choice: Choice) -> None:
        """Have the link follow a new list of servers; may be called on any thread, and does not wait."""
        # The registry's callbacks may go on for a moment after the end.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.client.follow, choice)
