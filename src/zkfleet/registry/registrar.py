"""How is a claim carried out on a real session?

The shell around `claim`: a `Registrant` lives in the hub, tells its claim what
happened, sends the order that comes back, and reports how that ended.  A
`Registration` is what the user holds: one or more registrants (a blank host
has one for every address of the machine).
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from kazoo import exceptions as kazoo_errors
from kazoo.protocol import serialization as requests
from kazoo.security import ACL

from zkfleet import paths
from zkfleet.errors import AccessDenied, NotConnected, TooLarge, WaitTimedOut, ZkfleetError
from zkfleet.registry import claim as orders
from zkfleet.registry import identity, readings
from zkfleet.registry.claim import Claim, Outcome, Policy, Sight, Status
from zkfleet.registry.hub import LINK_ERRORS, Hub
from zkfleet.registry.reads import Event, Unreadable, Watch, Znode
from zkfleet.registry.session import mapped
from zkfleet.registry.wire import SAFE_PACKET, rooted
from zkfleet.tree import decode, encode

if TYPE_CHECKING:
    from zkfleet.registry.registry import Registry

logger = logging.getLogger(__name__)

EPHEMERAL = 1
COLLISIONS = (kazoo_errors.NodeExistsError, kazoo_errors.NoNodeError, kazoo_errors.BadVersionError)


class Subscribers:
    """Functions that are told of every registration before its znode is made."""

    def __init__(self) -> None:
        self._functions: list[Callable[[Registering], object]] = []
        self._local = threading.local()

    def subscribe(self, function: "Callable[[Registering], object]") -> "Callable[[Registering], object]":
        """Add a function; it is returned, so this serves as a decorator."""
        self._functions.append(function)
        return function

    def unsubscribe(self, function: "Callable[[Registering], object]") -> None:
        """Take a function out again."""
        self._functions.remove(function)

    def notify(self, event: "Registering") -> None:
        """Call them all, in order; what one registers itself is not announced again."""
        if getattr(self._local, "notifying", False):
            return
        self._local.notifying = True
        try:
            for function in list(self._functions):
                function(event)
        finally:
            self._local.notifying = False


registering = Subscribers()


@dataclass(frozen=True, slots=True)
class Registering:
    """A server is about to be registered.

    Attributes:
        path: of the service, as given.
        addresses: the endpoints that will be published.
        properties: may be added to.
    """

    path: str
    addresses: tuple[str, ...]
    properties: dict[str, Any]


def encoded(path: str, properties: Mapping[str, Any]) -> bytes:
    """Return properties as a znode's data.

    Raises:
        BadProperties: JSON cannot hold one of them.
        TooLarge: the server would not take them.
    """
    data = encode(properties)
    if len(data) > SAFE_PACKET:
        raise TooLarge(path, len(data), SAFE_PACKET)
    return data


class Registrant:
    """One endpoint of a registration, in the hub."""

    urgent = True

    def __init__(self, hub: Hub, path: str, name: str, *, data: bytes, acl: list[ACL], policy: Policy) -> None:
        self.hub, self.name = hub, name
        self.claim = Claim(path, data, policy, self._describe)
        self.changed = threading.Condition()
        self._acl = acl
        self._said: object = None

    # -- what the hub tells

    def on_connected(self) -> None:
        """Look whether our znode is there."""
        self._carry_out(self.claim.connected(self.hub.session_id))

    def on_suspended(self) -> None:
        """Touch nothing."""
        self.claim.suspended()
        self._announce()

    def on_event(self, event: Event, path: str) -> None:
        """Look again if this may concern our znode."""
        # Creations of our znode are ours, or follow a deletion that we heard of.
        ours = path.rpartition("/")[2] == self.name
        if event is not Event.CHILDREN and not (ours and event is Event.CREATED):
            self._carry_out(self.claim.disturbed())

    def on_audit(self) -> None:
        """Look, told or not."""
        self._carry_out(self.claim.disturbed())

    def wants(self, data: bytes) -> None:
        """Change our znode's data."""
        self._carry_out(self.claim.wants(data))

    def close(self) -> None:
        """Remove our znode."""
        self._carry_out(self.claim.close())

    def give_up(self) -> None:
        """Leave our znode to the end of the session."""
        self.claim.give_up()
        self._announce()

    # -- carrying out

    def _carry_out(self, order: orders.Order | None) -> None:
        ended = partial(self.hub.post, self._ended, self.hub.epoch)
        match order:
            case orders.Look(path):
                self.hub.read(self, readings.read_claim(path, self.name), self._looked)
            case orders.Create(parent, data):
                self.hub.session.send(self._create(parent, data), ended)
                self.hub.watch(self, Watch(paths.join(parent, self.name)))
            case orders.Write(parent, data, version):
                self.hub.session.send(requests.SetData(self._at(parent), data, version), ended)
            case orders.Replace(parent, data, version):
                both = [requests.Delete(self._at(parent), version), self._create(parent, data)]
                self.hub.session.send(requests.Transaction(both), ended)
            case orders.Remove(parent, version):
                self.hub.session.send(requests.Delete(self._at(parent), version), ended)
        self._announce()

    def _at(self, parent: str) -> str:
        return rooted(self.hub.session.client.chroot, paths.join(parent, self.name))

    def _create(self, parent: str, data: bytes) -> requests.Create:
        return requests.Create(self._at(parent), data, self._acl, EPHEMERAL)

    def _looked(self, place: readings.Place | None, error: Exception | None) -> None:
        if place is None or error is not None:
            self.claim.refused(self._refusal(error))
            self._announce()
            return
        if place.real_path is None:
            order = self.claim.saw(Sight(None, problem=place.problem))
        else:
            reply = place.replies[0]
            if reply is Unreadable.REFUSED:
                self.claim.refused(AccessDenied(paths.join(place.real_path, self.name), "read"))
                self._announce()
                return
            order = self.claim.saw(self._sight(place.real_path, reply))
        self._carry_out(order)

    def _sight(self, parent: str, reply: object) -> Sight:
        if not isinstance(reply, Znode):
            return Sight(parent)
        owner = reply.stat.ephemeral_owner
        ours = owner in self.hub.former_sessions or identity.is_dead(decode(reply.data))
        return Sight(parent, owner, reply.data, reply.stat.version, ours)

    def _ended(self, epoch: int, value: Any, error: Exception | None, _zxid: int) -> None:
        if epoch != self.hub.epoch:
            return
        if error is None and isinstance(value, list):
            error = next((result for result in value if isinstance(result, COLLISIONS + REFUSALS)), None)
        if error is None:
            order = self.claim.ended(Outcome.DONE)
        elif isinstance(error, LINK_ERRORS):
            order = self.claim.ended(Outcome.LINK_LOST)
        elif isinstance(error, COLLISIONS):
            order = self.claim.ended(Outcome.COLLISION)
        else:
            order = None
            self.claim.refused(self._refusal(error))
        self._carry_out(order)

    def _refusal(self, error: Exception | None) -> ZkfleetError:
        if isinstance(error, ZkfleetError):
            return error
        if isinstance(error, kazoo_errors.NoAuthError):
            return AccessDenied(self.claim.where, "create, delete or write")
        return mapped(error or RuntimeError("no answer"), paths.join(self.claim.where, self.name), "create")

    def _describe(self, sight: Sight) -> str:
        at = paths.join(sight.parent or self.claim.path, self.name)
        if sight.owner == 0:
            return f"{at} is there and is persistent: no provider's znode"
        who = decode(sight.data)
        return (
            f"{at} belongs to session 0x{sight.owner:x}"
            f" (pid {who.get('pid', 'unknown')} on {who.get('host', 'an unknown host')})"
        )

    def _announce(self) -> None:
        """Tell the log, and then waiting threads, how we stand, once for every change."""
        claim = self.claim
        if claim.status in (Status.REGISTERED, Status.BLOCKED):
            self.hub.keep_only(self, [paths.join(claim.where, self.name)])
        if claim.status is Status.CLOSED:
            self.hub.leave(self)
        said = (claim.status, str(claim.problem))
        if said != self._said:
            self._said = said
            level = logging.WARNING if claim.problem else logging.INFO
            at = paths.join(claim.where, self.name)
            logger.log(level, "registration_%s at=%s reason=%s", claim.status.value, at, claim.problem)
        with self.changed:
            self.changed.notify_all()


