"""Until when may we serve, by our own clock?

ZooKeeper tells us that our session has expired when we speak to it again,
which may be long after somebody else has been told.  So we go by what we know
for certain: whoever was heard after `s` is not expired before `s` and a timeout.

Heard by whom?  The leader expires sessions.  It hears of a connection when that
is made, and of what comes over it in the reports of the member at its other
end, every half tick: a quarter of the timeout at most, since a session has two
ticks or more.  That member may die before its next report.  But an answered
write went through the leader, behind all reports made before it.  So a write
that was sent at `w` and answered proves that the leader had heard, when it got
it, all that had been answered a quarter of the timeout before `w`.  A leader
that is elected later begins to count anew.

A timeout from when that was sent, less a margin in which to stop, is the lease.
Pure: times come in as arguments.

Source: ZooKeeper's SessionTrackerImpl, LearnerSessionTracker and LearnerHandler.
"""

from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from zkfleet.registry import Standing

# In timeouts.
REPORTED_WITHIN = 1 / 4
RENEWED_EVERY = 1 / 6
ANSWERED_WITHIN = 1 / 2
MARGIN = 1 / 12


class Exchange(NamedTuple):
    """When a request was made, at the latest, and its answer had come, at the latest."""

    asked: float
    answered: float


@dataclass(frozen=True, slots=True)
class Lease:
    """Permission to act as the holder of a lock, for a while.

    Attributes:
        session_id: of the session that has the lock.
        token: of the lock's tenure that this is for, 0 for none.
        ends_at: on our clock, in seconds; it is over from then on.
        exchanges: with ZooKeeper in this session, as far back as it matters.
    """

    session_id: int = 0
    token: int = 0
    ends_at: float = -inf
    exchanges: tuple[Exchange, ...] = ()

    def confirmed(self, standing: Standing, exchange: Exchange, *, timeout: float) -> "Lease":
        """Return the lease after an answer.

        Args:
            standing: of the lock.
            exchange: when that was asked and answered.
            timeout: of the session, in seconds, as the server granted it.
        """
        same = standing.session_id == self.session_id
        exchanges = (*self.exchanges, exchange) if same else (exchange,)
        reported = exchange.asked - REPORTED_WITHIN * timeout
        heard = max([standing.linked_at, *(made.asked for made in exchanges if made.answered <= reported)])
        ends_at = heard + (1 - MARGIN) * timeout if standing.token else -inf
        if same and standing.token == self.token:
            ends_at = max(ends_at, self.ends_at)
        recent = tuple(made for made in exchanges if made.asked >= heard)
        return Lease(standing.session_id, standing.token, ends_at, recent)

    def holds(self, now: float, token: int) -> bool:
        """Tell whether a tenure of the lock may still be acted on."""
        return token != 0 and token == self.token and now < self.ends_at
