"""Which database does a storage hold?

The identity of what a storage holds, so that nobody takes another database for
it.  It travels with the data: it is extension data of a transaction that
stores the root again, byte for byte, and so is in every backup and copy.  Where
that is lost, because the root was changed and the storage packed, a small file
beside the data remembers.

Nothing stored is unpickled, so no application's classes are needed.  Called
before a storage is served, by one thread.
"""

import json
import logging
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from persistent.mapping import PersistentMapping
from ZEO.ClientStorage import ClientStorage
from ZODB.Connection import TransactionMetaData
from ZODB.DemoStorage import DemoStorage
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import POSKeyError
from ZODB.serialize import ObjectWriter
from ZODB.utils import load_current, z64

from zkfleet.zeo.described import IDENTITY, TRANSIENT

logger = logging.getLogger(__name__)
SUFFIX = ".zkfleet"

# Revisions of the root that are looked at, newest first.
REVISIONS = 100


# The kinds of storage that keep all in memory.  Exactly these: what is derived from one may keep it elsewhere.
IN_MEMORY = {"ZODB.MappingStorage.MappingStorage", "tempstorage.TemporaryStorage.TemporaryStorage"}


def is_transient(storage: Any) -> bool:
    """Tell whether a storage loses all that was written to it when it is closed: each start makes a new database."""
    if isinstance(storage, ClientStorage):
        return storage._info.get(TRANSIENT) is True
    kind = f"{type(storage).__module__}.{type(storage).__name__}"
    if kind in IN_MEMORY:
        return True
    inner = "changes" if isinstance(storage, DemoStorage) else _WRAPPED.get(kind)
    return inner is not None and is_transient(getattr(storage, inner))


# Where storages that lie around another one keep it.
_WRAPPED = {
    "ZODB.blob.BlobStorage": "_BlobStorage__storage",
    "zc.zlibstorage.ZlibStorage": "base",
    "zc.zlibstorage.ServerZlibStorage": "base",
}


def identify(storage: Any, *, read_only: bool = False) -> str:
    """Return the identity of what a storage holds; one without is given one.

    Args:
        storage: open, and served by nobody yet.
        read_only: leave the data alone, even if the storage could be written.

    Returns:
        32 hexadecimal digits, other ones at each start if it is transient; ""
        if it has none and none could be kept, which is told in the log.
    """
    if isinstance(storage, ClientStorage):
        return str(storage._info.get(IDENTITY, ""))
    if is_transient(storage):
        return _identify_transient(storage, read_only=read_only)
    known = _in_data(storage)
    beside = _Sidecar.of(storage)
    remembered = beside.read() if beside else ""
    if known and remembered not in ("", known):
        logger.warning("identity_differs data=%s file=%s beside=%s: the data are right", known, remembered, beside)
    identity = known or remembered or uuid.uuid4().hex
    kept = known == identity
    if not (known or remembered) and storage.lastTransaction() in (None, z64):
        logger.warning("database_is_new storage=%s: nothing was in it; is its path right?", storage.getName())
    if not kept and not read_only and not storage.isReadOnly():
        kept = _stamp(storage, identity) and _in_data(storage) == identity
    if beside and remembered != identity:
        kept = beside.write(identity) or kept
    if kept or known or remembered:
        return identity
    logger.warning("database_without_identity storage=%s: it could not be kept", storage.getName())
    return ""


def _identify_transient(storage: Any, *, read_only: bool) -> str:
    """Return an identity that is as short-lived as the data.

    What lies over another storage is not the database of that one: two starts
    from the same base go different ways.
    """
    own = storage.changes if isinstance(storage, DemoStorage) else storage
    # Others, such as a `TemporaryStorage`, have no history to be asked.
    known = _in_data(own) if isinstance(own, MappingStorage) else ""
    if known:
        return known
    identity = uuid.uuid4().hex
    logger.info("database_is_transient storage=%s: it is in memory, and a new one at each start", storage.getName())
    if not read_only and not storage.isReadOnly():
        _stamp(storage, identity)
    return identity


# -- in the data


def _in_data(storage: Any) -> str:
    """Return what the newest revision of the root says that says something, or ""."""
    try:
        revisions = storage.history(z64, size=REVISIONS)
    except POSKeyError:
        return ""
    # What a storage of another make may raise is not known, and it is to be served all the same.
    except Exception as exc:
        logger.warning("history_not_read storage=%s reason=%r", storage.getName(), exc)
        return ""
    return next(filter(None, map(_said, revisions)), "")


def _said(revision: Mapping[str, Any]) -> str:
    # FileStorage mixes extension data in, MappingStorage has them apart.
    apart = revision.get("extension")
    found = revision.get(IDENTITY) or (apart.get(IDENTITY) if isinstance(apart, Mapping) else None)
    return found if isinstance(found, str) else ""


def _stamp(storage: Any, identity: str) -> bool:
    """Write an identity into the data, and tell whether that could be done."""
    transaction = TransactionMetaData("", "zkfleet: identity of this database", {IDENTITY: identity})
    try:
        storage.tpc_begin(transaction)
        try:
            serial, record = _root(storage)
            storage.store(z64, serial, record, "", transaction)
            storage.tpc_vote(transaction)
        except BaseException:
            storage.tpc_abort(transaction)
            raise
        storage.tpc_finish(transaction)
    except Exception as exc:  # a full disk, say: the server is to serve what it has
        logger.warning("identity_not_stamped storage=%s reason=%r", storage.getName(), exc)
        return False
    return True


def _root(storage: Any) -> tuple[bytes, bytes]:
    """Return the serial and the record of the root, or what `ZODB.DB` would make as a new one."""
    try:
        data, serial = load_current(storage, z64)
    except POSKeyError:
        return z64, ObjectWriter().serialize(PersistentMapping())
    return serial, data


# -- beside the data


class _Sidecar:
    """A file beside a FileStorage's."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def of(cls, storage: Any) -> "_Sidecar | None":
        file = getattr(storage, "_file_name", None)
        return cls(Path(file + SUFFIX)) if isinstance(file, str) else None

    def read(self) -> str:
        """Return what it says, or ""."""
        try:
            said = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as exc:
            logger.warning("identity_not_read file=%s reason=%s", self._path, exc)
            return ""
        found = said.get("database") if isinstance(said, dict) else None
        return found if isinstance(found, str) else ""

    def write(self, identity: str) -> bool:
        """Write it as a whole or not at all, and tell whether it was done."""
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            try:
                draft.write_text(json.dumps({"database": identity}) + "\n")
                draft.replace(self._path)
            except OSError:
                with suppress(OSError):
                    draft.unlink(missing_ok=True)
                raise
        except OSError as exc:
            logger.info("identity_not_written file=%s reason=%s", self._path, exc)
            return False
        return True

    def __str__(self) -> str:
        return str(self._path)
