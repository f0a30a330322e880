"""May this server serve, and if not, what must be done about it?

The pure machine of one among several servers for one storage.  It is shown the
facts, as often as anything may have changed, and answers with one order, or
None when there is nothing to do; `standby` carries orders out and reports.

    WAITING   the lock is not ours, or there is no lease yet
    OPENING   -> Open: the storages are being opened
    BLOCKED   another process has the storage's file: to be tried again soon
    SERVING   the lock is ours, and the lease holds
    DRAINING  -> Drain: told to stop; who is in the middle of a commit may end it
    STOPPED   -> Release: the lock is given back, last of all

    the lock is lost or the lease is over, whenever we serve:  -> Abort, WAITING

Invariants: Open is ordered under a lease only; what was opened under a tenure
of the lock is aborted before anything is opened under another; nothing is
released while anything is open.
"""

from dataclasses import dataclass
from enum import Enum
from math import inf

from zkfleet.zeo.lease import Lease

RETRY_AFTER = 0.05


class State(Enum):
    """How a server stands."""

    WAITING = "waiting"
    OPENING = "opening"
    BLOCKED = "blocked"
    SERVING = "serving"
    DRAINING = "draining"
    STOPPED = "stopped"


class Order(Enum):
    """What is to be done."""

    OPEN = "open"
    ABORT = "abort"
    DRAIN = "drain"
    RELEASE = "release"


class Stop(Enum):
    """What we were told."""

    NO = "no"
    DRAIN = "drain"
    NOW = "now"


@dataclass(frozen=True, slots=True)
class Facts:
    """How things are.

    Attributes:
        now: seconds on our clock.
        token: of the lock, 0 if it is known not to be ours.
        lease: what ZooKeeper last confirmed.
        stop: whether we were told to.
    """

    now: float
    token: int
    lease: Lease
    stop: Stop = Stop.NO

    def allow(self, token: int) -> bool:
        """Tell whether one may serve under this tenure of the lock."""
        return self.token == token and self.lease.holds(self.now, token)


class Duty:
    """What one server does, and under which tenure of the lock.

    Attributes:
        state: how it stands.
        token: of the tenure under which it serves or opens, else 0.
    """

    def __init__(self) -> None:
        self.state = State.WAITING
        self.token = 0
        self._retry_at = -inf
        self._failed = False

    def look(self, facts: Facts) -> Order | None:
        """Say what is to be done now; ask again when that was begun."""
        match self.state:
            case State.WAITING | State.BLOCKED:
                return self._off_duty(facts)
            case State.SERVING | State.DRAINING:
                return self._on_duty(facts)
            case _:
                return None

    def _off_duty(self, facts: Facts) -> Order | None:
        if self._failed or facts.stop is not Stop.NO:
            self.state = State.STOPPED
            return Order.RELEASE
        if not facts.allow(facts.token):
            self.state = State.WAITING
            return None
        if self.state is State.BLOCKED and facts.now < self._retry_at:
            return None
        self.state, self.token = State.OPENING, facts.token
        return Order.OPEN

    def _on_duty(self, facts: Facts) -> Order | None:
        if not facts.allow(self.token) or facts.stop is Stop.NOW:
            self._leave(State.WAITING)
            return Order.ABORT
        if self.state is State.SERVING and facts.stop is Stop.DRAIN:
            self.state = State.DRAINING
            return Order.DRAIN
        return None

    def _leave(self, state: State) -> None:
        self.state, self.token = state, 0

    # -- how orders ended

    def opened(self) -> None:
        """The storages are open, and clients come; whether they may is for the next look."""
        self.state = State.SERVING

    def locked(self, now: float) -> None:
        """Nothing was opened: another process has the file."""
        self._leave(State.BLOCKED)
        self._retry_at = now + RETRY_AFTER

    def failed(self) -> None:
        """Nothing is open, and trying again would not help: leave it to the others."""
        self._leave(State.WAITING)
        self._failed = True

    def drained(self) -> None:
        """Nothing is open any more; nothing new if an abort came before."""
        if self.state is State.DRAINING:
            self._leave(State.WAITING)

    def wake_at(self, facts: Facts) -> float:
        """Return when to look again even if nothing happens."""
        match self.state:
            case State.SERVING | State.DRAINING:
                return facts.lease.ends_at
            case State.BLOCKED:
                return self._retry_at
            case _:
                return inf
