"""Who has a session, and until when?

The session table: ids and passwords, what timeouts are granted, and who must
be expired next.  Time comes in as an argument, in seconds on a clock that only
goes forward; nothing here sleeps.
Invariant: every open session has exactly one deadline, at the end of a tick.

Source: `SessionTrackerImpl` and `ExpiryQueue` of ZooKeeper 3.8.
"""

import hashlib
import hmac
import math

ID_OF_SERVER = 1 << 56
# Seconds; on the wire these are whole milliseconds in 32 bits, and 0 is no timeout at all.
SHORTEST_TIMEOUT, LONGEST_TIMEOUT = 0.001, ((1 << 31) - 1) / 1000


class Sessions:
    """The sessions that are open.

    Args:
        secret: what passwords are made from; whoever has it can resume any session.
        first: the first id is made from this, milliseconds on any clock.
        tick: seconds; deadlines are at the end of one.
        shortest: seconds, no timeout is granted below.
        longest: seconds, and none above.
    """

    def __init__(self, secret: bytes, first: int, *, tick: float, shortest: float, longest: float) -> None:
        self.secret, self.tick, self.shortest, self.longest = secret, tick, shortest, longest
        self.next_id = ID_OF_SERVER | (first << 16) & (ID_OF_SERVER - 1)
        self.timeouts: dict[int, float] = {}
        self._deadlines: dict[int, float] = {}
        self._earliest = math.inf  # no deadline is before this one

    def granted(self, wanted: float) -> float:
        """Return the timeout for a client that asked for `wanted` seconds."""
        return min(max(wanted, self.shortest), self.longest)

    def open(self, timeout: float, *, now: float) -> int:
        """Open a session and return its id, which is never used again."""
        session, self.next_id = self.next_id, self.next_id + 1
        self.restore(session, timeout, now=now)
        return session

    def restore(self, session: int, timeout: float, *, now: float) -> None:
        """Open a session that another run of the server had opened."""
        self.timeouts[session] = timeout
        self.touch(session, now=now)

    def password(self, session: int) -> bytes:
        """Return what must be shown to resume a session: 16 bytes."""
        return hmac.digest(self.secret, session.to_bytes(8, signed=True), hashlib.sha256)[:16]

    def resume(self, session: int, password: bytes, timeout: float, *, now: float) -> bool:
        """Take a session up again, with another timeout; tell whether that may be."""
        if session not in self.timeouts or not hmac.compare_digest(password, self.password(session)):
            return False
        self.timeouts[session] = timeout
        self.touch(session, now=now)
        return True

    def touch(self, session: int, *, now: float) -> None:
        """Take note that a session's client is alive."""
        deadline = ((now + self.timeouts[session]) // self.tick + 1) * self.tick
        self._deadlines[session] = deadline
        self._earliest = min(self._earliest, deadline)

    def close(self, session: int) -> None:
        """Forget a session."""
        self.timeouts.pop(session, None)
        self._deadlines.pop(session, None)

    def expired(self, *, now: float) -> list[int]:
        """Return the sessions whose time is over; it costs nothing while there can be none."""
        if now < self._earliest:
            return []
        self._earliest = min(self._deadlines.values(), default=math.inf)
        return [session for session, deadline in self._deadlines.items() if deadline <= now]

    def deadlines(self) -> dict[float, list[int]]:
        """Return the open sessions by the time at which they end."""
        found: dict[float, list[int]] = {}
        for session, deadline in sorted(self._deadlines.items(), key=lambda pair: pair[1]):
            found.setdefault(deadline, []).append(session)
        return found
