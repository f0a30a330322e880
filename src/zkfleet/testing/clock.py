"""A clock that stands still until a test moves it."""

import threading


class Clock:
    """Seconds that only go forward; call it for the time.

    `DevServer(clock=clock)` lives by it: sessions end when the test says so,
    and not a moment before.
    """

    def __init__(self, start: float = 1_000.0) -> None:
        self._now = start
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """Return the time."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time go by at once.

        Raises:
            ValueError: it would go back.
        """
        if seconds < 0:
            raise ValueError(f"a clock does not go back: {seconds}")
        with self._lock:
            self._now += seconds
