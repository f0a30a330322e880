"""What is wrong with a tree text, where, and what can be done about it?"""

from dataclasses import dataclass

from zkfleet.spelling import spell


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        source: the name of the text, such as a file name.
        line: from 1.
        column: from 1, in characters.
        found: what is there.
        remedy: what to write instead.
    """

    source: str
    line: int
    column: int
    found: str
    remedy: str

    def __str__(self) -> str:
        return spell(f"{self.source}:{self.line}:{self.column}: {self.found} ({self.remedy})")
