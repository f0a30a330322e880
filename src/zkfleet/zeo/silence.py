"""Is the other side silent because nobody asks, or because it is not there?

Pure: time comes in as an argument, and the asking and breaking are done in
`peer`.  Invariant: who is not heard for `interval + timeout` seconds is given
up, within `GONE` seconds if its node has gone from the registry, too, and it is
in no commit; and who owes an answer without which nothing can go on, within
`timeout`.
"""

from enum import Enum

GONE = 1.0


class Action(Enum):
    """What is to be done about a silence."""

    NOTHING = "nothing"
    ASK = "ask"
    BREAK = "break"


class Silence:
    """How long the other side of a connection has been silent.

    Args:
        interval: seconds of silence before it is asked for a word; None for never.
        timeout: seconds that it may take to answer.
        now: seconds on a clock that only goes forward.
    """

    def __init__(self, interval: float | None, timeout: float, *, now: float) -> None:
        self._interval, self._timeout = interval, timeout
        self._heard_at = now
        self._asked_at: float | None = None

    def heard(self, now: float) -> None:
        """Take note that something came."""
        self._heard_at, self._asked_at = now, None

    def lasts(self, now: float) -> float:
        """Return for how many seconds nothing came."""
        return now - self._heard_at

    def step(self, *, now: float, gone: bool = False, commits: bool = False, owes: bool = False) -> Action:
        """Return what to do now.

        Args:
            now: seconds on the same clock.
            gone: whether its node is gone from the registry; one that drains has gone, too.
            commits: whether it is in the middle of a commit, which may keep it busy.
            owes: whether it was asked something that it must answer at once.
        """
        if owes and self._asked_at is None:
            self._asked_at = now
        if self._asked_at is None:
            if self._interval is None:
                return Action.NOTHING
            if not gone and self.lasts(now) < self._interval:
                return Action.NOTHING
            self._asked_at = now
            return Action.ASK
        patience = min(self._timeout, GONE) if gone and not commits else self._timeout
        return Action.BREAK if now - self._asked_at >= patience else Action.NOTHING
