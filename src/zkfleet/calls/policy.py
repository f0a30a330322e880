"""How is a call made, and how often?

A policy is a value: made once, checked when it is made, given to as many calls
as like it.  What follows from it is decided in `deciding`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from zkfleet.errors import BadInput

# Seconds; threads cannot wait longer, says `threading.TIMEOUT_MAX`.
LONGEST = 9_223_372_036


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a call is made; times are in seconds.

    Attributes:
        max_transaction_errors: at which conflict, or other error that is worth another try, to give up;
            None for never.
        max_lost_commits: at which connection that is lost while the call commits to give up, because its
            transaction may be what breaks it; None for never. A server that is away does not count.
        initial_backoff, backoff_increment, max_backoff: how long a call waits for its database to be
            connected again until it tries all the same: the first time, how much longer each
            time after it, and at most.  It is woken when the connection is back.
        conflict_delay, max_conflict_delay: the pause after a conflict is random, at most the first of these,
            twice that after the second one, and so on up to the second of these.
        deadline: for all of it, waiting included; None for ever.
        max_errors: at which error of a class to give up, for each class; 1 means at once, None never.  The nearest
            base class counts.
        on_unknown: what to do when nobody can tell whether a commit happened: `raise`
            `CommitUnknown`, or `retry`, which is for calls that may happen twice.
        outcome_timeout: how long to ask whether a commit happened.
        allow_containers: whether lists, tuples and dicts among the arguments may hold persistent
            objects; the call gets copies of them.
        results: what to do with persistent objects in a result: `refuse` them, or turn a result that
            is one into a `reference`.

    Raises:
        BadInput: a value that there cannot be.
    """

    max_transaction_errors: int | None = 5
    max_lost_commits: int | None = 5
    initial_backoff: float = 5.0
    backoff_increment: float = 5.0
    max_backoff: float = 60.0
    conflict_delay: float = 0.005
    max_conflict_delay: float = 1.0
    deadline: float | None = None
    max_errors: Mapping[type[Exception], int | None] = field(default_factory=dict, hash=False)
    on_unknown: Literal["raise", "retry"] = "raise"
    outcome_timeout: float = 30.0
    allow_containers: bool = False
    results: Literal["refuse", "reference"] = "refuse"

    def __post_init__(self) -> None:
        for name in ("initial_backoff", "max_backoff", "outcome_timeout"):
            _check(name, getattr(self, name), above=0)
        for name in ("backoff_increment", "conflict_delay", "max_conflict_delay"):
            _check(name, getattr(self, name))
        if self.deadline is not None:
            _check("deadline", self.deadline, above=0)
        _check_count("max_transaction_errors", self.max_transaction_errors)
        _check_count("max_lost_commits", self.max_lost_commits)
        object.__setattr__(self, "max_errors", dict(self.max_errors))  # nobody else's
        for kind, count in self.max_errors.items():
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                raise BadInput(f"max_errors: {kind!r} is no class of errors")
            _check_count(f"max_errors of {kind.__name__}", count)
        _check_choice("on_unknown", self.on_unknown, ("raise", "retry"))
        _check_choice("results", self.results, ("refuse", "reference"))


def checked(policy: object) -> Policy:
    """Return what a door was given as `policy=`.

    Raises:
        BadInput: it is something else, perhaps meant for the function that is called.
    """
    if isinstance(policy, Policy):
        return policy
    raise BadInput(
        f"policy={policy!r} is no zkfleet.calls.Policy",
        hint="leave it out for the usual one; pass an argument of the function that has this name by functools.partial",
    )


def _check(name: str, value: object, *, above: float | None = None) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and value <= LONGEST and (value > above if above is not None else value >= 0):  # type: ignore[operator]
        return
    bound = "more than 0" if above is not None else "0 or more"
    raise BadInput(f"{name} is {value!r}, and must be a number of seconds, {bound}, that a thread can wait")


def _check_count(name: str, value: object) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise BadInput(f"{name} is {value!r}, and must be a whole number, or None for no limit")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise BadInput(f"{name} is {value!r}, and must be one of {', '.join(choices)}")
