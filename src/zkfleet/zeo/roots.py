"""Which identity does a record of a database's root carry?

The root is a mapping.  Besides its items it may have attributes, which ZODB stores
with it and which an application that uses it as a mapping does not see.  One of
them is the identity.  So it is in every later revision of the root, and in every
pack, backup or copy of the data.

Pickles are read without importing anything: no application's classes are
needed, and none of their code runs.  The attribute is added at the end of the
pickle; all else stays as it is.
"""

import io
import zlib
from typing import Any

from persistent.mapping import PersistentMapping
from ZODB.serialize import ObjectWriter
from zodbpickle.pickle import Unpickler

ATTRIBUTE = "_zkfleet_database"
# Classes of roots that keep attributes.
MAPPINGS = {
    ("persistent.mapping", "PersistentMapping"),
    ("persistent.dict", "PersistentDict"),
    ("Persistence", "PersistentMapping"),
    ("Persistence.mapping", "PersistentMapping"),
    ("ZODB.PersistentMapping", "PersistentMapping"),
}
# How records begin that `zc.zlibstorage` has compressed, where they are served as they are stored.
COMPRESSED = b".z"
PROTOCOLS = (b"\x80\x02", b"\x80\x03")


class _Stub:
    """Stands for an object of any class."""

    def __new__(cls, *_arguments: Any, **_named: Any) -> "_Stub":
        return super().__new__(cls)

    def __init__(self, *_arguments: Any, **_named: Any) -> None:
        pass

    def __setstate__(self, _state: Any) -> None:
        pass

    def __setitem__(self, _key: Any, _value: Any) -> None:
        pass

    def append(self, _item: Any) -> None:
        """Take an item of what is a list."""

    def extend(self, _items: Any) -> None:
        """Take the items of what is a list."""


class _Reader(Unpickler):  # type: ignore[misc]  # zodbpickle has no types
    """Reads a record's two pickles, with stubs for all classes."""

    def find_class(self, module: str, name: str) -> type:
        """Return a stub that has a class's name."""
        return type(name, (_Stub,), {"names": (module, name)})

    def persistent_load(self, _reference: Any) -> _Stub:
        """Return a stub for another object."""
        return _Stub()


def new_root() -> bytes:
    """Return the record of the root that `ZODB.DB` makes for a new database."""
    record: bytes = ObjectWriter().serialize(PersistentMapping())
    return record


def identity_in(record: bytes) -> str:
    """Return the identity that a root's record carries, or ""."""
    read = _read(_plain(record))
    found = read.get(ATTRIBUTE) if read is not None else None
    return found if isinstance(found, str) else ""


def with_identity(record: bytes, identity: str) -> bytes | None:
    """Return a root's record with an identity; None if it cannot carry one."""
    plain = _plain(record)
    before = _read(plain)
    if before is None:
        return None
    # What a pickle ends with is its value, here a dictionary, and the sign for the end.
    changed = plain[:-1] + _text(ATTRIBUTE) + _text(identity) + b"s."
    after = _read(changed)
    if after is None or after.get(ATTRIBUTE) != identity or set(after) != set(before) | {ATTRIBUTE}:
        return None
    return COMPRESSED + zlib.compress(changed) if record.startswith(COMPRESSED) else changed


def _plain(record: bytes) -> bytes:
    if not record.startswith(COMPRESSED):
        return record
    try:
        return zlib.decompress(record[len(COMPRESSED) :])
    except zlib.error:
        return record


def _text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + len(encoded).to_bytes(4, "little") + encoded


def _read(record: bytes) -> dict[str, Any] | None:
    """Return the attributes of a root; None if it is of another class, or cannot be read."""
    stream = io.BytesIO(record)
    reader = _Reader(stream, encoding="ASCII", errors="bytes")  # as ZODB reads what Python 2 wrote
    try:
        kind = reader.load()
        at = stream.tell()
        state = reader.load()
    except Exception:  # whatever an unpickler raises: it is no root that we know
        return None
    kind = kind[0] if isinstance(kind, tuple) and kind else kind
    known = getattr(kind, "names", kind) in MAPPINGS
    whole = stream.tell() == len(record) and record[at : at + 2] in PROTOCOLS
    return state if known and whole and isinstance(state, dict) else None
