"""What can go wrong, whose fault is it, and is it worth another try?

Every error that a caller of zkfleet meets is a `ZkfleetError`; errors of the
libraries below are mapped to these once, in the room that owns the library,
with `raise ... from exc`.  A message may show text of others, so its constructor
spells it (`spelling`); the attributes hold it as it is.  The family:

    ZkfleetError
    |-- BadInput (ValueError)      the caller's words are wrong; nothing happened
    |   |-- BadPath  BadAddress  BadHosts  BadAcl  BadProperties  BadAuth
    |   |-- TreeErrors             a tree text, with every problem in it
    |   `-- TooLarge               more data than the server takes in a packet
    |-- ObjectGone (LookupError)   what a call was to be made on is not in the database
    |-- EscapedObject              what a call returned would live on outside of its transaction
    |-- TransactionEnded           a call that ended its transaction itself
    |-- CommitUnknown              a commit that may have happened, and will not be tried again
    |-- CommittedAlready           a commit that did happen, though who waited for it was cancelled
    |-- TreeState (LookupError)    what the ensemble holds does not allow it
    |   |-- NodeNotFound (ChrootNotFound)  NodeExists  NodeNotEmpty
    |   |-- LinkLoop               links that lead back to where they began
    |   |-- StalePlan              the tree moved since the plan was made
    |   `-- RegistrationConflict   a znode is somebody else's registration
    |-- AccessDenied (PermissionError)
    |-- Unavailable (TransientError)   try again: nothing is wrong with the request
    |   |-- ConnectFailed  NotConnected
    |   |-- WaitTimedOut (TimeoutError)
    |   |-- OutcomeUnknown         the link broke while a write was under way
    |   |-- QueueFull              as many calls wait as may
    |   `-- ServerBehind           a server that has not all that we have seen
    |-- WrongDatabase              a server that has another database than ours
    `-- UnsupportedServer  Closed  ForkedSession  MissingDependency
"""

from collections.abc import Sequence
from typing import Any

from transaction.interfaces import TransientError

from zkfleet.spelling import spell


class ZkfleetError(Exception):
    """Anything that zkfleet reports.

    Attributes:
        hint: what the reader can do about it, one sentence, or "".  A traceback
            ends with it.
    """

    _hint = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(spell(message))
        if hint:
            self.hint = hint

    @property
    def hint(self) -> str:
        """Return what the reader can do about it."""
        return self._hint

    @hint.setter
    def hint(self, text: str) -> None:
        notes = [note for note in getattr(self, "__notes__", ()) if note != f"hint: {self._hint}"]
        self._hint = spell(text)
        self.__notes__ = [*notes, f"hint: {self._hint}"] if text else notes

    def __reduce__(self) -> tuple[Any, ...]:
        """Be copied and pickled whatever the constructor's arguments are."""
        return _made_again, (type(self), self.args), self.__dict__


def _made_again(kind: type[ZkfleetError], args: tuple[Any, ...]) -> ZkfleetError:
    error = kind.__new__(kind)
    error.args = args
    return error


class BadInput(ZkfleetError, ValueError):
    """The caller's words are wrong; nothing was changed."""


class BadPath(BadInput):
    """A znode path that ZooKeeper would refuse."""


class BadAddress(BadInput):
    """An address that is not `host:port`."""


class BadHosts(BadInput):
    """A ZooKeeper connection string that cannot be read."""


class BadAcl(BadInput):
    """An access control list that cannot be read."""


class BadAuth(BadInput):
    """Credentials whose form ZooKeeper does not know, or that it refused."""


class BadProperties(BadInput):
    """Properties that JSON cannot hold."""


class TreeErrors(BadInput):
    """A tree text with problems.

    Attributes:
        problems: all of them, in the order of the text; each prints as
            `source:line:column: what was found (remedy)`.
    """

    def __init__(self, problems: Sequence[object]) -> None:
        self.problems = tuple(problems)
        super().__init__("")
        self.args = ("\n".join(spell(str(problem)) for problem in self.problems),)


