"""Which storages of a server are being packed, and how did the last pack end?

ZEO's protocol says neither: who asked for a pack and lost the connection, or came
while another one was under way, is told nothing.  So a server of ours notes its
packs, and says them to whoever asks how it is.  And it takes one thing more for a
pack: whether garbage is collected, if its storage can be told that.
"""

import contextlib
import inspect
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zkfleet.spelling import spell
from zkfleet.zeo.insides import Repair

PACKS = Repair(
    "a server tells of its packs, and takes word of garbage",
    without="packs cannot be followed, and collect garbage as their storage is configured",
    needs=(
        "ZEO.StorageServer:ZEOStorage.get_size_info",
        "ZEO.StorageServer:ZEOStorage.storage",
        "ZEO.StorageServer:ZEOStorage.log(msg)",
        "ZEO.StorageServer:ZEOStorage.pack(time, wait)",
        "ZEO.StorageServer:ZEOStorage._pack_impl(time)",
        "ZEO.StorageServer:StorageServer.broadcast_info(storage_id, info)",
    ),
)


@dataclass(slots=True)
class Pack:
    """One pack.

    Attributes:
        began: seconds since 1970.
        ended: seconds since 1970; None while it is under way.
        error: what it ended with, or "".
        written: bytes of the file that is being made.
    """

    began: float
    ended: float | None = None
    error: str = ""
    written: int = 0

    def said(self) -> dict[str, Any]:
        """Return it as a server says it."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def of(cls, said: object) -> "Pack | None":
        """Return what a server said; None if it said nothing of the kind."""
        match said:
            case {
                "began": int() | float() as began,
                "ended": int() | float() | None as ended,
                "error": str(error),
                "written": int(written),
            }:
                return cls(began, ended, spell(error), written)
        return None


def under_way(pack: Pack | None) -> Pack | None:
    """Return a pack that is not over; None if it is, or there is none."""
    return pack if pack is not None and pack.ended is None else None


class Packs:
    """Those of a server's storages; used from any thread."""

    def __init__(self, storages: Mapping[str, Any]) -> None:
        self._storages, self._last = storages, dict[str, Pack]()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def noted(self, name: str) -> Iterator[None]:
        """Note the pack in here; if another one of this storage is under way, refusing is up to the storage."""
        with self._lock:
            pack = None if under_way(self._last.get(name)) else Pack(time.time())
            if pack is not None:
                self._last[name] = pack
        try:
            yield
        except BaseException as exc:
            if pack is not None:
                pack.error = f"{type(exc).__name__}: {exc}"
            raise
        finally:
            if pack is not None:
                pack.ended = time.time()

    def last(self, name: str) -> Pack | None:
        """Return the pack of a storage that is under way, or was the last one."""
        pack = self._last.get(name)
        if pack is not None and under_way(pack):
            pack.written = _written(self._storages[name])
        return pack


def takes_gc(storage: Any) -> bool:
    """Tell whether a storage's pack can be told to collect garbage or not."""
    try:
        return "gc" in inspect.signature(storage.pack).parameters
    except (TypeError, ValueError):
        return False


def _written(storage: Any) -> int:
    """Return how much of a FileStorage's new file there is; 0 if there is none."""
    while storage is not None and not hasattr(storage, "_file_name"):
        storage = getattr(storage, "base", None)
    try:
        return 0 if storage is None else os.path.getsize(f"{storage._file_name}.pack")
    except OSError:
        return 0
