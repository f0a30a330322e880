"""What must be done next while a server runs under `zkfleet run`?

The pure half: told what happened, it answers with orders, and the shell (`run`)
carries them out.

    STARTING    the child runs; its port does not answer yet
    SERVING     registered
    STOPPING    a signal to stop came: deregistered, the child told, its end awaited
    ENDED       the child is gone; deregistered
"""

from dataclasses import dataclass
from enum import Enum

TERMINATING = ("SIGTERM", "SIGINT", "SIGQUIT")
PASSED_ON = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH")


class Phase(Enum):
    """Where the server stands in its life."""

    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Register:
    """Put the address into the registry."""


@dataclass(frozen=True, slots=True)
class Deregister:
    """Take the address out of the registry, before anything else happens."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Send the child a signal."""

    signal: str


@dataclass(frozen=True, slots=True)
class Exit:
    """End with this code."""

    code: int


Order = Register | Deregister | Pass | Exit


class Launcher:
    """The life of one server."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self._failed = False

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
        serving, self.phase = self.phase is Phase.SERVING, Phase.STOPPING
        return [Deregister(), Pass(name)] if serving else [Pass(name)]

    def child_ended(self, code: int) -> list[Order]:
        """The server is gone; a negative code names the signal that ended it."""
        serving, self.phase = self.phase is Phase.SERVING, Phase.ENDED
        shown = 1 if self._failed else code if code >= 0 else 128 - code
        return [Deregister(), Exit(shown)] if serving else [Exit(shown)]
