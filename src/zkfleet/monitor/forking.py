"""What goes on in a forked child, where of all threads only the one that forked is there?

A lock that another thread held is never given back there, and what it had begun
never ends.  Parts of monitors that a child may use all the same, such as a web
application that was made before its server forked, begin anew.
"""

import os
from typing import Protocol
from weakref import WeakSet


class Renewed(Protocol):
    """A part that lives on in forked children."""

    def begin_anew(self) -> None:
        """In a forked child: forget what the parent's threads had begun, and have locks that nobody holds."""


_parts: WeakSet[Renewed] = WeakSet()


def renew_in_children(part: Renewed) -> None:
    """Have a part begin anew in every forked child, for as long as somebody else refers to it."""
    _parts.add(part)


def _after_fork() -> None:
    for part in list(_parts):
        part.begin_anew()


os.register_at_fork(after_in_child=_after_fork)
