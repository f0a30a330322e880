"""Which lines did the processes log that an operator must read?  Pure.

A line's kind is its level, its logger and its event.  Of our own lines the event
is the first word; of others it is the text before a colon, with all numbers as `#`.  A traceback
adds the class of its exception.
"""

import re
from dataclasses import dataclass

FORMAT = "%(created).3f %(levelname)s %(name)s %(message)s"
LOUD = ("WARNING", "ERROR", "CRITICAL")
_LINE = re.compile(r"(\d+\.\d{3}) ([A-Z]+) (\S+) (.*)")
_RAISED = re.compile(r"([A-Za-z_][\w.]*(?:Error|Disconnected|Exception|Timeout|TimedOut))\b")
_ABBREVIATED = 90


@dataclass(frozen=True)
class Line:
    """One record of a log.

    Attributes:
        process: whose.
        at: seconds since 1970.
        level, logger, text: as logged; the text is its first line.
        more: the lines that follow it, as of a traceback.
    """

    process: str
    at: float
    level: str
    logger: str
    text: str
    more: tuple[str, ...] = ()

    @property
    def kind(self):
        """What such lines have in common."""
        if self.logger.startswith("zkfleet"):
            event = self.text.split()[0] if self.text.strip() else ""
        else:
            event = _numberless(self.text.partition(": ")[0])[:_ABBREVIATED]
        raised = [match[1] for line in self.more if (match := _RAISED.match(line))]
        return " ".join([self.level, _numberless(self.logger), event, *(f"({name})" for name in raised[-1:])])

    @property
    def size(self):
        """How many lines it is in the file."""
        return 1 + len(self.more)


def _numberless(text):
    return re.sub(r"0x[0-9a-f]+|\d+", "#", text)


def read(process, lines):
    """Return the records of a log."""
    found = []
    for line in lines:
        match = _LINE.fullmatch(line.rstrip("\n"))
        if match:
            found.append([float(match[1]), match[2], match[3], match[4], []])
        elif found:
            found[-1][-1].append(line.rstrip("\n"))
        else:
            found.append([0.0, "ERROR", "-", line.rstrip("\n"), []])
    return [Line(process, *words, tuple(more)) for *words, more in found]


def loud(lines):
    """Return those at WARNING or above."""
    return [line for line in lines if line.level in LOUD]
