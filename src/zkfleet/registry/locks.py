"""Who has a lock, and since which transaction?

A lock is a registration of a name that is waited for: the same claim, which
comes back after an expiry, seen by whoever must know at every moment whether
it stands.  Many may wait; the watch on the znode wakes them all, and the
ensemble lets one create it.

A lock is held in a session, and a session can be over before its client hears
of it.  So `held` is what we know, never a proof.  `confirm` gives one, for a
moment: see `zkfleet.zeo.lease` for what can be built on it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from kazoo.protocol.serialization import CheckVersion, Exists, Transaction

from zkfleet import paths
from zkfleet.errors import NotConnected
from zkfleet.registry.callbacks import Turns
from zkfleet.registry.claim import Status
from zkfleet.registry.hub import LINK_ERRORS
from zkfleet.registry.registrar import Registrant
from zkfleet.registry.registration import Registration
from zkfleet.registry.wire import rooted
from zkfleet.spelling import get_logger

if TYPE_CHECKING:
    from zkfleet.registry.registry import Registry

logger = get_logger(__name__)

ANY_VERSION = -1


class Standing(NamedTuple):
    """What the ensemble says of a lock.

    Attributes:
        session_id: the session in which it was asked.
        token: the lock's, 0 if it is not ours.
        linked_at: when we began to make the connection that it was asked on,
            in seconds of `clocks.since_boot`.
    """

    session_id: int
    token: int
    linked_at: float


class Lock(Registration):
    """A name that one session at a time has; ours when `held`, until it is closed."""

    def __init__(self, registry: "Registry", path: str, registrant: Registrant, properties: dict[str, Any]) -> None:
        super().__init__(registry, path, [registrant], properties)
        self._registrant = registrant
        self._callbacks: list[Callable[[Lock], object]] = []
        self._turns = Turns(lambda: registry.hub.deliver(self._deliver))
        registrant.on_change = self._turns.changed

    @property
    def name(self) -> str:
        """The znode's."""
        return self._registrant.name

    @property
    def held(self) -> bool:
        """Whether it is ours, in the session that is connected."""
        return self.status is Status.REGISTERED and self.token != 0

    @property
    def token(self) -> int:
        """The transaction by which we got it, 0 if it is not ours; greater each time that anybody gets it.

        It is kept while the link is down, because the lock may be ours still.
        Another token means that somebody may have had the lock in between.
        """
        claim = self._registrant.claim
        return claim.token if self.status in (Status.REGISTERED, Status.SUSPENDED) else 0

    def wait_until_held(self, timeout: float | None = None) -> "Lock":
        """Wait until it is ours; arguments and errors as for `wait_until_registered`."""
        self.wait_until_registered(timeout)
        return self

    def subscribe(self, callback: "Callable[[Lock], object]") -> None:
        """Have a function called with this lock, soon and after every change, on the callbacks' thread."""
        self._callbacks.append(callback)
        self._turns.changed()

    def _deliver(self) -> None:
        self._turns.begin()
        try:
            for callback in list(self._callbacks):
                self._call(callback)
        finally:
            self._turns.end()

    def _call(self, callback: "Callable[[Lock], object]") -> None:
        try:
            callback(self)
        except Exception:  # one user's callback must not keep another's from being called
            logger.exception("callback_failed path=%s callback=%r", self.path, callback)

    def look_again(self) -> None:
        """Look at the znode, told or not, without waiting.

        No watch tells that the process which holds it has died; if that was one
        of this machine, a look shows it, and there is no need to wait for the
        end of its session.
        """
        self._registry.hub.post(self._registrant.on_audit)

    def confirm(self, timeout: float) -> Standing:
        """Ask the ensemble whether the lock is ours.

        An answer with a token proves that when this was called the session
        lived, in the eyes of a quorum and not of one member that was cut off
        from the others: if we take the lock for ours, the question is a write,
        which changes nothing and wakes nobody.  Else it is a read.

        Args:
            timeout: seconds that it may take.

        Raises:
            NotConnected, WaitTimedOut: no answer, or another session meanwhile.
            Closed: the registry was closed.
        """
        session = self._registry.session
        before, linked_at = session.session_id, session.tap.linked_at
        at = rooted(session.client.chroot, paths.join(self._registrant.claim.where, self.name))
        check = [Transaction([CheckVersion(at, ANY_VERSION)])] if self.token else []
        answers = session.ask_all([*check, Exists(at, None)], timeout=timeout)
        if session.session_id != before or any(isinstance(answer, LINK_ERRORS) for answer in answers):
            raise NotConnected(f"{self.path}: the link broke while the lock {self.name} was being confirmed")
        stat = answers[-1]
        ours = check and answers[0] == [True] and getattr(stat, "ephemeralOwner", 0) == before
        return Standing(before, stat.czxid if ours else 0, linked_at)
