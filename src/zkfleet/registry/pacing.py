"""What does kazoo's connection thread wait with, so that no wait is too long?

kazoo dials for as long as the session timeout that was asked for, whatever
number of members there is, waits as long for the answer to a handshake, and
takes every request that it sends for a sign of life.  All that its connection
thread waits for goes through two functions of its handler, so a `Pace` stands
before the handler and holds both to the deadlines of a `Patience` (pure).
"""

import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from zkfleet.registry.patience import Patience

Ready = tuple[list[Any], list[Any], list[Any]]


class Pace:
    """A kazoo handler for one connection; what it does not say itself, the handler says.

    Args:
        handler: the client's.
        patience: whose deadlines hold; used on the connection's thread alone.
        link: returns the connection's socket, None while there is none.
    """

    def __init__(self, handler: Any, patience: Patience, link: Callable[[], Any]) -> None:
        self._handler, self._patience, self._link = handler, patience, link

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)

    def create_connection(self, *arguments: Any, **options: Any) -> Any:
        """Dial a member, as kazoo's handler does; the timeout is ours."""
        try:
            return self._handler.create_connection(*arguments, **options | {"timeout": self._patience.dial()})
        except TimeoutError:
            self._patience.give_up()
            raise

    def select(
        self, reading: Sequence[Any], writing: Sequence[Any], failing: Sequence[Any], timeout: float | None = None
    ) -> Ready:
        """Wait as kazoo's handler does, but not for a member that is given up.

        Raises:
            The handler's `timeout_exception`, for which kazoo breaks the connection.
        """
        patience, link = self._patience, self._link()
        end = inf if timeout is None else time.monotonic() + timeout
        while True:
            self._check(link)
            now = time.monotonic()
            wait = max(min(end - now, patience.left(now)), 0)
            found: Ready = self._handler.select(reading, writing, failing, None if wait == inf else wait)
            if link is not None and link in found[0]:
                patience.hear(time.monotonic())
            if any(found) or time.monotonic() >= end:
                return found

    def _check(self, link: Any) -> None:
        """Give up a member whose time is over, unless its bytes are here and nobody has looked."""
        patience = self._patience
        if link is None or patience.left(time.monotonic()) > 0:
            return
        if self._handler.select([link], [], [], 0)[0]:
            patience.hear(time.monotonic())
        if patience.left(time.monotonic()) <= 0:
            patience.give_up()
            raise self._handler.timeout_exception("the member is silent")