REFUSALS = (kazoo_errors.NoAuthError, kazoo_errors.InvalidACLError, kazoo_errors.NoChildrenForEphemeralsError)


class Registration:
    """Our claim that a service is provided here; it holds until it is closed.

    It is in ZooKeeper whenever the session can be: it comes back after the
    session expired, after somebody deleted it and after the ensemble was
    rebuilt.  While the link is merely down nothing is touched.
    """

    def __init__(self, registry: "Registry", path: str, registrants: Sequence[Registrant], properties: dict[str, Any]):
        self._registry, self.path = registry, path
        self._registrants = tuple(registrants)
        self._properties = properties
        self._lock = threading.Lock()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The endpoints that are published, as `host:port`."""
        return tuple(registrant.name for registrant in self._registrants)

    @property
    def properties(self) -> dict[str, Any]:
        """What the znodes say, or will say."""
        return dict(self._properties)

    @property
    def status(self) -> Status:
        """How it stands: of several endpoints the one that is furthest from registered."""
        return max((registrant.claim.status for registrant in self._registrants), key=_CONCERN.index)

    @property
    def problem(self) -> ZkfleetError | None:
        """Why it is not registered, or None."""
        return next((r.claim.problem for r in self._registrants if r.claim.problem), None)

    def update(self, data: Mapping[str, Any] | None = None, /, **properties: Any) -> None:
        """Set some properties in place; the znodes are written, never made anew.

        Returns when that is done, at once while there is no link: then it is
        done as soon as there is one.
        """
        identity.check_not_ours({**(data or {}), **properties})
        with self._lock:
            merged = {**self._properties, **(data or {}), **properties}
            written = encoded(self.path, merged)
            self._properties = merged
            for registrant in self._registrants:
                self._registry.hub.post(registrant.wants, written)
        for registrant in self._registrants:
            self._wait(registrant, partial(self._written, registrant, written), self._registry.timeout)

    def _written(self, registrant: Registrant, data: bytes) -> bool:
        claim = registrant.claim
        return claim.status is not Status.REGISTERED or (claim.data == data and claim.settled)

    def drain(self) -> None:
        """Say that no new work is wanted: views leave us out of `endpoints`."""
        self.update(state="draining")

    def wait_until_registered(self, timeout: float | None = None) -> "Registration":
        """Wait until every endpoint is in ZooKeeper.

        Args:
            timeout: seconds; None for the registry's timeout.

        Raises:
            WaitTimedOut: it was not in all that time; the message says why.
            ZkfleetError: it failed, and waiting does not help.
        """
        seconds = self._registry.timeout if timeout is None else timeout
        for registrant in self._registrants:
            done = (Status.REGISTERED, Status.FAILED, Status.CLOSED)
            if not self._wait(registrant, partial(_stands, registrant, done), seconds):
                raise WaitTimedOut(
                    f"{registrant.name} was not registered within {seconds:g} s: {self._reason(registrant)}"
                )
        if self.status is Status.FAILED and (problem := self.problem):
            raise problem
        return self

    def wait_until_decided(self, timeout: float) -> None:
        """Wait until it is registered, or it is known why it is not yet.

        Raises:
            NotConnected: no link in all that time.
        """
        for registrant in self._registrants:
            if not self._wait(registrant, partial(_decided, registrant.claim), timeout):
                raise NotConnected(f"{registrant.name} could not be registered within {timeout:g} s: no link")

    def _reason(self, registrant: Registrant) -> str:
        return str(registrant.claim.problem or f"it is {registrant.claim.status.value}")

    @staticmethod
    def _wait(registrant: Registrant, happened: Callable[[], bool], timeout: float) -> bool:
        with registrant.changed:
            return registrant.changed.wait_for(happened, timeout)

    def close(self, timeout: float | None = None) -> None:
        """Take the endpoints out of ZooKeeper; they are gone when this returns.  Twice is fine.

        Raises:
            WaitTimedOut: there was no link in all that time; they are removed
                as soon as there is one, or go with the session.
        """
        seconds = self._registry.timeout if timeout is None else timeout
        self.begin_close()
        for registrant in self._registrants:
            if not self._wait(registrant, partial(_stands, registrant, (Status.CLOSED,)), seconds):
                raise WaitTimedOut(f"{registrant.name} could not be removed within {seconds:g} s: no link to ZooKeeper")
        if self.problem is not None:
            raise self.problem

    def begin_close(self) -> None:
        """Start to take the endpoints out, without waiting."""
        self._registry.forget_registration(self)
        for registrant in self._registrants:
            self._registry.hub.post(registrant.close)

    def give_up(self) -> None:
        """Leave the endpoints to the end of the session, which is now."""
        for registrant in self._registrants:
            self._registry.hub.post(registrant.give_up)

    def __enter__(self) -> "Registration":
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Registration {self.path} {' '.join(self.addresses)}: {self.status.value}>"


_CONCERN = (
    Status.REGISTERED,
    Status.CLOSED,
    Status.SUSPENDED,
    Status.PENDING,
    Status.BLOCKED,
    Status.FAILED,
)


def _stands(registrant: Registrant, statuses: Sequence[Status]) -> bool:
    return registrant.claim.status in statuses


def _decided(claim: Claim) -> bool:
    return claim.settled and (claim.status not in (Status.PENDING, Status.SUSPENDED) or claim.problem is not None)
