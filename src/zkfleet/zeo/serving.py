"""What is open, and on which thread, while a ZEO server serves?

Storages, and the one thread that uses them: it serves, and closes them when
nobody is connected any more.  Whether the world knows of it is up to
`announcing`, and when it begins and ends to `server`.
"""

import os
import socket
import stat
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import Any

from zkfleet.endpoints import Endpoint, parse_endpoint
from zkfleet.errors import BadInput, WaitTimedOut
from zkfleet.spelling import get_logger
from zkfleet.zeo.databases import identify, remember
from zkfleet.zeo.oid_supply import skip_given_oids
from zkfleet.zeo.openings import check_blobs, explained
from zkfleet.zeo.ports import listened_at
from zkfleet.zeo.settings import Settings
from zkfleet.zeo.storage_server import RepairedServer
from zkfleet.zeo.transience import is_transient

logger = get_logger(__name__)

# Seconds that storages have to be closed in: a FileStorage writes its index.
LAST_WORDS = 30.0


def always() -> bool:
    """Tell a server without standbys that it may commit."""
    return True


class Serving:
    """Open storages that are served; from when this is made until `drain` or `abort`.

    Args:
        settings: what to serve, and where.
        may_commit: asked before every commit, on the server's thread; it must be quick.

    Attributes:
        databases: identities of what the storages hold, by the storage's name.
        tids: their last transactions when it began, 16 hex digits.
        read_only: the names of the storages that nobody may write.
        transient: the names of the storages that are new databases at each start.

    Raises:
        BadInput: somebody listens at the Unix path already; a storage's file is none that it can use.
        Unavailable: a storage cannot be opened now.
        CannotListen: it is not possible to listen at the address; an `OSError`.
        LockError: another process has a storage's file open (`zc.lockfile`).
    """

    def __init__(self, settings: Settings, *, may_commit: Callable[[], bool] = always) -> None:
        self._may_commit = may_commit
        if isinstance(settings.address, str):
            _check_free(settings.address)
        with ExitStack() as undo:
            self._storages: Mapping[str, Any] = {
                name: _opened(name, opener, undo) for name, opener in settings.storages.items()
            }
            found = {name: _identified(name, it, settings.read_only) for name, it in self._storages.items()}
            self.databases = {name: identity for name, identity in found.items() if identity}
            self.tids = {name: it.lastTransaction().hex() for name, it in self._storages.items()}
            self.read_only = {name for name, it in self._storages.items() if settings.read_only or it.isReadOnly()}
            self.transient = {name for name, it in self._storages.items() if is_transient(it)}
            with listened_at(settings.address) as address:
                self._server = RepairedServer(
                    address,
                    self._storages,
                    identities=self.databases,
                    transient=self.transient,
                    may_commit=may_commit,
                    read_only=settings.read_only,
                    max_connections=settings.max_connections,
                    **settings.options,
                )
            undo.pop_all()
        self.address = _address(settings.address, self._server.acceptor.addr)
        self._thread = threading.Thread(target=self._run, name=f"zeo {self.address}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the machine has no more threads for this process, or it ends
            self._server.abort()
            self._run()
            raise
        logger.info("serving address=%s storages=%s", self.address, ",".join(self._storages))

    def _run(self) -> None:
        mine = _inode(self.address)
        try:
            self._server.serve()
        finally:
            self._server.pack_guard.stop()
            self._server.pack_guard.wait_until_none()
            for name, storage in self._storages.items():
                try:
                    self._close(name, storage)
                except Exception:  # the others are to be closed all the same
                    logger.exception("storage_not_closed name=%s", name)
            if mine and _inode(self.address) == mine:
                os.unlink(str(self.address))
            logger.info("served address=%s", self.address)

    def _close(self, name: str, storage: Any) -> None:
        try:
            if self._may_commit():  # else another server may have it open, and packed
                remember(storage, self.databases.get(name, ""))
        finally:
            storage.close()

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    def drain(self, seconds: float) -> None:
        """End: clients in the middle of a commit have some seconds to finish it, all others are sent away now.

        Returns when all storages are closed.

        Raises:
            WaitTimedOut: one is not, half a minute later; call it again to wait on.
        """
        self._server.drain(seconds)
        self._wait(seconds)

    def abort(self) -> None:
        """End now, in the middle of whatever there is; returns, and raises, as `drain`."""
        self._server.abort()
        self._wait(0.0)

    def _wait(self, seconds: float) -> None:
        self._thread.join(seconds + LAST_WORDS)
        if self._thread.is_alive():
            raise WaitTimedOut(f"{self.address}: a storage is busy, and still open after {seconds + LAST_WORDS:g} s")


def _opened(name: str, opener: Callable[[], Any], undo: ExitStack) -> Any:
    with explained(name):
        check_blobs(name, opener)
        storage = opener()
    undo.callback(storage.close)
    skip_given_oids(storage)
    logger.info("storage_opened name=%s storage=%s", name, storage.getName())
    return storage


def _identified(name: str, storage: Any, read_only: bool) -> str:
    with explained(name):
        return identify(storage, read_only=read_only)


def _address(asked: tuple[str, int] | str, got: Any) -> Endpoint | str:
    """Return where it listens; the host is "" for all of the machine's addresses."""
    if isinstance(asked, str):
        return asked
    return parse_endpoint(got[:2])


def _check_free(path: str) -> None:
    """Raise `BadInput` if somebody listens at a path: asyncio would take it from him."""
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.connect(path)
        raise BadInput(f"{path}: somebody listens there already", hint="end it, or choose another address")


def _inode(address: Endpoint | str) -> int:
    """Return what identifies the socket at a Unix path, or 0."""
    if isinstance(address, str):
        with suppress(OSError):
            found = os.stat(address)
            return found.st_ino if stat.S_ISSOCK(found.st_mode) else 0
    return 0
