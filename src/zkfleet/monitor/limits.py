"""How much may one client, and all of them together, ask for?

One frozen value that every part reads.  What each limit guards against is said
with it; what happens at the limit is done where it is noticed.
"""

import math
from dataclasses import dataclass, fields

from zkfleet.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one monitor.

    Attributes:
        line: bytes of one line of input; who sends a longer one is told so and closed.
        connections: open at once; who comes later is told that all are taken.
        idle: seconds in which a client must say or read something.
        interactive_idle: the same for a client in interactive mode.
        answer: bytes of one answer; the rest of a longer one is cut off, and that is said.
        unread: bytes of all answers together that clients have not read yet; who asks for more is dropped.
        deadline: seconds for a command that may block, unless the command has its own.
        looks: seconds between two looks whether a Unix socket's file is still there.
        running: commands that may block, under way at once, those that missed their deadline included.

    Raises:
        BadInput: one of them is not a number above zero.
    """

    line: int = 8 << 10
    connections: int = 100
    idle: float = 60.0
    interactive_idle: float = 3600.0
    answer: int = 16 << 20
    unread: int = 64 << 20
    deadline: float = 5.0
    looks: float = 5.0
    running: int = 10

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0 or (isinstance(value, float) and math.isnan(value)):
                raise BadInput(f"the limit {field.name} cannot be {value!r}", hint="a number above zero")
