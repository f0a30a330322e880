"""Which database does a storage hold?

The identity of what a storage holds, so that nobody takes another database for
it.  It travels with the data, as an attribute of the root (`roots`), and is in all
that is left of them by packs, copies and backups.  Roots that can carry none have
it in the log, with a transaction that stores them again; a file beside the data
remembers that of data that nobody may write (`sidecar`).

Data without an identity in a place where there was one may be an older backup or
another database.  They get a new identity, and the log says so.  A person who
knows which database it is sets the identity with `zkfleet zeo identify`.

Nothing stored is unpickled, so no application's classes are needed.  Called
before a storage is served, by one thread.
"""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ZEO.ClientStorage import ClientStorage
from ZODB.Connection import TransactionMetaData
from ZODB.DemoStorage import DemoStorage
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import ConflictError, POSKeyError
from ZODB.utils import load_current, z64

from zkfleet.errors import BadInput
from zkfleet.spelling import get_logger
from zkfleet.zeo.described import IDENTITY
from zkfleet.zeo.roots import identity_in, new_root, with_identity
from zkfleet.zeo.sidecar import Remembered, Sidecar
from zkfleet.zeo.transience import is_transient

logger = get_logger(__name__)

# Revisions of the root that are looked at where the root itself says nothing: all of them.
REVISIONS = 1_000_000
DIGITS = 32
REMEDY = "if zkfleet served it before, see `zkfleet zeo identify`"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a storage's identity, each "" if it is not.

    Attributes:
        root: what the root carries.
        log: what the newest transaction says that stored the root and says something; looked for
            if the root carries none.
        beside: what the file beside the data remembers.
        fits: whether the file was written for these data; looked for if they say nothing themselves.
        tid: the last transaction, 16 hex digits.
    """

    root: str = ""
    log: str = ""
    beside: str = ""
    fits: bool = False
    tid: str = ""

    @property
    def known(self) -> str:
        """What the data say themselves, or the file that was written for them."""
        return self.root or self.log or (self.beside if self.fits else "")

    @property
    def empty(self) -> bool:
        """Whether nothing was ever stored."""
        return not self.tid.strip("0")


def look(storage: Any) -> Evidence:
    """Return what is known of a storage's identity; nothing is changed."""
    last = storage.lastTransaction() or z64
    root = identity_in(_root(storage)[1])
    log = "" if root else _in_log(storage)
    beside = Sidecar.of(storage)
    remembered = beside.read() if beside else Remembered()
    # It may take long to find a transaction in a large log.
    needed = bool(remembered.database) and not (root or log)
    return Evidence(root, log, remembered.database, needed and _fits(storage, remembered.tid, last), last.hex())


def identify(storage: Any, *, read_only: bool = False) -> str:
    """Return the identity of what a storage holds; give it one if it has none.

    Args:
        storage: open, and served by nobody yet.
        read_only: leave the data alone, even if the storage could be written.

    Returns:
        32 hexadecimal digits, others at each start if it is transient; "" if it
        has none and none could be kept; the log says so.
    """
    if isinstance(storage, ClientStorage):
        return str(storage._info.get(IDENTITY, ""))
    if is_transient(storage):
        return _identify_transient(storage, read_only=read_only)
    found = look(storage)
    may_write = not (read_only or storage.isReadOnly())
    if found.beside and not found.known and not may_write:
        logger.error(
            "database_without_identity storage=%s: the file beside the data has the identity %s, but it was written for"
            " other or newer data; clients cannot distinguish this database from others. See `zkfleet zeo identify`",
            storage.getName(),
            found.beside,
        )
        return ""
    identity = found.known or uuid.uuid4().hex
    _tell(storage, found, identity)
    return _keep(storage, found, identity, may_write=may_write)


def give(storage: Any, identity: str) -> None:
    """Give what a storage holds an identity, in place of any that it has.

    Raises:
        BadInput: that is no identity, or it could not be kept.
    """
    if len(identity) != DIGITS or set(identity) - set("0123456789abcdef"):
        raise BadInput(f"{identity!r} is no identity of a database", hint=f"it has {DIGITS} hexadecimal digits")
    if isinstance(storage, ClientStorage) or is_transient(storage) or storage.isReadOnly():
        raise BadInput(f"{storage.getName()}: its identity is not kept there", hint="name the storage that it is in")
    _stamp(storage, identity, over=look(storage).root)
    found = look(storage)
    if (found.root or found.log) != identity:
        raise BadInput(f"{storage.getName()}: the identity could not be written into it", hint="its log says why")
    _remember(storage, found, identity)


def _tell(storage: Any, found: Evidence, identity: str) -> None:
    """Say what is new, or odd, about an identity."""
    name = storage.getName()
    if found.known:
        if found.beside not in ("", identity):
            logger.warning(
                "identity_differs storage=%s data=%s file=%s: the data are right", name, identity, found.beside
            )
    elif found.beside and not found.empty:
        logger.error(
            "identity_is_new storage=%s database=%s before=%s: the data have no identity, and another database was here"
            " before. Clients of that one refuse this one. If the data are a backup of it, set its identity with"
            " `zkfleet zeo identify`",
            name,
            identity,
            found.beside,
        )
    elif not found.empty:
        logger.warning("identity_is_new storage=%s database=%s: it had none; %s", name, identity, REMEDY)
    else:
        logger.warning("database_is_new storage=%s: it was empty; is its path right?", name)


