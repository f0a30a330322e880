"""Which server is a client connected to, and what if that changes?

ZEO's choice among addresses, repaired: a new list is followed by its
differences, so that nobody who waits, no connection that is being verified and
none that works is dropped for it.  A server that registers is tried at once,
one that was delisted is left between two transactions, one that serves another
database is refused.

All on the thread of ZEO's loop; other threads say `follow` by `LinkThread`.
Invariant: no address has more than one open `Peer`, and none has one that is
not a candidate, but for the peer in use.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable
from typing import Any

from ZEO.asyncio.client import ClientIO, ClientThread, Fallback
from ZEO.Exceptions import ClientDisconnected
from ZODB.utils import z64

from zkfleet.endpoints import Endpoint
from zkfleet.errors import BadInput, ServerBehind, WrongDatabase, ZkfleetError
from zkfleet.zeo.boundary import Boundary
from zkfleet.zeo.candidates import Candidate
from zkfleet.zeo.described import IDENTITY
from zkfleet.zeo.insides import Repair
from zkfleet.zeo.options import Settings
from zkfleet.zeo.peer import FIRST_PAUSE, Peer

logger = logging.getLogger(__name__)

Address = tuple[str, int]
SECONDS_A_TIER = 0.5
REST = 1.0
SECONDS_BETWEEN_OFFERS = 9.0
CALLS_MAY_TAKE = 2.0
BOUNDARY_MAY_TAKE = 5.0

CLIENT = "ZEO.asyncio.client:"
FOLLOWING = Repair(
    "following addresses",
    "addresses are followed by new_addr, which may break waiting calls; silent servers are not noticed",
    (
        CLIENT + "ClientThread(addrs, client, cache, storage_key, read_only, timeout, ssl, ssl_server_hostname)",
        CLIENT + "ClientRunner.setup_delegation(loop)",
        CLIENT + "ClientIO.register(protocol, server_tid)",
        CLIENT + "ClientIO.register_failed(protocol, exc)",
        CLIENT + "ClientIO.verify(server_tid)",
        CLIENT + "ClientIO.try_connecting",
        CLIENT + "ClientIO.manage_connected",
        CLIENT + "ClientIO.upgrade(protocol)",
        CLIENT + "ClientIO.await_operational_co(timeout, init_ok)",
        CLIENT + "Protocol(loop, addr, client, storage_key, read_only, connect_poll, ssl, ssl_server_hostname)",
        CLIENT + "Protocol.connect",
        CLIENT + "Protocol.verify_connection",
        CLIENT + "Protocol.finish_connection(protocol_version)",
        CLIENT + "Protocol.message_received(data)",
        CLIENT + "Protocol.server_call(method)",
        CLIENT + "Protocol.pop_futures",
        "ZEO.asyncio.smp:SizedMessageProtocol.set_receive(receive)",
        "ZEO.ClientStorage:ClientStorage(_client_factory)",
    ),
)


class Link(ClientIO):  # type: ignore[misc]  # ZEO has no types
    """A client's connection to whichever server is right.

    ZEO makes its `ClientIO` itself; `begin` makes it one of ours before it has
    done anything.

    Attributes:
        settings: how to follow.
        candidates: the servers that may be tried.
        problems: why each of them could not be had the last time.
        database: the identity of what is followed; "" while it is not known.
    """

    protocol: Peer | None
    protocols: list[Peer]
    connected: "asyncio.Future[None] | None"
    ready: bool | None

    @classmethod
    def begin(cls, io: ClientIO, settings: Settings, boundary: Boundary) -> None:
        """Take over from ZEO, which was given no address yet."""
        io.__class__ = cls
        io._take_over(settings, boundary)

    def _take_over(self, settings: Settings, boundary: Boundary) -> None:
        self.settings, self.boundary, self.database = settings, boundary, settings.database
        self.candidates: tuple[Candidate, ...] = ()
        self.problems: dict[Address, Exception] = {}
        self._resting: dict[Address, float] = {}
        self._stumbles: dict[Address, int] = {}
        self._sought_since = self.loop.time()
        self._gone_since: float | None = None
        self._watch = self.loop.create_task(self._look_now_and_then())

    # -- following

    def follow(self, candidates: tuple[Candidate, ...]) -> None:
        """Take a new list of servers, the old one's differences alone."""
        known = {one.address: one.instance for one in self.candidates}
        fresh = {one.address for one in candidates if known.get(one.address) != one.instance}
        self.candidates = candidates
        self.addrs = [one.address for one in candidates]
        for address in [*fresh, *(set(known) - set(self.addrs))]:
            self.problems.pop(address, None)
            self._forgive(address)
        if self.protocol is None or self.protocol.addr in self.addrs:
            self._gone_since = None
        elif self._gone_since is None:
            self._gone_since = self.loop.time()
            self.protocol.look(gone=True)
        self.dial(fresh)

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
        there = {peer.addr for peer in (*self.protocols, self.protocol) if peer is not None}
        now = self.loop.time()
        for address in self.addrs:
            if address in due - there and self._resting.get(address, 0.0) <= now:
                self.protocols.append(Peer(self, address))

    def try_connecting(self) -> None:
        """Begin to look for a server; ZEO calls this when it has none."""
        self._sought_since = self.loop.time()
        self.dial()

    def _seeks(self) -> bool:
        if self.protocol is None:
            return True
        wants_more = self.read_only is Fallback and self.protocol.read_only
        return self.operational and (wants_more or self.leaves)

    @property
    def leaves(self) -> bool:
        """Whether the server in use was delisted for so long that we go to another one, once there is one."""
        gone = self._gone_since
        is_time = gone is not None and self.loop.time() - gone >= self.settings.leave_after
        return is_time and self.settings.on_delisted == "leave" and bool(self.addrs)

    def _due(self) -> set[Address]:
        now = self.loop.time()
        due: set[Address] = set()
        for tier in sorted({one.tier for one in self.candidates}):
            due |= {one.address for one in self.candidates if one.tier == tier}
            waited = self._sought_since + (tier + 1) * SECONDS_A_TIER
            if now < waited and not all(self._has_failed(address) for address in due):
                self.loop.call_at(waited, self.dial)
                break
        return due

    def _has_failed(self, address: Address) -> bool:
        return address in self._resting or any(peer.addr == address and peer.failed for peer in self.protocols)

    async def _look_now_and_then(self) -> None:
        pause = self.settings.ping_timeout / 5
        while not self.closed:
            await asyncio.sleep(pause)
            gone = self._gone_since is not None
            for peer in {peer for peer in (*self.protocols, self.protocol) if peer is not None}:
                peer.look(gone=gone and peer is self.protocol)
            if gone:
                self.dial()

    # -- connecting

    def manage_connected(self) -> None:
        """Have a future for those who wait; who waits already goes on waiting."""
        if self.connected is None or self.connected.done():
            self.connected = self.loop.create_future()

    def disconnected(self, protocol: Peer | None = None) -> None:
        """Look for another server, if that was the one in use."""
        if protocol is self.protocol:
            if protocol is not None:
                self.client.notify_disconnected()
            if self.ready:
                self.ready = self.operational = False
            self.manage_connected()
            self.protocol = self._gone_since = None
            self._sought_since = self.loop.time()
        elif protocol is not None:
            # It let us in and threw us out: not at once again, and each time later.
            stumbles = self._stumbles[protocol.addr] = self._stumbles.get(protocol.addr, 0) + 1
            self._let_rest(protocol, min(FIRST_PAUSE * 2**stumbles, self.connect_poll))
        self.dial()

    @contextlib.asynccontextmanager
    async def moment_for(self, peer: Peer) -> AsyncIterator[None]:
        """Wait for the moment to register: if a server is left for this one, when no transaction is under way."""
        if not (self.operational and self.leaves):
            yield
            return
        self.boundary.close()
        try:
            deadline = self.loop.time() + BOUNDARY_MAY_TAKE
            while not self.boundary.is_empty and self.loop.time() < deadline:
                await asyncio.sleep(0.005)
            yield
        finally:
            self.boundary.open()

    async def register(self, peer: Peer, server_tid: bytes) -> None:
        """Take a server that has let us in, if it is the right one and none that is as good is in use."""
        try:
            info = await peer.server_call("get_info")
            self._check_database(peer, str(info.get(IDENTITY, "")))
            old = self.protocol
            if old is not None and self.operational and (self.leaves or self._writes_at_last(old, peer)):
                await self._move(old, peer)
                return
            if old is None:
                self._check_not_behind(peer, server_tid)
        except (ClientDisconnected, ZkfleetError) as exc:
            self.register_failed(peer, exc)
            return
        await super().register(peer, server_tid)
        if peer is self.protocol:
            self._forgive(peer.addr)
        elif peer.closed:
            self._let_rest(peer, SECONDS_BETWEEN_OFFERS)  # it has nothing that we lack

    def _writes_at_last(self, old: Peer, peer: Peer) -> bool:
        return self.read_only is Fallback and old.read_only and not peer.read_only

    async def _move(self, old: Peer, peer: Peer) -> None:
        # Calls wait from now on, and so do invalidations: else the old server's
        # newest would be newer than what the new one says next.
        self.ready = self.operational = False
        self.manage_connected()
        try:
            await self._let_calls_end(old)
            self._check_not_behind(peer, await peer.server_call("lastTransaction"))
        except BaseException:
            self._stay(old)
            raise
        logger.info("zeo_server_left server=%s for=%s", old, peer)
        self.upgrade(peer)
        self._gone_since = None
        await self.verify(None)

    async def _let_calls_end(self, old: Peer) -> None:
        deadline = self.loop.time() + CALLS_MAY_TAKE
        while old.futures and not old.closed and self.loop.time() < deadline:
            await asyncio.sleep(0.001)

    def _stay(self, old: Peer) -> None:
        if self.protocol is not old or self.connected is None:
            return  # it broke meanwhile
        for tid, oids in old.invalidations:
            self.invalidateTransaction(tid, oids)
        old.invalidations = []
        self.ready = self.operational = True
        self.connected.set_result(None)

    def _check_database(self, peer: Peer, found: str) -> None:
        listed = next((one.database for one in self.candidates if one.address == peer.addr), "")
        for expected in (self.database, listed):
            if expected and found != expected and (found or expected is listed):
                raise WrongDatabase(str(peer), found=found or "that it does not name", expected=expected)
        if self.database and not found:
            logger.warning("zeo_database_unknown server=%s: it does not say whether it has %s", peer, self.database)
        self.database = self.database or found

    def _check_not_behind(self, peer: Peer, server_tid: bytes | None) -> None:
        server_tid = server_tid or z64
        seen = self.cache.getLastTid() or z64
        if seen <= server_tid:
            return
        if self.settings.on_behind != "clear":
            raise ServerBehind(str(peer), has=server_tid.hex(), seen=seen.hex())
        logger.warning("zeo_cache_cleared server=%s has=%s seen=%s", peer, server_tid.hex(), seen.hex())
        self.cache.clear()
        self.client.invalidateCache()

    # -- what goes wrong

    def note(self, peer: Peer, exc: Exception) -> None:
        """Remember why a server cannot be had, and see who else may be tried."""
        if str(self.problems.get(peer.addr)) != str(exc):
            logger.info("zeo_server_not_reached server=%s reason=%s", peer, exc)
        self.problems[peer.addr] = exc
        self.loop.call_soon(self.dial)

    def register_failed(self, peer: Peer, exc: Exception) -> None:
        """Let a server rest that does not want us, or that we do not want."""
        if "unknown storage" in str(exc):
            exc = BadInput(f"{peer}: it has no storage {self.storage_key!r}", hint="name it with storage=")
        if not peer.closed:
            if str(self.problems.get(peer.addr)) != str(exc):
                logger.warning("zeo_server_refused server=%s reason=%s", peer, exc)
            self.problems[peer.addr] = exc
            peer.close()
            self._let_rest(peer, REST)
        if peer is self.protocol:
            self.disconnected(peer)
        else:
            self.dial()
        final = self._final_problem()
        waiting = self.connected
        if final is not None and self.protocol is None and waiting is not None and not waiting.done():
            waiting.set_exception(final)
            waiting.exception()  # it may be that nobody waits
            self.manage_connected()

    def _forgive(self, address: Address) -> None:
        self._resting.pop(address, None)
        self._stumbles.pop(address, None)

    def _let_rest(self, peer: Peer, seconds: float) -> None:
        self._resting[peer.addr] = self.loop.time() + seconds
        self.loop.call_later(seconds, self.dial)

    def _final_problem(self) -> Exception | None:
        """Return what a person must mend, if that is so for every server."""
        found = [self.problems.get(address) for address in self.addrs]
        if not found or not all(self._is_final(problem) for problem in found):
            return None
        return next(iter(found))

    def _is_final(self, problem: Exception | None) -> bool:
        if isinstance(problem, ServerBehind):
            return self.settings.on_behind == "refuse"
        return isinstance(problem, WrongDatabase | BadInput)

    async def await_operational_co(self, timeout: float, init_ok: bool = False) -> None:
        """Wait for a server, at most so long; says what is wrong with each if none can be had."""
        if not self.operational and (final := self._final_problem()) is not None:
            raise final
        try:
            await super().await_operational_co(timeout, init_ok)
        except ClientDisconnected as exc:
            raise ClientDisconnected(f"{exc.args[0] if exc.args else 'closed'}: {self._why()}") from exc

    def _why(self) -> str:
        if not self.addrs:
            return "no server is registered"
        said = (f"{Endpoint(*a)}: {self.problems.get(a) or 'no answer yet'}" for a in self.addrs)
        return "; ".join(said)

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


class LinkThread(ClientThread):  # type: ignore[misc]  # ZEO has no types
    """ZEO's thread for a client, with a `Link` on it; made by `ClientStorage`."""

    def __init__(self, *args: Any, settings: Settings, boundary: Boundary, **options: Any) -> None:
        self._ours = (settings, boundary)
        super().__init__(*args, **options)

    def setup_delegation(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make what lives on the loop."""
        super().setup_delegation(loop)
        Link.begin(self.client, *self._ours)

    def follow(self, candidates: tuple[Candidate, ...]) -> None:
        """Have the link follow a new list of servers; may be called on any thread, and does not wait."""
        # The registry's callbacks may go on for a moment after the end.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.client.follow, candidates)
