"""How does a client go from one server to another so that nobody notices?

At a moment when nothing is under way at the old one: no transaction, which the
move would poison, and no call, which it would break.  What is under way when
the wish comes up may end first, while all others go on; only then all wait, and
only for what began meanwhile.  If either takes too long, the move is put off.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from ZODB.utils import z64

from zkfleet.errors import ServerBehind

if TYPE_CHECKING:
    from zkfleet.zeo.link import Link
    from zkfleet.zeo.peer import Peer

WHAT_IS_UNDER_WAY_MAY_TAKE = 5.0
ALL_MAY_WAIT = 1.0
ASK_AGAIN = 0.05


class NotNow(Exception):
    """It would take too long, and others would wait for it."""


@contextlib.asynccontextmanager
async def standstill(link: "Link", old: "Peer") -> AsyncIterator[None]:
    """Have nothing under way at the server in use; transactions, calls and invalidations wait until the end.

    If the server in use is lost meanwhile, it goes on all the same.  Whoever
    stays with it in the end finds it as it was.

    Raises:
        NotNow: it could not be had; nothing has changed.
    """
    calls, transaction = set(old.futures.values()), link.boundary.inside

    def have_ended() -> bool:
        return calls.isdisjoint(old.futures.values()) and (
            transaction is None or link.boundary.inside is not transaction
        )

    await _wait_until(lambda: old.closed or have_ended(), WHAT_IS_UNDER_WAY_MAY_TAKE)
    link.boundary.close()
    try:
        await _wait_until(lambda: old.closed or link.boundary.inside is None, ALL_MAY_WAIT)
        # Calls wait from now on, and so do invalidations: else the old server's
        # newest would be newer than what the new one says next.
        link.ready = link.operational = False
        link.manage_connected()
        try:
            await _wait_until(lambda: old.closed or not old.futures, ALL_MAY_WAIT)
            yield
        except BaseException:
            _stay(link, old)
            raise
    finally:
        link.boundary.open()


async def caught_up(link: "Link", peer: "Peer", seconds: float, old: "Peer") -> bytes:
    """Return a server's last transaction when it has what has been seen here, which it may be about to get.

    That is not waited for once the server in use is lost: nobody else is looked for meanwhile.

    Raises:
        ServerBehind: it has not, within so many seconds.
        NotNow: it says nothing.
    """
    seen, deadline = link.cache.getLastTid() or z64, link.loop.time() + seconds
    while (has := await _last_transaction(peer, seconds, old)) < seen:
        if old.closed or link.loop.time() >= deadline:
            raise ServerBehind(str(peer), has=has.hex(), seen=seen.hex())
        await asyncio.sleep(ASK_AGAIN)
    return has


async def _last_transaction(peer: "Peer", seconds: float, old: "Peer") -> bytes:
    future = peer.server_call("lastTransaction")
    future.add_done_callback(lambda future: future.exception())  # it may come too late for anybody to ask
    await _wait_until(lambda: future.done() or old.closed, seconds, f"an answer of {peer}")
    await _wait_until(future.done, min(seconds, ALL_MAY_WAIT), f"an answer of {peer}")
    found: bytes = future.result()
    return found


async def _wait_until(is_so: Callable[[], bool], seconds: float, what: str = "what is under way there") -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not is_so():
        if loop.time() >= deadline:
            raise NotNow(f"{what} takes more than {seconds:g} s")
        await asyncio.sleep(0.002)


def _stay(link: "Link", old: "Peer") -> None:
    if link.closed or link.protocol is not old or link.connected is None:
        return  # it was lost meanwhile, or left
    for tid, oids in old.invalidations:
        link.invalidateTransaction(tid, oids)
    old.invalidations = []
    link.ready = link.operational = True
    link.connected.set_result(None)
