"""Was there an error but conflicts, or a line that an operator cannot act on?  Pure.

Whether an order was lost or doubled is judged by `tests.soak.verdict`.
"""

import re
from collections import Counter
from dataclasses import dataclass

from tests.soak.zope.actionable import ACTIONABLE

NEW = "this txn started with 0x00 "
TOO_MANY = 12  # records of one process in one failover


@dataclass(frozen=True)
class Failure:
    """A request that failed.

    Attributes:
        at: when, seconds since 1970.
        client, method: who asked, and how.
        status: of the answer; `none` without one.
        text: of the answer, or the error.
    """

    at: float
    client: str
    method: str
    status: str
    text: str

    @property
    def reason(self):
        """The last line of a traceback in the text, or its first words."""
        errors = [
            line for line in self.text.splitlines() if re.match(r"[A-Za-z_.]+(Error|Disconnected|Exception)\b", line)
        ]
        return errors[-1][:200] if errors else " ".join(self.text.split())[:100]

    @property
    def is_conflict(self):
        """Whether Zope gave up a request that conflicted each time; a new object conflicts with nobody."""
        return re.match(r"\S*ConflictError\b", self.reason) is not None and NEW not in self.reason


@dataclass(frozen=True)
class Failover:
    """One of them: what was done, from when to when, which server served before and after."""

    what: str
    began: float
    ended: float
    before: int | None
    after: int | None

    def has(self, when):
        return self.began <= when < self.ended


def kinds(lines):
    """Return how often there is a line of each kind."""
    return Counter(line.kind for line in lines)


def is_actionable(kind):
    """Return what an operator makes of a kind of line, or None."""
    return next((reason for pattern, reason in ACTIONABLE.items() if re.match(pattern, kind)), None)


def breaches(failures, lines, failovers):
    """Return what is wrong with the answers and the logs, a sentence each.

    Args:
        failures: requests that failed.
        lines: all at WARNING and above.
        failovers: in order.
    """
    wrong = Counter(f"{one.method} {one.status} {one.reason}" for one in failures if not one.is_conflict)
    for what, number in wrong.most_common():
        yield f"{number} requests failed: {what}"
    for kind, number in kinds(lines).most_common():
        if is_actionable(kind) is None:
            yield f"{number} lines that nobody can act on: {kind}"
    for place, one in enumerate(failovers, 1):
        for process, number in Counter(line.process for line in lines if one.has(line.at)).items():
            if number > TOO_MANY:
                yield f"failover {place} ({one.what}): {process} logged {number} times"
