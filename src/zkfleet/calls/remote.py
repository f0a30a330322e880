"""What is different when a database is on a server?

Connections are lost and come back, and of a commit whose reply was lost nobody
knows at first.  The `zeo` room knows what to do; it is asked only if the program
uses ZEO, so that others need not have it installed.
"""

import os
import sys
import threading
import weakref
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

from zkfleet.calls.deciding import Answer


def is_used() -> bool:
    """Whether the program may have a database on a server."""
    return "ZEO.ClientStorage" in sys.modules


def clients(databases: Iterable[Any]) -> list[Any]:
    """Return those storages of databases that are clients of a server."""
    if not is_used():
        return []
    from zkfleet.zeo import client_storage

    found = (client_storage(database.storage) for database in databases)
    return [storage for storage in found if storage is not None]


def is_disconnection(error: BaseException) -> bool:
    """Whether an error says that there is no connection to a server."""
    if not is_used():
        return False
    from zkfleet.zeo import ClientDisconnected

    return isinstance(error, ClientDisconnected)


def refuse_if_disconnected(databases: Iterable[Any]) -> None:
    """Fail at once, rather than hold a connection while nothing can be read.

    Raises:
        ClientDisconnected: a database is not connected.
    """
    for storage in clients(databases):
        if not storage.is_connected():
            from zkfleet.zeo import ClientDisconnected

            raise ClientDisconnected(f"{storage.getName()}: not connected")


def mark(transaction: Any) -> Any:
    """Mark a transaction, so that it can be asked for."""
    from zkfleet import zeo

    return zeo.mark(transaction)


def ask(database: Any, marker: Any, timeout: float) -> tuple[Answer, str]:
    """Find out whether a marked transaction was committed, and how that is known; blocks up to the timeout."""
    if marker is None:
        return Answer.UNKNOWN, "the connection was lost meanwhile, and this storage keeps no mark"
    from zkfleet import zeo

    try:
        verdict = zeo.outcome(database, marker, timeout=timeout)
    except Exception as exc:  # whatever went wrong, such as a storage that was closed: the commit may have happened
        return Answer.UNKNOWN, f"asking failed with {type(exc).__name__}: {exc}"
    return Answer[verdict.outcome.name], verdict.reason


_lock = threading.Lock()
_returning: "weakref.WeakKeyDictionary[Any, Future[bool]]" = weakref.WeakKeyDictionary()


def _begin_in_child() -> None:
    """In a forked child nobody holds the lock, and nobody waits for a connection."""
    global _lock
    _lock = threading.Lock()
    _returning.clear()


os.register_at_fork(after_in_child=_begin_in_child)


def connection_back(databases: Iterable[Any], seconds: float) -> "Future[bool] | None":
    """Return what is done when one that is away is connected, or after so many seconds; None if all are there.

    All who wait share it, and the one thread that waits for them; it is not to be cancelled. Its error, if
    it has one, is `Closed`.
    """
    away = next((storage for storage in clients(databases) if not storage.is_connected()), None)
    if away is None:
        return None
    with _lock:
        future = _returning.get(away)
        if future is None or future.done():
            future = _returning[away] = Future()
            future.set_running_or_notify_cancel()
            waiting = (future, away, seconds)
            threading.Thread(target=_wait, args=waiting, name="zkfleet-reconnect", daemon=True).start()
        return future


def _wait(future: "Future[bool]", storage: Any, seconds: float) -> None:
    from zkfleet.zeo import wait_until_connected

    try:
        future.set_result(wait_until_connected(storage, seconds))
    except BaseException as exc:  # whatever it is, those who wait get it
        future.set_exception(exc)
