"""How is a pack kept from outliving its server?

ZEO packs on a thread of its own, which nobody ends.  FileStorage copies what it
keeps to `Data.fs.pack`, and then renames that to `Data.fs`, also when the
storage was closed meanwhile and another server had opened the same file: what
that one commits is lost, and two packs ruin the file.  So each pack of a
FileStorage looks at every record whether it may go on, and once more before it
renames; and the server closes a storage when no pack is in it any more.

Storages that are no FileStorage keep packs apart themselves, as RelStorage does
in its database, and are left alone.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from ZODB.FileStorage import FileStorage
from ZODB.FileStorage.fspack import FileStoragePacker
from ZODB.POSException import StorageError

from zkfleet.spelling import get_logger

logger = get_logger(__name__)

# Seconds until the log says what the end of a server waits for.
PATIENCE = 5.0
_READERS = ("_read_txn_header", "_read_data_header")


class PackGuard:
    """The packs of one server's storages.

    Args:
        storages: open ones, by name.
        may_commit: whether the server may still change them; called on packs' threads, so it must be quick.
    """

    def __init__(self, storages: Mapping[str, Any], may_commit: Callable[[], bool]) -> None:
        self._may_commit, self._stopped = may_commit, False
        self._guarded = {name for name, storage in storages.items() if self._guard(storage)}
        self._inside, self._changed = 0, threading.Condition()

    @contextlib.contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Count what packs a storage in here, from whatever thread.

        Raises:
            StorageError: the server ends, or may commit no more.
        """
        with self._changed:
            self._check()
            self._inside += name in self._guarded
        try:
            yield
        finally:
            with self._changed:
                self._inside -= name in self._guarded
                self._changed.notify_all()

    def stop(self) -> None:
        """Have all packs end at their next record, and none begin; returns at once."""
        self._stopped = True

    def wait_until_none(self) -> None:
        """Wait until no pack uses a file any more; `stop` them first."""
        with self._changed:
            if not self._changed.wait_for(self._none, PATIENCE):
                logger.warning("pack_not_ended packs=%d: the storage is not closed before it ends", self._inside)
                self._changed.wait_for(self._none)

    def _none(self) -> bool:
        return self._inside == 0

    def _check(self) -> None:
        if self._stopped or not self._may_commit():
            # One of ZODB's, which every client of ZEO can read.
            raise StorageError("the pack is stopped, and has changed nothing: this server ends, or may commit no more")

    def _guard(self, storage: Any) -> bool:
        """Have the FileStorage in a storage look, while it is packed; False if there is none."""
        while storage is not None and not isinstance(storage, FileStorage):
            storage = getattr(storage, "base", None)
        if storage is None:
            return False
        theirs = storage.packer
        storage.packer = partial(self._pack, self._copy if theirs is FileStorage.packer else theirs)
        return True

    def _pack(self, copy: Callable[..., Any], storage: Any, referencesf: Any, stop: bytes, gc: bool) -> Any:
        """Do what FileStorage asks of a packer; it renames what is returned, and has the commit lock then."""
        made = None
        try:
            made = copy(storage, referencesf, stop, gc)
            self._check()
        except StorageError:
            if made is not None:
                storage._commit_lock.release()
            with contextlib.suppress(FileNotFoundError):
                os.remove(f"{storage._file_name}.pack")
            raise
        return made

    def _copy(self, storage: Any, referencesf: Any, stop: bytes, gc: bool) -> Any:
        """Do what FileStorage's own packer does, and look at each record whether it may go on."""
        packer = FileStoragePacker(storage, referencesf, stop, gc)
        for reading in (packer, packer.gc):
            for name in _READERS:
                setattr(reading, name, partial(self._read, getattr(reading, name)))
        try:
            end = packer.pack()
            return None if end is None else (end, packer.index)
        finally:
            packer.close()

    def _read(self, read: Callable[..., Any], *where: Any) -> Any:
        self._check()
        return read(*where)
