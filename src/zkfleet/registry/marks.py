"""Where are the marks by which a lost write is judged, and who keeps them?

Below `/.zkfleet`, at the root of the chroot, each in a container with one
ephemeral child: the container outlives its session by up to a minute, in which
the next session of the same client can read what became of a write, and then
the server removes it, even if the client was killed.  A session has as many
marks as it has had writers at once: one, mostly.

Nobody else sees these znodes: lists of children leave them out (`wire`).
"""

import threading
import uuid
from functools import partial
from typing import Any

from kazoo import exceptions as kazoo_errors
from kazoo.protocol.serialization import Create, Delete

from zkfleet.errors import NotConnected, OutcomeUnknown
from zkfleet.registry import acls
from zkfleet.registry.proof import FENCED, Mark
from zkfleet.registry.reads import MARKS, Batch, GetChildren, Reading, Znode
from zkfleet.registry.session import LOST, NOT_SENT, Deadline, Session
from zkfleet.registry.wire import Multi, container, refusal_in, rooted
from zkfleet.spelling import get_logger
from zkfleet.tree import Acl

logger = get_logger(__name__)

HOME = f"/{MARKS}"
KEPT_BY = "session"
EPHEMERAL = 1
# There is no chroot; the server is busy.
_SAID_BY_THE_WRITE_ITSELF = (kazoo_errors.NoNodeError, kazoo_errors.ThrottledOpError)
_CONSEQUENCE = "a_write_whose_reply_is_lost_stays_unknown"


class Marks:
    """The marks of one `Session`; for any thread."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._free: list[Mark] = []
        self._left: list[Mark] = []
        self._refused_in = 0

    def take(self, deadline: Deadline) -> Mark | None:
        """Return a mark that nobody else uses, or None where none can be made.

        Raises:
            NotConnected: no link in all that time.
        """
        here = self._session.session_id
        with self._lock:
            self._free = [mark for mark in self._free if mark.session == here]
            if self._free:
                return self._free.pop()
            if here and self._refused_in == here:
                return None
        return self._make(deadline)

    def give_back(self, mark: Mark) -> None:
        """Let others use a mark whose version is known."""
        with self._lock:
            self._free.append(mark)

    def leave(self, mark: Mark) -> None:
        """Have a mark removed, soon: nobody knows its version."""
        with self._lock:
            self._left.append(mark)

    def remove_all(self) -> None:
        """Remove the marks of this session, without waiting; the last session removes their home, too."""
        with self._lock:
            going, self._free = self._free, []
        self._remove(going)
        if going and self._session.is_linked:
            self._session.send(Delete(self._at(HOME), -1), _ignore)  # refused while others have marks there

    def remove_others(self, root: str) -> None:
        """Remove the marks of whoever has `root` for a chroot, and the guards of locks in it: it is to go."""
        home = f"{root}{HOME}"
        for name in self._session.read(lambda: _names(home)):
            # Some of them may be gone already.
            for kept_by in self._session.read(partial(_names, f"{home}/{name}")):
                self._session.send(Delete(self._at(f"{home}/{name}/{kept_by}"), -1), _ignore)
            self._session.send(Delete(self._at(f"{home}/{name}"), -1), _ignore)
        self._session.send(Delete(self._at(home), -1), _ignore)

    def refuse(self, refusal: Exception) -> None:
        """Do without marks in this session: the server refuses them."""
        with self._lock:
            if self._refused_in == self._session.session_id:
                return
            self._refused_in = self._session.session_id
        hosts, reason = self._session.hosts, type(refusal).__name__
        logger.warning("marks_refused hosts=%s path=%s reason=%s consequence=%s", hosts, HOME, reason, _CONSEQUENCE)

    def _make(self, deadline: Deadline) -> Mark | None:
        with self._lock:
            left, self._left = self._left, []
        self._remove(left)
        while True:
            mark = Mark(f"{HOME}/{uuid.uuid4().hex}", self._session.session_id)
            try:
                refusal = self._put(mark.path, self._made(mark), deadline)
                if isinstance(refusal, kazoo_errors.NoNodeError):
                    home = container(self._at(HOME), b"", acls.HOME_OF_MARKS)
                    refusal = self._put(HOME, [home, *self._made(mark)], deadline)
                    if isinstance(refusal, kazoo_errors.NodeExistsError):
                        continue  # somebody else made it meanwhile
            except OutcomeUnknown as exc:
                self.leave(mark)  # it may be there: the next one has another name
                if not deadline.left():
                    raise NotConnected(f"{mark.path}: {exc}", hint=NOT_SENT) from exc
                continue
            if refusal is None:
                return mark
            if isinstance(refusal, LOST):
                continue
            if not isinstance(refusal, _SAID_BY_THE_WRITE_ITSELF):
                self.refuse(refusal)
            return None

    def _made(self, mark: Mark) -> list[Any]:
        acl = acls.to_kazoo([*acls.for_registrations(self._session.authenticated), Acl("d", "world", "anyone")])
        return [
            container(self._at(mark.path), FENCED, acl),
            Create(self._at(f"{mark.path}/{KEPT_BY}"), b"", acl, EPHEMERAL),
        ]

    def _put(self, path: str, operations: list[Any], deadline: Deadline) -> Exception | None:
        """Make a znode; return why the server refused it."""
        try:
            reply = self._session.send_once(Multi(tuple(operations)), path=path, deadline=deadline)
        except kazoo_errors.KazooException as exc:
            refused: Exception = exc
            return refused
        return refusal_in(reply.value)[0]

    def _remove(self, marks: list[Mark]) -> None:
        if not self._session.is_linked:
            return
        for mark in marks:
            if mark.session == self._session.session_id:
                at = self._at(mark.path)
                self._session.send(Multi((Delete(f"{at}/{KEPT_BY}", -1), Delete(at, -1))), _ignore)

    def _at(self, path: str) -> str:
        return rooted(self._session.client.chroot, path)


def _names(path: str) -> Reading[tuple[str, ...]]:
    answer = yield Batch((GetChildren(path),))
    names = answer.replies[0]
    return names if isinstance(names, tuple) and not isinstance(names, Znode) else ()


def _ignore(_value: object, _error: Exception | None, _zxid: int) -> None:
    """The server removes what we cannot."""
