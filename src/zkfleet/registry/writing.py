"""How is a write made once, whatever becomes of the link?

Every write of a persistent znode goes through a `Writer`.  It is sent with a
mark (`proof`); when the reply is lost the mark tells what became of it.  So a
caller hears that it happened, that it did not and never will, or, if nobody can
know, `OutcomeUnknown`; nothing is made twice.

A write that is known not to have happened is not sent again here: what it rests
on was seen before the break, and a node may have been deleted and made anew
since, with the same version.  Its caller looks again.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from kazoo import exceptions as kazoo_errors
from kazoo.protocol.serialization import SetData

from zkfleet.errors import OutcomeUnknown, ZkfleetError
from zkfleet.registry.marks import Marks
from zkfleet.registry.proof import FENCED, WRITTEN, Expected, Mark, Verdict, by_mark, by_versions
from zkfleet.registry.reads import Answer, Batch, GetData, Reading, Reply, Unreadable, Znode
from zkfleet.registry.session import LOST, Deadline, Session
from zkfleet.registry.wire import Multi, refusal_in, rooted

_MARK_IS_GONE = (kazoo_errors.NoNodeError, kazoo_errors.BadVersionError)


class Lost(Exception):
    """A refusal: the link broke, and the write did not happen and never will; its caller looks again."""


class Written(NamedTuple):
    """How a write ended.

    Attributes:
        zxid: the transaction, 0 if it was refused.
        refusal: why it was refused, and nothing changed; None if it happened.
        culprit: which operation was refused.
    """

    zxid: int
    refusal: Exception | None = None
    culprit: int = 0


class Writer:
    """Makes the writes of one session; for any thread."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.marks = Marks(session)

    def write(
        self,
        operations: Sequence[Any],
        *,
        path: str,
        deadline: Deadline | None = None,
        expected: Sequence[Expected] = (),
        grant: int | None = None,
    ) -> Written:
        """Make some changes together, once, or not at all.

        Args:
            operations: kazoo's requests, with paths as the server knows them.
            path: to name in errors.
            deadline: how long it may take; None for the session's timeout.
            expected: what some of the operations expect; see `proof.by_versions`.
            grant: what `Tap.grants` was before that was read on which they rest.
                If the link broke since, the write is `Lost`; None if it rests on nothing.

        Returns:
            How it ended; a refusal is returned, and not raised.  `Lost` is one, too.

        Raises:
            NotConnected: no link; nothing was sent, and nothing will be.
            OutcomeUnknown: it was sent, and nobody can tell what became of it.
        """
        deadline = deadline or Deadline(self.session.timeout)
        while True:
            attempt = _Attempt(self, self.marks.take(deadline), deadline, path)
            written = attempt.make(operations, expected, grant)
            if written is not None:
                return written


class _Attempt:
    """One try at a write, with one mark or with none."""

    def __init__(self, writer: Writer, mark: Mark | None, deadline: Deadline, path: str) -> None:
        self._session, self._marks, self._mark = writer.session, writer.marks, mark
        self._deadline, self._path = deadline, path
        self._session_id = self._session.session_id

    def make(self, operations: Sequence[Any], expected: Sequence[Expected], grant: int | None) -> Written | None:
        """Try it; return how it ended, None if the mark was not there and another one is wanted."""
        mark = self._mark
        try:
            head = [self._set(mark, WRITTEN)] if mark else []
            batch = Multi((*head, *operations))
            reply = self._session.send_once(batch, path=self._path, deadline=self._deadline, grant=grant)
        except OutcomeUnknown as lost:
            return self._judged(expected, lost)
        except kazoo_errors.KazooException as exc:
            self._give_back(mark)
            return Written(0, Lost() if isinstance(exc, LOST) else exc)
        except ZkfleetError:
            self._give_back(mark)  # nothing was sent
            raise
        except BaseException:
            # Interrupted while it waited: the mark's version is not known.
            if mark is not None:
                self._marks.leave(mark)
            raise
        refusal, culprit = refusal_in(reply.value)
        if refusal is None:
            self._give_back(mark and mark.after())
            return Written(reply.zxid)
        if mark is not None and culprit == 0 and not isinstance(refusal, LOST):
            self._lose_mark(mark, refusal)
            return None
        self._give_back(mark)
        return Written(0, Lost() if isinstance(refusal, LOST) else refusal, culprit - len(head))

    def _set(self, mark: Mark, data: bytes) -> SetData:
        return SetData(rooted(self._session.client.chroot, mark.path), data, mark.version)

    def _give_back(self, mark: Mark | None) -> None:
        if mark is not None:
            self._marks.give_back(mark)

    def _lose_mark(self, mark: Mark, refusal: Exception) -> None:
        self._marks.leave(mark)
        if not isinstance(refusal, _MARK_IS_GONE):
            self._marks.refuse(refusal)

    # -- after a lost reply

    def _judged(self, expected: Sequence[Expected], lost: OutcomeUnknown) -> Written:
        """Find out what became of it; raise `lost` if nobody can tell."""
        mark, verdict, zxid, over = self._mark, Verdict.UNKNOWN, 0, True
        try:
            if mark is not None:
                seen = self._fence(mark)
                verdict, over = by_mark(mark, seen), seen is Unreadable.MISSING
                zxid = seen.stat.mzxid if isinstance(seen, Znode) else 0
            if verdict is Verdict.UNKNOWN and expected and over:
                verdict = self._ask_versions(expected)
        except (ZkfleetError, kazoo_errors.KazooException) as exc:
            raise lost from exc
        finally:
            if mark is not None and verdict is Verdict.UNKNOWN:
                self._marks.leave(mark)
        if verdict is Verdict.UNKNOWN:
            raise lost
        self._give_back(mark and mark.after())
        return Written(zxid) if verdict is Verdict.HAPPENED else Written(0, Lost())

    def _fence(self, mark: Mark) -> Reply:
        """Set the mark, so that the write comes no more, and return what stands there."""
        fence = Multi((self._set(mark, FENCED),))
        while True:
            try:
                self._session.send_once(fence, path=self._path, deadline=self._deadline)
                break
            except OutcomeUnknown:
                # It cannot do harm either: one of the fences goes first, or the write.
                if not self._deadline.left():
                    raise
        return self._read([mark.path])[0]

    def _ask_versions(self, expected: Sequence[Expected]) -> Verdict:
        replies = self._read([one.path for one in expected])
        # Without a mark only the session keeps a write from coming late: a server
        # takes no requests of a session from the connection before the present one.
        if self._mark is None and self._session.session_id != self._session_id:
            return Verdict.UNKNOWN
        return by_versions(zip(expected, replies, strict=True))

    def _read(self, paths: Sequence[str]) -> tuple[Reply, ...]:
        return self._session.read(lambda: _look(paths), timeout=self._deadline.left()).replies


def _look(paths: Sequence[str]) -> Reading[Answer]:
    return (yield Batch(tuple(map(GetData, paths))))
