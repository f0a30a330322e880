"""Why could each server not be had, and when may it be tried again?

What a link remembers of servers between two tries.  Pure: time comes in as an
argument, seconds on a clock that only goes forward.
"""

import copy
from collections.abc import Mapping, Sequence

from zkfleet.endpoints import Endpoint
from zkfleet.errors import BadInput, ServerBehind, WrongDatabase
from zkfleet.spelling import spell

Address = tuple[str, int]


class Reasons:
    """What is wrong with each server, and until when it is left alone.

    Args:
        waits_for_behind: whether a server that lacks transactions is worth waiting for.
    """

    def __init__(self, *, waits_for_behind: bool) -> None:
        self._waits_for_behind = waits_for_behind
        self._problems: dict[Address, tuple[Exception, float]] = {}
        self._resting: dict[Address, float] = {}
        self._stumbles: dict[Address, int] = {}

    def note(self, address: Address, problem: Exception, now: float) -> bool:
        """Remember what is wrong with a server, and return whether that is news."""
        known = self._problem(address)
        self._problems[address] = (problem, now)
        if isinstance(problem, ServerBehind):  # by how much changes all the time
            return not isinstance(known, ServerBehind)
        return known is None or spelled(known) != spelled(problem)

    def _problem(self, address: Address) -> Exception | None:
        return self._problems.get(address, (None,))[0]

    def forget(self, address: Address) -> None:
        """Begin anew with a server: it is another one, or gone."""
        self._problems.pop(address, None)
        self.forgive(address)

    # -- rests

    def rest(self, address: Address, until: float) -> None:
        """Leave a server alone for a while."""
        self._resting[address] = until

    def stumbled(self, address: Address) -> int:
        """Return how often a server has let us in and thrown us out, this time included."""
        self._stumbles[address] = self._stumbles.get(address, 0) + 1
        return self._stumbles[address]

    def forgive(self, address: Address) -> None:
        """Try a server at once the next time, for it was taken."""
        self._resting.pop(address, None)
        self._stumbles.pop(address, None)

    def may_be_tried(self, address: Address, now: float) -> bool:
        """Return whether a server has rested enough."""
        return self._resting.get(address, now) <= now

    def has_failed(self, address: Address, since: float) -> bool:
        """Return whether something was wrong with a server since then."""
        return address in self._problems and self._problems[address][1] >= since

    # -- what to say

    def final(self, addresses: Sequence[Address], left_out: Mapping[str, Exception]) -> Exception | None:
        """Return what a person must mend, if that is so for every server; a copy, for it will be raised.

        Args:
            addresses: of the servers that may be tried.
            left_out: what is wrong with those that may not, by name.
        """
        found = [*map(self._problem, addresses), *left_out.values()]
        if not found or not all(map(self._is_final, found)):
            return None
        return copy.copy(found[0])

    def _is_final(self, problem: Exception | None) -> bool:
        if isinstance(problem, ServerBehind):
            return not self._waits_for_behind
        return isinstance(problem, WrongDatabase | BadInput)

    def why(self, addresses: Sequence[Address], left_out: Mapping[str, Exception]) -> str:
        """Return what is wrong with each server; arguments as for `final`."""
        tried = [(str(Endpoint(*address)), self._problem(address) or "no answer yet") for address in addresses]
        said = [with_name(name, problem) for name, problem in [*tried, *left_out.items()]]
        return "; ".join(said) or "no server is registered"


def spelled(problem: object) -> str:
    """Return an error in its own words, or its name if it has none, and what to do about it."""
    hint = getattr(problem, "hint", "")
    return f"{problem} ({hint})" if hint else str(problem) or type(problem).__name__


def with_name(name: str, problem: object) -> str:
    """Return an error in its own words, after the name of the server that it is about."""
    return spelled(problem) if spelled(problem).startswith(f"{spell(name)}: ") else f"{name}: {spelled(problem)}"
