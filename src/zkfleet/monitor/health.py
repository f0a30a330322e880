"""Is this process alive, ready, and has it been?

Liveness never touches a database: a database that is away would have every
process of the fleet restarted.  Readiness asks the checks that others have
added, and startup is readiness that has been reached once.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from zkfleet.errors import ZkfleetError
from zkfleet.monitor.answers import Answer, Column, Kind, Value, lines, lines_of, table
from zkfleet.monitor.commands import command
from zkfleet.spelling import get_logger

logger = get_logger(__name__)

Check = Callable[[], str]
"""Returns "" if all is well, else a sentence that says what is not; one that raises is not well either."""
CHECKS = [
    Column("check", "What was looked at.", kind=Kind.LABEL),
    Column("ok", "Whether it is as it should be.", kind=Kind.GAUGE),
    Column("reason", "What is not as it should be."),
]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; no reason is good."""

    name: str
    reason: str


class Readiness:
    """The checks that say whether this process can do its work; any thread may use it."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}  # replaced as a whole, so that who reads it needs no lock
        self._lock = threading.Lock()
        self._has_been = False

    def add(self, name: str, check: Check) -> None:
        """Have a check asked, in place of another of this name."""
        with self._lock:
            self._checks = {**self._checks, name: check}

    def remove(self, name: str) -> None:
        """Forget a check, if it is there."""
        with self._lock:
            self._checks = {one: check for one, check in self._checks.items() if one != name}

    def findings(self) -> list[Finding]:
        """Ask all checks, in the order of their names; this may block."""
        found = [Finding(name, _reason(check)) for name, check in sorted(self._checks.items())]
        self._has_been = self._has_been or not any(one.reason for one in found)
        return found

    @property
    def has_been(self) -> bool:
        """Whether all checks were well at one time."""
        return self._has_been


def _reason(check: Check) -> str:
    try:
        return check()
    except ZkfleetError as exc:
        return str(exc)
    except Exception as exc:  # a check that cannot say that all is well has found something
        logger.warning("check_failed", exc_info=True)
        return f"{type(exc).__name__}: {exc}"


READINESS = Readiness()
"""That of this process."""


@command("health", blocks=False)
def health() -> Answer:
    r"""Say that this process is alive: `OK`.

    It touches no database and waits for nothing.  For HAProxy: `tcp-check send
    health\r\n` and `tcp-check expect string OK`.
    """
    return lines("OK")


@command("ready", columns=CHECKS)
def ready() -> Answer:
    """Say whether this process can do its work: `OK`, or what is missing."""
    return _told(READINESS.findings())


@command("startup", columns=CHECKS)
def startup() -> Answer:
    """Say whether this process has been ready once: `OK` from then on."""
    found = [] if READINESS.has_been else READINESS.findings()
    return _told([] if READINESS.has_been else found)


def _told(found: list[Finding]) -> Answer:
    wrong = [one for one in found if one.reason]
    text = lines_of(f"{one.name}: {one.reason}" for one in wrong) or "OK\n"
    rows: list[dict[str, Value]] = [{"check": one.name, "ok": not one.reason, "reason": one.reason} for one in found]
    return table(CHECKS, rows, text=text, ok=not wrong)
