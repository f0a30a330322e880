"""How is one server spoken to?

ZEO's connection to one address, repaired: it is told when to try again, says
why it cannot, gives up a server that does not greet, and notices silence.
All on the thread of ZEO's loop, for the `Link` that made it.
"""

import asyncio
import contextlib
import itertools
import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ZEO.asyncio.client import Fallback, Protocol
from ZODB.POSException import ReadOnlyError

from zkfleet.endpoints import Endpoint
from zkfleet.zeo.described import BLOBS, IDENTITY, TRANSIENT
from zkfleet.zeo.kernel import Sent, keep_alive, sent
from zkfleet.zeo.reasons import spelled, with_name
from zkfleet.zeo.silence import Action, Silence

if TYPE_CHECKING:
    from zkfleet.zeo.link import Link

FIRST_PAUSE = 0.05


class Peer(Protocol):  # type: ignore[misc]  # ZEO has no types
    """A connection to one server, from the first try until it is closed.

    Args:
        link: what it belongs to.
        address: host and port.

    Attributes:
        failed: whether a try to reach it failed since it was last told to try.
        is_taken: whether it is the one in use, or was.
        database: the identity of what it serves; "" if it does not say, or not yet.
        transient: whether that is in memory, and another one at each start.
        blobs: the token of its folder for blobs; "" as before.
        transaction: the id of the one that began there last, None if none did.
        reason: why the connection ended.
    """

    data_received: Callable[[bytes], None]
    write_message: Callable[[bytes], None]
    write_message_iter: Callable[[Iterable[bytes]], None]
    read_only: Any

    def __init__(self, link: "Link", address: tuple[str, int]) -> None:
        self.link = link
        self.failed = self.is_taken = self._greeted = self._was_heard = self._was_given_up = False
        self.transient = False
        self.database = self.blobs = ""
        self._sent = Sent()
        self._retry = asyncio.Event()
        self.transaction: int | None = None
        self.reason = "the connection was closed"
        self._silence: Silence | None = None
        super().__init__(
            link.loop,
            address,
            link,
            link.storage_key,
            link.read_only,
            link.connect_poll,
            ssl=link.ssl,
            ssl_server_hostname=link.ssl_server_hostname,
        )

    def __str__(self) -> str:
        return str(Endpoint(*self.addr))

    @property
    def loss(self) -> str:
        """Which server this was, and why the connection ended."""
        return with_name(str(self), self.reason)

    # -- reaching it

    def connect(self) -> None:
        """Begin; ZEO calls this at the end of its constructor."""
        self._connecting = self.loop.create_task(self._try_until_connected())

    def close(self, exc: object = None) -> None:
        """Schedule the end; that of the client waits for what is scheduled."""
        if self._connecting is not None:
            self.link.see_off(self._connecting)
        super().close(exc or self.loss)

    def try_now(self) -> None:
        """Try at once, if it is not connected: somebody has heard that the server is there."""
        self.failed = False
        self._retry.set()

    async def _try_until_connected(self) -> None:
        pause = FIRST_PAUSE
        while not self.closed:
            self._retry.clear()
            try:
                async with asyncio.timeout(self.link.settings.ping_timeout):
                    await self._try()
                return
            except Exception as exc:  # whatever it is: nobody else would try again
                self.failed = True
                late = isinstance(exc, TimeoutError) and not str(exc)
                self.link.note(self, TimeoutError(self._no_connection()) if late else exc)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._retry.wait(), pause * (1 + random.random()))
                pause = FIRST_PAUSE
            pause = min(2 * pause, self.connect_poll)

    def _no_connection(self) -> str:
        return f"no connection could be made in {self.link.settings.ping_timeout:g} s"

    async def _try(self) -> None:
        host, port = self.addr
        name = {"server_hostname": self.ssl_server_hostname} if self.ssl else {}
        await self.loop.create_connection(self.protocol_factory, host, port, ssl=self.ssl, **name)

    def connection_made(self, transport: Any) -> None:
        """Begin to listen."""
        interval, timeout = self.link.settings.ping_interval, self.link.settings.ping_timeout
        if interval is not None:
            one = transport.get_extra_info("socket")
            keep_alive(one, idle=interval, every=timeout / 3, times=3, at_most=interval + timeout)
        super().connection_made(transport)
        self._write_while_open(transport)
        self._listen()
        self._silence = Silence(interval, timeout, now=self.loop.time())

    # asyncio says of a connection that broke only in the next turn of the loop,
    # and warns of each message that is written until then.
    def _write_while_open(self, transport: Any) -> None:
        write, write_all = self.write_message, self.write_message_iter

        def write_message(message: bytes) -> None:
            if not transport.is_closing():
                write(message)

        def write_message_iter(messages: Iterable[bytes]) -> None:
            write_all(itertools.takewhile(lambda _message: not transport.is_closing(), messages))

        self.write_message, self.write_message_iter = write_message, write_message_iter

    def finish_connection(self, protocol_version: bytes) -> None:
        """Go on to register: it has greeted."""
        self._greeted = True
        super().finish_connection(protocol_version)

    async def verify_connection(self) -> None:
        """Register with the server, and be taken or not."""
        link = self.link
        try:
            server_tid = await self._register()
            info = await self.server_call("get_info")
            self.database, self.blobs = str(info.get(IDENTITY, "")), str(info.get(BLOBS, ""))
            self.transient = info.get(TRANSIENT) is True
            async with link.register_lock:
                await link.register(self, server_tid)
        except Exception as exc:  # ZEO heeds none that ends here, and nobody would try again
            link.register_failed(self, exc)

    async def _register(self) -> bytes:
        falls_back = self.read_only is Fallback
        self.read_only = self.read_only is True
        try:
            server_tid: bytes = await self.server_call("register", self.storage_key, self.read_only)
        except ReadOnlyError:
            if not falls_back:
                raise
            self.read_only = True
            server_tid = await self.server_call("register", self.storage_key, True)
        return server_tid

    # Between the server's answer to `register` and our being taken its
    # invalidations wait, also while another connection is in use: applied
    # twice they would be refused.  `Link.verify` applies those that are new.
    def message_received(self, data: bytes) -> None:
        """Take a message in, while it is not yet settled that this connection is used."""
        if self.link.protocol is self:
            self.sm_protocol.set_receive(super().message_received)
        elif self.decode(data)[2] == "invalidateTransaction":
            self.invalidations.append(self.decode(data)[3])
            return
        super().message_received(data)

    # -- noticing silence

    def _listen(self) -> None:
        receive: Callable[[bytes], None] = self.data_received

        # For once: whatever comes after it goes the direct way.
        def hear(data: bytes) -> None:
            self._was_heard = True
            self.data_received = receive
            receive(data)

        self._was_heard = False
        self.data_received = hear

    def _gave_a_sign(self) -> bool:
        # Who takes what we write is there, though it may say nothing until it has all.
        # What is taken at once may be so by the kernel of a process that is frozen.
        before, self._sent = self._sent, sent(self.sm_protocol.transport)
        took = before.waiting > 0 and self._sent.taken > before.taken
        if heard := self._was_heard:
            self._listen()
        return heard or took

    def look(self, *, gone: bool) -> None:
        """See whether the server is silent, and act on it; called every so often."""
        if self.closed or self._silence is None:
            return
        now = self.loop.time()
        # Who is not in use owes answers alone: it is not asked for a word.
        owes = not self.is_taken and (not self._greeted or bool(self.futures))
        if self._gave_a_sign() or not (owes or self.is_taken):
            self._silence.heard(now)
        commits = self.is_taken and self.link.boundary.inside is not None
        match self._silence.step(now=now, gone=gone, commits=commits, owes=owes):
            case Action.ASK:
                self.server_call("ping").add_done_callback(lambda future: future.exception())
            case Action.BREAK if self._greeted:
                self.give_up(f"it was silent for {self._silence.lasts(now):.1f} s")
            case Action.BREAK:
                self.give_up("it does not greet: is that a ZEO server, and is it one without TLS?")

    def give_up(self, reason: str) -> None:
        """Break the connection; whoever waits for an answer is told so at once."""
        self.reason, self._was_given_up = reason, True
        self.sm_protocol.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; whoever waits for an answer hears which server it was, and why."""
        if not self.closed:
            if not self._was_given_up:
                self.reason = spelled(exc) if exc else "the server closed the connection"
            self.failed = True
            self.link.note(self, ConnectionResetError(self.reason))
        super().connection_lost(ConnectionResetError(self.loss))
