"""When is no transaction under way?

A storage's transactions go in and out here, on the threads of those who
commit.  A client that changes servers closes the gate, from ZEO's thread, and
goes when all are out; whoever comes meanwhile waits at the gate, and has begun
nothing that the change could poison.
"""

import threading


class Boundary:
    """The gate before a storage's transactions."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside: dict[int, object] = {}
        self._is_open = True

    def enter(self, transaction: object, timeout: float) -> bool:
        """Go in; waits while the gate is closed, at most `timeout` seconds, and tells whether it was open."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_open, timeout):
                return False
            self._inside[id(transaction)] = object()
            return True

    def leave(self, transaction: object) -> None:
        """Go out; who is not inside may do so, too."""
        with self._changed:
            self._inside.pop(id(transaction), None)

    def close(self) -> None:
        """Let nobody in."""
        with self._changed:
            self._is_open = False

    def open(self) -> None:
        """Let everybody in."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    @property
    def inside(self) -> frozenset[object]:
        """Who is inside: something for each that no other one ever is."""
        with self._changed:
            return frozenset(self._inside.values())