class TooLarge(BadInput):
    """More data for one znode than zkfleet sends in one packet."""

    def __init__(self, path: str, size: int, limit: int) -> None:
        super().__init__(
            f"{path}: {size:,} bytes, and zkfleet sends {limit:,} in one packet",
            hint="keep large data elsewhere and its address here; if the ensemble's jute.maxbuffer is larger, "
            "say so with connect(jute_maxbuffer=...) or --jute-maxbuffer",
        )
        self.path, self.size, self.limit = path, size, limit


class ObjectGone(ZkfleetError, LookupError):
    """An object that a call was to be made on, or with, is not to be had.

    Attributes:
        database: the name of the database that it should be in.
        oid: its object id there, 16 hex digits.
    """

    def __init__(self, database: str, oid: str, reason: str, *, hint: str = "") -> None:
        self.database, self.oid = database, oid
        super().__init__(f"the object {oid} of the database {database!r}: {reason}", hint=hint)


class EscapedObject(ZkfleetError):
    """What a call returned would live on outside of its transaction; nothing was committed.

    Attributes:
        place: where in the result it was found, such as `result['cart'][0]`.
    """

    def __init__(self, place: str, what: str, *, hint: str) -> None:
        self.place = place
        super().__init__(f"{place} is {what}: it must not outlive the transaction that it belongs to", hint=hint)


class TransactionEnded(ZkfleetError):
    """A call ended its transaction itself, so what it did may be committed in part; it is not repeated."""


class CommitUnknown(ZkfleetError):
    """A commit that may have happened, or may yet; the call is not repeated.

    Attributes:
        marker: for `zkfleet.zeo.outcome`, which may know later; None if the storage cannot tell.
    """

    def __init__(self, reason: str, marker: object = None) -> None:
        self.marker = marker
        super().__init__(
            f"it is not known whether the call was committed: {reason}",
            hint="look whether its effect is there, or ask zkfleet.zeo.outcome() for the marker later; a call "
            'that may happen twice can be made with Policy(on_unknown="retry")',
        )


class CommittedAlready(ZkfleetError):
    """The call was committed before it was cancelled; only its result is lost.

    With asyncio it is the `__cause__` of the `CancelledError`, on a reactor it is the error of the Deferred.
    """

    def __init__(self) -> None:
        super().__init__(
            "the call was committed when it was cancelled, and its after_commit actions are performed",
            hint="do not make it again; shield a call whose result you need",
        )


class TreeState(ZkfleetError, LookupError):
    """What the ensemble holds does not allow the request."""


class NodeNotFound(TreeState):
    """A path that leads to no znode.

    Attributes:
        path: what was asked for.
        missing: the first znode on the way that is not there.
    """

    def __init__(self, path: str, missing: str | None = None) -> None:
        self.path = path
        self.missing = missing or path
        where = "" if self.missing == path else f" (there is no {self.missing})"
        super().__init__(
            f"no such znode: {path}{where}",
            hint="`zkfleet tree import` makes the nodes of a tree; `zkfleet show /` lists them",
        )


class ChrootNotFound(NodeNotFound):
    """A connection string whose chroot leads to no znode."""

    def __init__(self, chroot: str, hosts: str) -> None:
        super().__init__(chroot)
        self.args = (spell(f"the connection string {hosts} ends with a chroot that is not there: {chroot}"),)
        self.hint = spell(f"make it first, with a connection string without {chroot}, or leave it out")
        if "," in chroot:
            self.hint = "the chroot stands once, at the end: host:port,host:port/chroot"


class NodeExists(TreeState):
    """A znode that was to be created is there already."""


class NodeNotEmpty(TreeState):
    """A znode that was to be deleted has children."""


class LinkLoop(TreeState):
    """Links that lead back to where they began.

    Attributes:
        chain: every step on the way, the first one repeated at the end.
    """

    def __init__(self, chain: Sequence[str]) -> None:
        self.chain = tuple(chain)
        super().__init__(
            "links in a loop: " + " -> ".join(self.chain),
            hint="change one of these links so that it ends at a real node",
        )


