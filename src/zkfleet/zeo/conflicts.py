"""What does a ZEO server's log say of a conflict that is not resolved because a class is missing here?

A server resolves conflicts with the classes of the objects, so their packages must be installed beside it.  Where
one is missing ZODB logs a traceback for each conflict, which does not name the class; or nothing at all, where the
class is only mentioned.  Here that becomes one warning for each class of a storage, which names it and the remedy.
A resolution that fails for another reason keeps its traceback.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from traceback import walk_tb
from types import TracebackType
from typing import Any

from ZODB import ConflictResolution

from zkfleet.spelling import get_logger
from zkfleet.zeo.insides import Repair, is_on

logger = get_logger(__name__)
LOGGER = "ZODB.ConflictResolution"
MISSING = 1
NOT_INSTALLED = "not installed"
HINT = (
    "the server cannot import the class, so each such conflict is an error for the client: "
    "install the class's package on the server and restart it, or set `client-conflict-resolution true` in <zeo>"
)
CONFLICTS = Repair(
    "a class that a server lacks for resolving conflicts is named, once",
    without="the log has a traceback for each conflict, which does not name the class",
    needs=(
        "ZODB.ConflictResolution:_class_cache",
        "ZODB.ConflictResolution:find_global",
        "ZEO.StorageServer:ZEOStorage._vote(delay)",
        "ZEO.StorageServer:ZEOStorage._store(oid, serial, data, blobfile)",
    ),
)
_votes: ContextVar["MissingClasses | None"] = ContextVar("zkfleet_votes", default=None)


class MissingClasses:
    """The classes that conflicts of one storage have been lacking; used on the server's loop.

    Args:
        storage: its name.
    """

    def __init__(self, storage: str) -> None:
        self._storage = storage
        self._told: set[str] = set()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Have ZODB's words about what is stored inside replaced."""
        if not is_on(CONFLICTS):
            yield
            return
        logging.getLogger(LOGGER).addFilter(_judge)  # once, however often it is added
        token = _votes.set(self)
        try:
            yield
        finally:
            _votes.reset(token)

    def look_at(self, record: bytes) -> None:
        """Tell of the classes that are missing in a record whose conflict was not resolved."""
        if is_on(CONFLICTS):
            self.tell(_missing_in(record), NOT_INSTALLED)

    def tell(self, classes: set[str], reason: object) -> None:
        """Log those that have not been told yet."""
        for name in sorted(classes - self._told):
            self._told.add(name)
            logger.warning("conflict_not_resolved class=%s storage=%s reason=%s: %s", name, self._storage, reason, HINT)


def _judge(record: logging.LogRecord) -> bool:
    """Keep a record of ZODB, unless it is about a class that is missing; then that is told in our words."""
    watching = _votes.get()
    _kind, problem, trace = record.exc_info or (None, None, None)
    if watching is None or problem is None or trace is None:
        return True
    classes = _missing_in(_record_of(trace))
    watching.tell(classes, NOT_INSTALLED)
    failed = _failed_import(trace)
    watching.tell(failed, repr(problem))
    return not (classes or failed)


def _failed_import(trace: TracebackType) -> set[str]:
    """Return the class that was looked for when its module failed, if it was that which failed."""
    places = [frame for frame, _line in walk_tb(trace) if frame.f_code is ConflictResolution.find_global.__code__]
    return {".".join(map(str, frame.f_locals["args"])) for frame in places}


def _record_of(trace: TracebackType) -> bytes:
    """Return the record of the database that ZODB was about to resolve, out of any wrapping."""
    found: Any = trace.tb_frame.f_locals.get("newpickle")
    return found if isinstance(found, bytes) else b""


def _missing_in(record: bytes) -> set[str]:
    """Return those of the classes that could not be imported in this process which a record names."""
    cached = list(ConflictResolution._class_cache.items())
    missing = [names for names, found in cached if found is MISSING and all(isinstance(one, str) for one in names)]
    # A pickle of ZODB's protocol, 3, writes the name of a class in one way alone.
    return {".".join(names) for names in missing if "c{}\n{}\n".format(*names).encode() in record}
