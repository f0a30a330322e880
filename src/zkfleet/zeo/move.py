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

if TYPE_CHECKING:
    from zkfleet.zeo.link import Link
    from zkfleet.zeo.peer import Peer

WHAT_IS_UNDER_WAY_MAY_TAKE = 5.0
ALL_MAY_WAIT = 1.0


class NotNow(Exception):
    """Something that is under way at the server in use does not end."""


@contextlib.asynccontextmanager
async def standstill(link: "Link", old: "Peer") -> AsyncIterator[None]:
    """Have nothing under way at the server in use; transactions, calls and invalidations wait until the end.

    If the server in use is lost meanwhile, it goes on all the same.  Whoever
    stays with it in the end finds it as it was.

    Raises:
        NotNow: it could not be had; nothing has changed.
    """
    calls, transactions = set(old.futures.values()), link.boundary.inside
    await _wait_until(
        lambda: old.closed or not (calls & set(old.futures.values()) or transactions & link.boundary.inside),
        WHAT_IS_UNDER_WAY_MAY_TAKE,
    )
    link.boundary.close()
    try:
        await _wait_until(lambda: old.closed or not link.boundary.inside, ALL_MAY_WAIT)
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


async def _wait_until(is_so: Callable[[], bool], seconds: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not is_so():
        if loop.time() >= deadline:
            raise NotNow(f"what is under way there takes more than {seconds:g} s")
        await asyncio.sleep(0.002)


def _stay(link: "Link", old: "Peer") -> None:
    if link.protocol is not old or link.connected is None:
        return  # it was lost meanwhile, or left
    for tid, oids in old.invalidations:
        link.invalidateTransaction(tid, oids)
    old.invalidations = []
    link.ready = link.operational = True
    link.connected.set_result(None)
