"""What must be done next while a server runs under `zkfleet run`?

The pure half: told what happened, it answers with orders, and the shell (`run`)
carries them out.

    STARTING    the child runs; its port does not answer yet
    SERVING     registered
    LEAVING     a signal to stop came: it is being deregistered, and the child is told after that
    STOPPING    the child was told; its end is awaited
    ENDED       the child is gone: whoever carries orders out deregisters on the way out

ZooKeeper may be slow or silent, and who stops us may be in a hurry: after a
short while, or at a second signal, the child is told all the same.
"""

from dataclasses import dataclass
from enum import Enum

TERMINATING = ("SIGTERM", "SIGINT", "SIGQUIT")
PASSED_ON = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH")


class Phase(Enum):
    """Where the server stands in its life."""

    STARTING = "starting"
    SERVING = "serving"
    LEAVING = "leaving"
    STOPPING = "stopping"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Register:
    """Put the address into the registry."""


@dataclass(frozen=True, slots=True)
class Deregister:
    """Begin to take the address out of the registry, and say when that is done, or takes too long."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Send the child a signal."""

    signal: str


@dataclass(frozen=True, slots=True)
class Exit:
    """End with this code."""

    code: int


@dataclass(frozen=True, slots=True)
class TellOfBackground:
    """Say that the server left us, and serves on."""


Order = Register | Deregister | Pass | Exit | TellOfBackground


class Launcher:
    """The life of one server."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self._failed = False
        self._signal = ""

    def port_answers(self) -> list[Order]:
        """The server takes connections."""
        if self.phase is not Phase.STARTING:
            return []
        self.phase = Phase.SERVING
        return [Register()]

    def port_is_silent(self) -> list[Order]:
        """The server took no connection in the time it was given."""
        if self.phase is not Phase.STARTING:
            return []
        self.phase, self._failed = Phase.STOPPING, True
        return [Pass("SIGTERM")]

    def signalled(self, name: str) -> list[Order]:
        """We were sent a signal."""
        if self.phase is Phase.ENDED:
            return []
        if name not in TERMINATING:
            return [Pass(name)]
        if self.phase is Phase.SERVING:
            self.phase, self._signal = Phase.LEAVING, name
            return [Deregister()]
        self.phase = Phase.STOPPING
        return [Pass(name)]

    def deregistered(self) -> list[Order]:
        """The address is out of the registry, or that takes too long."""
        if self.phase is not Phase.LEAVING:
            return []
        self.phase = Phase.STOPPING
        return [Pass(self._signal)]

    def child_ended(self, code: int, *, serves_still: bool = False) -> list[Order]:
        """The server is gone; a negative code names the signal that ended it.

        Nobody told it to, and its port takes connections still: it went into the background.
        """
        by_itself = self.phase in (Phase.STARTING, Phase.SERVING)
        self.phase = Phase.ENDED
        if by_itself and code == 0 and serves_still:
            return [TellOfBackground(), Exit(1)]
        return [Exit(1 if self._failed else code if code >= 0 else 128 - code)]
