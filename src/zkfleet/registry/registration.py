"""What does a server hold that has registered?

A `Registration` is one or more registrants in the hub (a blank host has one
for every address of the machine), seen from the threads of its user; and
`registering` tells subscribers of every one before its znode is made.
"""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from zkfleet.errors import Closed, ForkedSession, NotConnected, WaitTimedOut, ZkfleetError
from zkfleet.registry import identity
from zkfleet.registry.claim import Claim, Status
from zkfleet.registry.registrar import Registrant, encoded
from zkfleet.registry.session import Deadline

if TYPE_CHECKING:
    from zkfleet.registry.registry import Registry


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


class Registration:
    """Our claim that a service is provided here; it holds until it is closed.

    It is in ZooKeeper whenever the session can be: it comes back after the
    session expired, after somebody deleted it and after the ensemble was
    rebuilt.  While the link is merely down nothing is touched.

    A child process that uses its parent's gets `ForkedSession`.
    """

    def __init__(self, registry: "Registry", path: str, registrants: Sequence[Registrant], properties: dict[str, Any]):
        self._registry, self.path = registry, path
        self._registrants = tuple(registrants)
        self._properties = properties
        self._lock = threading.Lock()
        self._generation = 0
        self._closing = False
        self._pid = os.getpid()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedSession(
                f"this registration was made by process {self._pid}, and this is its child {os.getpid()}",
                hint="register again in the child, with a registry of its own",
            )

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
        self._check_process()
        return max((registrant.claim.status for registrant in self._registrants), key=_CONCERN.index)

    @property
    def problem(self) -> ZkfleetError | None:
        """Why it is not registered, or None."""
        return next((r.claim.problem for r in self._registrants if r.claim.problem), None)

    def update(self, data: Mapping[str, Any] | None = None, /, **properties: Any) -> None:
        """Set some properties in place; the znodes are written, never made anew.

        Returns when that is done; at once if they are not in ZooKeeper now,
        for want of a link or of their place: then they come with these properties.

        Raises:
            WaitTimedOut: ZooKeeper did not answer in the registry's timeout.
            AccessDenied: it refused.
            Closed: the registration was closed.
        """
        before, merged, generation = self._begin_update({**(data or {}), **properties})
        seconds = self._registry.timeout
        for registrant in self._registrants:
            if not self._wait(registrant, partial(_written, registrant, generation), seconds):
                raise WaitTimedOut(
                    f"{registrant.name}: no answer to the new properties within {seconds:g} s; they may be written",
                    hint="they will be, as soon as ZooKeeper answers, unless newer ones are set or it is closed",
                )
            problem = registrant.refusal or (registrant.claim.status is Status.FAILED and registrant.claim.problem)
            if problem:
                with self._lock:
                    if self._properties is merged:
                        self._properties = before
                raise problem

    def begin_update(self, **properties: Any) -> None:
        """Set some properties as `update` does, without waiting; what is refused is told in the log alone."""
        self._begin_update(properties)

    def _begin_update(self, properties: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], int]:
        self._check_process()
        identity.check_not_ours(properties)
        with self._lock:
            if self._closing:
                raise Closed(f"the registration at {self.path} is closed")
            before, merged = self._properties, {**self._properties, **properties}
            written = encoded(self.path, merged, self._registry.session.safe_packet)
            self._properties = merged
            self._generation += 1
            for registrant in self._registrants:
                self._registry.hub.post(registrant.wants, written, self._generation)
            return before, merged, self._generation

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
        self._check_process()
        seconds = self._registry.timeout if timeout is None else timeout
        for registrant in self._registrants:
            done = (Status.REGISTERED, Status.FAILED, Status.CLOSED)
            if not self._wait(registrant, partial(_stands, registrant, done), seconds):
                raise WaitTimedOut(
                    f"{registrant.name} was not registered within {seconds:g} s: {self._reason(registrant)}"
                )
        if self.status is Status.FAILED and (problem := self.problem):
            raise problem
        if self.status is Status.CLOSED:
            raise Closed(f"the registration at {self.path} is closed")
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
        self._check_process()
        deadline = Deadline(self._registry.timeout if timeout is None else timeout)
        self.begin_close()
        for registrant in self._registrants:
            if not self._wait(registrant, partial(_stands, registrant, (Status.CLOSED,)), deadline.left()):
                raise WaitTimedOut(
                    f"{registrant.name} could not be removed within {deadline.seconds:g} s: no link to ZooKeeper"
                )
        if self.problem is not None:
            raise self.problem

    def begin(self) -> None:
        """Start to put the endpoints in, without waiting."""
        for registrant in self._registrants:
            self._registry.hub.post(self._registry.hub.join, registrant)

    def begin_close(self) -> None:
        """Start to take the endpoints out, without waiting."""
        with self._lock:
            self._closing = True
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
        status = self.status.value if os.getpid() == self._pid else f"of process {self._pid}"
        return f"<{type(self).__name__} {self.path} {' '.join(self.addresses)}: {status}>"


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


def _written(registrant: Registrant, generation: int) -> bool:
    """Tell whether properties are in ZooKeeper, or will not be for now."""
    away = (Status.PENDING, Status.SUSPENDED, Status.BLOCKED, Status.FAILED, Status.CLOSED)
    return registrant.stands >= generation or registrant.claim.status in away


def _decided(claim: Claim) -> bool:
    return claim.settled and (claim.status not in (Status.PENDING, Status.SUSPENDED) or claim.problem is not None)
