"""What next, when an attempt has failed?

Pure: errors and random numbers come in, orders go out, and `running` carries
them out.  A `Course` is what is remembered of one call.
"""

from dataclasses import dataclass
from enum import Enum

from zkfleet.calls.policy import Policy
from zkfleet.errors import CommitUnknown

# Seconds: the pause after a database was not connected, at first and at most, though no other pause is wanted.
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0


class Trouble(Enum):
    """What kind of error it was; ClientDisconnected is a conflict too, by its class, and goes first."""

    DISCONNECTED = "disconnected"
    CONFLICT = "conflict"
    OTHER = "other"


class Answer(Enum):
    """What came out when it was asked whether a commit happened."""

    COMMITTED = "committed"
    NOT_COMMITTED = "not committed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that failed.

    Attributes:
        error: what was raised.
        trouble: of what kind it is.
        sending: whether the transaction had begun to commit.
        committing: whether the second phase of the commit had begun; before that nothing is committed.
        marker: what the transaction is recognised by, if it is.
    """

    error: Exception
    trouble: Trouble
    sending: bool = False
    committing: bool = False
    marker: object = None


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again, after so many seconds."""

    after: float


@dataclass(frozen=True, slots=True)
class AwaitConnection:
    """Try again when the database is connected, or after at most so many seconds; pause at least so many."""

    at_least: float
    at_most: float


@dataclass(frozen=True, slots=True)
class AskOutcome:
    """Find out whether the commit happened."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Give up, with this error, and say what stands beside it."""

    error: Exception
    note: str = ""


@dataclass(frozen=True, slots=True)
class Finish:
    """It was committed after all: all is well."""


_LOSS = "a connection that was lost in the commit"
_BROKEN = (
    "the connection was lost {} times while this call committed, so the server may be unable to take its transaction: "
    "look at the server's log, its disk and its limits of file size"
)

Order = Retry | AwaitConnection | AskOutcome | Fail | Finish


class Course:
    """The errors that one call has met so far, and what follows from them.

    Args:
        policy: that of the call.

    Attributes:
        disconnects: how often the database was not connected.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._counts: dict[object, int] = {}
        self.disconnects = 0

    def failed(self, failure: Failure, *, chance: float) -> Order:
        """Decide what follows from a failure.

        Args:
            failure: of the last attempt.
            chance: a random number, 0 to 1.
        """
        if failure.committing:
            return AskOutcome()
        return self._again(failure, chance)

    def told(self, answer: Answer, reason: str, failure: Failure, *, chance: float) -> Order:
        """Decide what follows from what became of a commit.

        Args:
            answer: what became of it.
            reason: how that is known, or why it is not.
            failure: of the attempt that was asked about.
            chance: a random number, 0 to 1.
        """
        if answer is Answer.COMMITTED:
            return Finish()
        if answer is Answer.UNKNOWN and self._policy.on_unknown == "raise":
            return Fail(CommitUnknown(reason, failure.marker))
        return self._again(failure, chance)

    def _again(self, failure: Failure, chance: float) -> Order:
        what, limit = self._limit(failure)
        count = self._counts[what] = self._counts.get(what, 0) + 1
        if limit is not None and count >= limit:
            return Fail(failure.error, _BROKEN.format(count) if what is _LOSS else "")
        pause = self._pause(count) * chance
        if failure.trouble is not Trouble.DISCONNECTED:
            return Retry(pause)
        self.disconnects += 1
        policy = self._policy
        patience = policy.initial_backoff + policy.backoff_increment * (self.disconnects - 1)
        at_most = min(policy.max_backoff, patience)
        # Nobody may know when it is connected, or it is lost again as soon as it is there.
        shortest = min(at_most, LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.disconnects - 1, 60))
        return AwaitConnection(max(pause, shortest * (1 + chance) / 2), at_most)

    def _limit(self, failure: Failure) -> tuple[object, int | None]:
        for kind in type(failure.error).__mro__:
            if kind in self._policy.max_errors:
                return kind, self._policy.max_errors[kind]
        if failure.trouble is Trouble.DISCONNECTED and (failure.sending or failure.committing):
            return _LOSS, self._policy.max_lost_commits
        limits = {Trouble.DISCONNECTED: None, Trouble.CONFLICT: self._policy.max_transaction_errors, Trouble.OTHER: 1}
        return failure.trouble, limits[failure.trouble]

    def _pause(self, count: int) -> float:
        """Return the longest pause after the n-th error."""
        # Beyond 2**60 nothing but the maximum can come out, and floats end.
        return min(self._policy.max_conflict_delay, self._policy.conflict_delay * 2.0 ** min(count - 1, 60))
