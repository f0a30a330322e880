"""Is a client storage connected, and when is it again?

For code that runs on top of a storage, with other packages' storages in between, and
wants to wait for the connection without reading anything.
"""

import time
from typing import Any

from ZEO.ClientStorage import ClientStorage
from ZEO.Exceptions import ClientDisconnected

from zkfleet.errors import Closed

PAUSE = 0.05


def client_storage(storage: Any) -> ClientStorage | None:
    """Return the client storage that a storage is, or is wrapped around; None if there is none."""
    while not isinstance(storage, ClientStorage):
        # So it is called by DemoStorage and by those that compress and encrypt.
        storage = getattr(storage, "base", None)
        if storage is None:
            return None
    return storage


def wait_until_connected(storage: Any, timeout: float) -> bool:
    """Wait until a client storage is connected, its cache verified, and so ready to be used.

    Works for any `ClientStorage`, from any thread but ZEO's own; it blocks, so an
    event loop leaves it to another thread.

    Args:
        storage: a client storage.
        timeout: seconds.

    Returns:
        Whether it is connected.

    Raises:
        Closed: the storage is closed, or was meanwhile.
    """
    deadline = time.monotonic() + timeout
    while not storage.is_connected():
        if storage._server.is_closed():
            raise Closed("the ZEO client storage was closed", hint="open the database anew")
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        _wait_once(storage, left)
    return True


def _wait_once(storage: Any, seconds: float) -> None:
    began = time.monotonic()
    try:
        storage._server.wait(seconds)
    except ClientDisconnected:
        # ZEO ends all waits when its addresses are changed, and at its end.
        if time.monotonic() - began < min(PAUSE, seconds):
            time.sleep(min(PAUSE, seconds))
