"""Has a write happened whose reply was lost?

Every write travels with a *mark*, a small znode of its writer's alone: one
atomic batch sets the mark from one version to the next, and makes the write.
When the reply is lost the writer sets the mark itself, from the same version:
the *fence*.  One of the two goes first, and the other is refused for ever,
whichever connection or session it comes over.  What stands in the mark then
tells which one that was.

Without a mark what was to be written can only be refuted: some versions show
that it has not happened, none that it has.  Equal content shows nothing.

Pure: `marks` keeps the marks, `writing` asks.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from zkfleet.registry.reads import Reply, Unreadable, Znode

WRITTEN, FENCED = b"written", b"fenced"


class Verdict(Enum):
    """What is known of a write whose reply was lost."""

    HAPPENED = "it happened"
    REFUSED = "it did not happen, and never will"
    UNKNOWN = "it may have happened, or may yet"


@dataclass(frozen=True, slots=True)
class Mark:
    """A znode that tells what became of one write after another.

    Attributes:
        path: below the chroot.
        session: the one in which it was made, and which keeps it.
        version: of its data, before the next write.
    """

    path: str
    session: int
    version: int = 0

    def after(self) -> "Mark":
        """Return the mark after a write, or a fence."""
        return Mark(self.path, self.session, self.version + 1)


def by_mark(mark: Mark, seen: Reply) -> Verdict:
    """Judge a write by its mark, seen after a fence was carried out or refused.

    Args:
        mark: as it was before the write.
        seen: the mark's znode.
    """
    if not isinstance(seen, Znode) or seen.stat.version != mark.version + 1:
        return Verdict.UNKNOWN  # not ours alone: somebody deleted it, or wrote to it
    verdicts = {WRITTEN: Verdict.HAPPENED, FENCED: Verdict.REFUSED}
    return verdicts.get(seen.data, Verdict.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Expected:
    """A znode as one operation of a write expects it: it is refused if the version is another.

    Attributes:
        path: below the chroot.
        version: of its data.
        czxid: the transaction that created it; what its maker saw.
        after: the data that the operation sets, None for a deletion.
    """

    path: str
    version: int
    czxid: int
    after: bytes | None


def by_versions(expected: Iterable[tuple[Expected, Reply]]) -> Verdict:
    """Judge a write that can come no more by the znodes that it would have changed.

    Args:
        expected: what its operations expect, each with what is there now.  All
            of them happened or none did, so one that did not refutes the write.
    """
    return Verdict.REFUSED if any(_refutes(*pair) for pair in expected) else Verdict.UNKNOWN


def _refutes(expected: Expected, seen: Reply) -> bool:
    if isinstance(seen, Unreadable) or not isinstance(seen, Znode) or seen.stat.czxid != expected.czxid:
        return False
    if expected.after is None:
        return True  # the very znode that was to be deleted
    untouched = seen.stat.version == expected.version
    return untouched or (seen.stat.version == expected.version + 1 and seen.data != expected.after)
