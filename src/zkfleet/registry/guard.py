"""By what is it known that nobody got a lock since we looked?

A znode's version begins at 0 whenever the znode is made, so "delete it if its
version is 0" also deletes the lock that somebody else got meanwhile.  Every
lock therefore has a *guard* beside it:

    /locks/primary                        the lock
    /locks/.zkfleet/lock.primary          its guard: whoever makes the lock writes it, in the same multi
    /locks/.zkfleet/lock.primary/WITNESS  shows that it is the same guard: its name is never used again

A look reads the lock and its guard at one moment.  What it orders is carried
out only if that witness is still there, so the guard was not made anew, and the
guard has the same version, so nobody made the lock since.  That cannot be true
again once it was false.

Guards are containers, and witnesses ephemeral: the server removes what is left.
Pure: `operations` makes requests of this.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from zkfleet import paths
from zkfleet.registry.reads import MARKS, GetChildren, GetData, Read, Reply, Unreadable, Znode


@dataclass(frozen=True, slots=True)
class Guard:
    """A lock's guard, as it was when the lock was seen.

    Attributes:
        has_home: whether there is the node that it belongs below.
        version: of its data, None if it is not there.
        witnesses: the names of its children.
    """

    has_home: bool = False
    version: int | None = None
    witnesses: tuple[str, ...] = ()

    @property
    def proves(self) -> bool:
        """Whether it can be shown later that nobody made the lock since."""
        return self.version is not None and bool(self.witnesses)


def home_at(parent: str) -> str:
    """Return where the guards of the locks below a node are."""
    return paths.join(parent, MARKS)


def guard_at(parent: str, name: str) -> str:
    """Return where a lock's guard is."""
    return f"{home_at(parent)}/lock.{name}"


def reads(parent: str, name: str) -> tuple[Read, ...]:
    """Return what must be read with the lock, at the same moment."""
    at = guard_at(parent, name)
    return GetData(home_at(parent)), GetData(at), GetChildren(at)


def seen_in(replies: Sequence[Reply]) -> Guard | None:
    """Return the guard in the replies to `reads`, None if it may not be read."""
    home, guard, names = replies
    if any(reply in (Unreadable.REFUSED, Unreadable.OTHER) for reply in (guard, names)):
        return None
    has_home = home is not Unreadable.MISSING
    if not isinstance(guard, Znode) or not isinstance(names, tuple):
        return Guard(has_home)
    return Guard(has_home, guard.stat.version, tuple(sorted(map(str, names))))
