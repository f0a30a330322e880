"""What must a view read next, and may it begin now?

Pure: the hub tells it what happened, it answers what to read.  One reading of
a view is under way at a time; what happens meanwhile is kept for the next.

A transaction may change several znodes, and its events come one by one.  What
was read while more was noted may show a part of it, so it is not shown before
that was read too.  When there is no end to it, everything is read at once.

Invariants: whatever was noted since the last reading began is read by a later
one, however readings and events interleave; what is shown was so at one moment.
"""

from dataclasses import dataclass

PATIENCE = 3


@dataclass(frozen=True, slots=True)
class Work:
    """What one reading must look at: everything, or some children by name."""

    everything: bool
    names: frozenset[str] = frozenset()


class Agenda:
    """The reading that is under way, and what the next one must cover."""

    __slots__ = ("_everything", "_held", "_linked", "_names", "_under_way")

    def __init__(self) -> None:
        self._linked = False
        self._everything = True
        self._names: set[str] = set()
        self._under_way: Work | None = None
        self._held = 0

    @property
    def reads_everything(self) -> bool:
        """Tell whether a reading of everything is under way."""
        return self._under_way is not None and self._under_way.everything

    @property
    def current(self) -> bool:
        """Tell whether what was read last is the newest that we were told of."""
        return self._linked and not (self._everything or self._names or self._under_way)

    def connected(self) -> None:
        """A connection came up: what happened in between is unknown, so read everything."""
        self._linked = True
        self._everything = True
        self._under_way = None

    def suspended(self) -> None:
        """The connection is gone, and with it the reading that was under way."""
        self._linked = False
        self._under_way = None

    def note(self, name: str | None = None) -> None:
        """Something changed: the child `name`, or we cannot tell what."""
        if name is None:
            self._everything = True
        else:
            self._names.add(name)

    def begin(self) -> Work | None:
        """Return what to read now, or None: nothing to do, no link, or one is under way."""
        if not self._linked or self._under_way or not (self._everything or self._names):
            return None
        self._under_way = Work(self._everything, frozenset() if self._everything else frozenset(self._names))
        self._everything = False
        self._names.clear()
        return self._under_way

    def end(self, work: Work, *, read: bool) -> bool:
        """A reading came to its end; return whether its result counts.

        Args:
            work: what `begin` returned.
            read: whether it got its answer; if not, it must be done again.
        """
        if work is not self._under_way:
            return False
        self._under_way = None
        if not read:
            self._everything = self._everything or work.everything
            self._names |= work.names
        return read

    def shows(self, *, whole: bool, first: bool = False) -> bool:
        """Tell whether what the reading that ended brought may be shown.

        Args:
            whole: whether it was read at one moment by itself.  Readings that
                never are, of whole trees, are shown in the end all the same.
            first: there is nothing yet to show instead.
        """
        if whole or first or not (self._everything or self._names):
            self._held = 0
            return True
        self._held += 1
        self._everything = self._everything or self._held % PATIENCE == 0
        if self._held <= 2 * PATIENCE:
            return False
        self._held = 0
        return True