class StalePlan(TreeState):
    """The tree moved since the plan was made.

    Attributes:
        paths: the znodes that are no longer as the plan saw them.
    """

    def __init__(self, paths: Sequence[str], *, applied: int = 0) -> None:
        self.paths = tuple(paths)
        self.applied = applied
        done = f"; {applied} steps of it were applied before" if applied else ""
        super().__init__(
            "the tree changed since the plan was made: " + ", ".join(self.paths) + done,
            hint="make the plan again and look at it",
        )


class RegistrationConflict(TreeState):
    """A znode is somebody else's registration: its name is taken, and what it says is its owner's to change."""


class AccessDenied(ZkfleetError, PermissionError):
    """The ensemble refuses: the session lacks a permission."""

    def __init__(self, path: str, permission: str) -> None:
        self.path, self.permission = path, permission
        super().__init__(
            f"no {permission} permission on {path}",
            hint="give credentials with auth=, or change the ACL of that znode",
        )


class Unavailable(ZkfleetError, TransientError):  # type: ignore[misc]  # transaction has no types
    """Nothing is wrong with the request: try again later."""


class ConnectFailed(Unavailable):
    """No session could be had from any of the hosts."""


class NotConnected(Unavailable):
    """The link to the ensemble is down, and the request was not carried out."""


class WaitTimedOut(Unavailable, TimeoutError):
    """What was waited for did not happen in time."""


class OutcomeUnknown(Unavailable):
    """The link broke while a write was under way: it may have happened."""


class QueueFull(Unavailable):
    """As many calls wait for a connection as may; this one was not begun."""


def _dated(tid: str) -> str:
    """Return a transaction id with the time that it is made of, in UTC."""
    minutes, fraction = divmod(int(tid, 16), 1 << 32)
    if minutes == 0:
        return tid
    days, minute = divmod(minutes, 24 * 60)
    months, day = divmod(days, 31)
    year, month = divmod(months, 12)
    hour, minute = divmod(minute, 60)
    seconds = fraction * 60 >> 32
    return f"{tid} ({1900 + year}-{month + 1:02}-{day + 1:02} {hour:02}:{minute:02}:{seconds:02} UTC)"


class ServerBehind(Unavailable):
    """A server's last transaction is older than what its client has seen.

    Attributes:
        address: the server's.
        has, seen: transaction ids, 16 hex digits each.
    """

    def __init__(self, address: str, *, has: str, seen: str) -> None:
        self.address, self.has, self.seen = address, has, seen
        super().__init__(
            f"{address}: its last transaction is {_dated(has)}, and {_dated(seen)} has been seen here",
            hint="if an older state was restored on purpose, connect with on_behind='clear'; else wait for the server",
        )


class WrongDatabase(ZkfleetError):
    """A server holds another database than the one that was followed.

    Attributes:
        address: the server's.
        found, expected: identities of databases.
        transient: whether the server's database is in memory, and a new one at each start.
    """

    def __init__(self, address: str, *, found: str, expected: str, transient: bool = False) -> None:
        self.address, self.found, self.expected, self.transient = address, found, expected, transient
        known = "two different databases are registered under one path, or a copy took the place of the original"
        renewed = "its storage is in memory and new at each start: open the database again, or use on_behind='clear'"
        super().__init__(
            f"{address}: it serves the database {found}, and {expected} is expected",
            hint=renewed if transient else known,
        )


class UnsupportedServer(ZkfleetError):
    """The server is no ZooKeeper, or one that is too old."""


class Closed(ZkfleetError):
    """The registry, view or registration was closed."""


class ForkedSession(ZkfleetError):
    """A child process used its parent's session."""


class MissingDependency(ZkfleetError, ImportError):
    """An optional program or library that this request needs is not installed, or is none that we know."""
