"""How long is a member of the ensemble waited for?

Pure: time comes in as an argument; `pacing` is the shell that waits.  A
connection passes three waits, and each has a deadline of its own:

    dial        until the member has taken the connection
    handshake   until it has answered who we are
    silence     from its last byte on, for as long as the connection lives

Dial and handshake get a small part of the session timeout, divided by the
number of addresses, so that a dead member costs neither the session nor the
members that are well.  A round in which a member was waited for in vain doubles
that part for the next one: a slow ensemble is reached in the end, and clients
do not press it down by connections that they give up.

Invariants: nobody is dialled or greeted for longer than the session timeout
divided by the number of addresses; a link without a byte for two thirds of the
session timeout is given up, whatever is sent on it.
"""

from math import inf

# The server ends a session that it has not heard of for the whole timeout: a
# third of it is left to reach another member.  ZooKeeper's own client has the same part.
SILENCE = 2 / 3
FIRST_PART = 1 / 20
# A busy machine needs a moment to answer, however short the session is.
SHORTEST = 0.1
MOST_DOUBLINGS = 10


class Patience:
    """The deadlines of one client's connections, one connection after the other.

    Args:
        asked: the session timeout that the client asks for, in seconds.
    """

    def __init__(self, asked: float) -> None:
        self._timeout = asked
        self._addresses = 1
        self._rounds = 0
        self._in_vain = False
        self._ends_at = inf
        self._silence = inf

    @property
    def seconds(self) -> float:
        """How long a dial may take, and how long the answer to a handshake."""
        share = self._timeout / self._addresses
        first = max(share * FIRST_PART, SHORTEST)
        return min(share, first * 2.0 ** min(self._rounds, MOST_DOUBLINGS))

    def begin_round(self, addresses: int) -> None:
        """A round begins, in which each of the addresses is tried once."""
        self._addresses = max(addresses, 1)
        if self._in_vain:
            self._rounds += 1
        self._in_vain = False

    def dial(self) -> float:
        """A member is dialled; return the seconds that this may take."""
        self._ends_at = self._silence = inf
        return self.seconds

    def greet(self, now: float) -> None:
        """The handshake is sent."""
        self._ends_at, self._silence = now + self.seconds, inf

    def link(self, granted: float, now: float) -> None:
        """The member granted a session, or took one up, with this timeout in seconds."""
        self._timeout, self._silence = granted, granted * SILENCE
        self._rounds, self._in_vain = 0, False
        self.hear(now)

    def hear(self, now: float) -> None:
        """Something came from the member."""
        if self._silence < inf:
            self._ends_at = now + self._silence

    def left(self, now: float) -> float:
        """Return the seconds after which the member is given up, 0 or less if that is now."""
        return self._ends_at - now

    def give_up(self) -> None:
        """A member was waited for in vain."""
        self._in_vain = True
