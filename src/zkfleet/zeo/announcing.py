"""How does the world learn of a ZEO server, however late ZooKeeper comes?

A thread that connects and registers, and tells in the log what keeps it from
that: at once, then rarely, and when it is over.  Once registered, the registry
keeps it so; nothing that happens to ZooKeeper ends a server.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

from zkfleet.endpoints import Endpoint
from zkfleet.errors import ZkfleetError
from zkfleet.registry import Registration, Registry, connect
from zkfleet.zeo.settings import ZooKeeper

logger = logging.getLogger(__name__)

# Seconds that connecting may take: little at first, so that a person hears soon of it.
PATIENCE = (2.0, 5.0)
LONGEST_PATIENCE = 15.0
RETRY_AFTER = 1.0
LOOK_AGAIN = 0.5
TELL_AGAIN = 60.0
DEREGISTER_WITHIN = 2.0


@dataclass(frozen=True, slots=True)
class Claim:
    """What is to be registered.

    Attributes:
        path: of the service.
        address: where it is provided.
        properties: of the provider.
    """

    path: str
    address: Endpoint
    properties: Mapping[str, Any]


class Concern:
    """Something that is told at once, then rarely, and when it is over."""

    def __init__(self, about: str) -> None:
        self._about, self._now, self._again = about, "", 0.0

    def is_now(self, problem: str) -> None:
        """Say what the problem is; "" for none."""
        if problem and (problem != self._now or time.monotonic() >= self._again):
            logger.warning("not_registered_yet path=%s reason=%s", self._about, problem)
            self._again = time.monotonic() + TELL_AGAIN
        if self._now and not problem:
            logger.info("not_registered_is_over path=%s", self._about)
        self._now = problem


class Announcer:
    """Connects to ZooKeeper and keeps claims registered, on a thread of its own.

    Args:
        zookeeper: how to connect, and what to advertise.
        registry: to use in place of one of its own; it is not closed.
    """

    def __init__(self, zookeeper: ZooKeeper, registry: Registry | None = None) -> None:
        self._zookeeper, self._given = zookeeper, registry
        self._lock = threading.Lock()
        self._registry = registry
        self._registrations: list[Registration] = []
        self._claims: Sequence[Claim] = ()
        self._connected, self._claimed, self._over = threading.Event(), threading.Event(), threading.Event()
        self._concern = Concern(zookeeper.path or next(iter(zookeeper.storage_paths.values())))
        self._thread = threading.Thread(target=self._run, name="zeo registering", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def wait_until_connected(self) -> bool:
        """Wait for ZooKeeper, for ever if need be; False if `close` was called meanwhile."""
        self._connected.wait()
        return not self._over.is_set()

    def register(self, claims: Sequence[Claim]) -> None:
        """Register claims as soon as that is possible; called once."""
        self._claims = claims
        self._claimed.set()

    def close(self) -> None:
        """Take everything out of ZooKeeper, if it answers soon, and end.  Twice is fine."""
        with self._lock:
            self._over.set()
            registrations, self._registrations = self._registrations, []
            registry, self._registry = self._registry, None
        self._connected.set()
        self._claimed.set()
        # Our own session takes all of its registrations with it.
        ours = [registry] if registry is not None and registry is not self._given else registrations
        for one in ours:
            try:
                one.close(DEREGISTER_WITHIN)
            except ZkfleetError as exc:
                logger.warning("not_deregistered reason=%s: its session's end must do", exc)
        if registry is not None and self._thread.is_alive():
            self._thread.join(LOOK_AGAIN)

    # -- on its thread

    def _run(self) -> None:
        if self._connect():
            self._connected.set()
            self._claimed.wait()
            try:
                self._register()
            except ZkfleetError as exc:
                logger.error("not_registered reason=%s", exc)
            while not self._over.wait(LOOK_AGAIN):
                problems = (registration.problem for registration in list(self._registrations))
                self._concern.is_now(str(next(filter(None, problems), "")))

    def _connect(self) -> bool:
        """Try until there is a registry, or nobody wants one any more."""
        if self._given is not None:
            return True
        for patience in chain(PATIENCE, repeat(LONGEST_PATIENCE)):
            try:
                self._take(self._registry_within(patience))
                break
            except ZkfleetError as exc:
                self._concern.is_now(str(exc))
            if self._over.wait(RETRY_AFTER):
                break
        return not self._over.is_set()

    def _registry_within(self, seconds: float) -> Registry:
        return connect(self._zookeeper.connection, session_timeout=self._zookeeper.session_timeout, timeout=seconds)

    def _take(self, registry: Registry) -> None:
        with self._lock:
            if not self._over.is_set():
                self._registry = registry
                return
        registry.close(DEREGISTER_WITHIN)

    def _register(self) -> None:
        with self._lock:
            if self._registry is None:
                return
            for claim in self._claims:
                self._registrations.append(
                    self._registry.register(
                        claim.path,
                        claim.address,
                        advertise=self._zookeeper.advertise,
                        wait=False,
                        **claim.properties,
                    )
                )
        for registration in self._registrations:
            logger.info("registering path=%s addresses=%s", registration.path, ",".join(registration.addresses))
