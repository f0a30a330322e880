"""When is no transaction under way?

A storage's transactions go in here one at a time, as they came, on the threads of
those who commit.  A client that changes servers closes the gate, from ZEO's
thread, and goes when the one inside is out; whoever comes meanwhile waits at the
gate, and has begun nothing that the change could poison.
"""

import threading
from collections import deque


class Boundary:
    """The gate before a storage's transactions."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()
        self._inside: tuple[object, object] | None = None
        self._is_open = True

    def enter(self, transaction: object) -> None:
        """Go in; waits while another one is inside, others came before, or the gate is closed."""
        turn = object()
        with self._changed:
            self._queue.append(turn)
            try:
                self._changed.wait_for(lambda: self._is_open and self._inside is None and self._queue[0] is turn)
                self._inside = (transaction, turn)
            finally:
                self._queue.remove(turn)
                self._changed.notify_all()

    def leave(self, transaction: object) -> None:
        """Go out; who is not inside may do so, too."""
        with self._changed:
            if self._inside is not None and self._inside[0] is transaction:
                self._inside = None
                self._changed.notify_all()

    def close(self) -> None:
        """Let nobody in."""
        with self._changed:
            self._is_open = False

    def open(self) -> None:
        """Let in who waits."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    @property
    def inside(self) -> object | None:
        """Something for the one inside that is of no other one, or None."""
        with self._changed:
            return self._inside and self._inside[1]