def _keep(storage: Any, found: Evidence, identity: str, *, may_write: bool) -> str:
    """Write an identity where it is not yet, and return it; "" if it is nowhere."""
    kept = bool(found.root or found.log)
    if may_write and not found.root and (not kept or with_identity(_root(storage)[1], identity) is not None):
        if not _stamp(storage, identity) and not kept:
            # Another server of the same store may have been faster.
            other = look(storage)
            found, identity = (other, other.root or other.log) if other.root or other.log else (found, identity)
        now = _root(storage)[1]
        kept = identity_in(now) == identity or kept or _in_log(storage) == identity
    kept = _remember(storage, found, identity) or kept
    if kept or found.known:
        return identity
    logger.warning("database_without_identity storage=%s: it could not be kept", storage.getName())
    return ""


def _remember(storage: Any, found: Evidence, identity: str) -> bool:
    """Have the file beside the data remember it, and tell whether it does."""
    beside = Sidecar.of(storage)
    if beside is None:
        return False
    last = (storage.lastTransaction() or z64).hex()
    before = beside.read()
    # What the root says is in all that is left of the data.  Else a pack may have removed what the file names.
    if before.database == identity and before.tid and (identity_in(_root(storage)[1]) or before.tid == last):
        return True
    known = before.database == identity and bool(found.fits or found.root or found.log)
    return beside.write(Remembered(identity, last)) or known


def remember(storage: Any, identity: str) -> None:
    """Have the file beside the data name a transaction that they have, if it alone may know their identity.

    Before and after a pack, which removes transactions, and when a storage is closed.
    """
    beside = Sidecar.of(storage)
    if beside is None or not identity or identity_in(_root(storage)[1]):
        return
    now = Remembered(identity, (storage.lastTransaction() or z64).hex())
    if beside.read() != now:
        beside.write(now)


def _identify_transient(storage: Any, *, read_only: bool) -> str:
    """Return an identity that is as short-lived as the data.

    What lies over another storage is not the database of that one: two starts
    from the same base go different ways.
    """
    own = storage.changes if isinstance(storage, DemoStorage) else storage
    # Others, such as a `TemporaryStorage`, have no history to be asked.
    known = _in_log(own) if isinstance(own, MappingStorage) else ""
    if known:
        return known
    identity = uuid.uuid4().hex
    logger.info("database_is_transient storage=%s: it is in memory, and a new one at each start", storage.getName())
    if not read_only and not storage.isReadOnly():
        _stamp(storage, identity, over=identity_in(_root(storage)[1]))
    return identity


# -- in the data


def _fits(storage: Any, tid: str, last: bytes) -> bool:
    """Tell whether data have the transaction that a file beside them names; an earlier zkfleet named none."""
    if not tid:
        return bool(last != z64)
    try:
        named = bytes.fromhex(tid)
        if last <= named:
            return last == named
        with _closing(storage.iterator(named, named)) as transactions:
            return any(True for _ in transactions)
    except Exception as exc:  # a storage of another make may have no log, or an odd one
        logger.warning("log_not_read storage=%s reason=%r", storage.getName(), exc)
        return False


@contextmanager
def _closing(iterator: Any) -> Iterator[Any]:
    """Close an iterator of a storage in the end, if it is one that can be closed."""
    try:
        yield iterator
    finally:
        getattr(iterator, "close", lambda: None)()


def _in_log(storage: Any) -> str:
    """Return what the newest transaction says that stored the root and says something, or ""."""
    try:
        revisions = storage.history(z64, size=REVISIONS)
    except POSKeyError:
        return ""
    # What a storage of another make may raise is not known, and it is to be served all the same.
    except Exception as exc:
        logger.info(
            "history_not_read storage=%s kind=%s reason=%r: the identity is looked for in the root alone",
            storage.getName(),
            type(storage).__name__,
            exc,
        )
        return ""
    return next(filter(None, map(_said, revisions)), "")


def _said(revision: Mapping[str, Any]) -> str:
    # FileStorage mixes extension data in, MappingStorage has them apart.
    apart = revision.get("extension")
    found = revision.get(IDENTITY) or (apart.get(IDENTITY) if isinstance(apart, Mapping) else None)
    return found if isinstance(found, str) else ""


def _stamp(storage: Any, identity: str, *, over: str = "") -> bool:
    """Write an identity into the data, and tell whether that could be done.

    Args:
        storage: where to.
        identity: what is written.
        over: what the root carries; if it is another one meanwhile, that stays.
    """
    transaction = TransactionMetaData("", "zkfleet: identity of this database", {IDENTITY: identity})
    try:
        storage.tpc_begin(transaction)
        try:
            serial, record = _root(storage)
            if identity_in(record) != over:
                raise ConflictError("the root has got another identity")
            storage.store(z64, serial, with_identity(record, identity) or record, "", transaction)
            storage.tpc_vote(transaction)
        except BaseException:
            storage.tpc_abort(transaction)
            raise
        storage.tpc_finish(transaction)
    except ConflictError as exc:
        logger.info("identity_not_stamped storage=%s reason=%s: another server writes to it", storage.getName(), exc)
        return False
    except Exception as exc:  # a full disk, say: the server is to serve what it has
        logger.warning("identity_not_stamped storage=%s reason=%r", storage.getName(), exc)
        return False
    return True


def _root(storage: Any) -> tuple[bytes, bytes]:
    """Return the serial and the record of the root, or what `ZODB.DB` would make as a new one."""
    try:
        data, serial = load_current(storage, z64)
    except POSKeyError:
        return z64, new_root()
    return serial, data
