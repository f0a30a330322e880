"""Where does the time go?

Samples of all threads' stacks, a hundred a second while it is asked, from a
thread of its own: nothing is traced, so nothing costs anything when it is off.
Threads that wait are sampled, too: what they wait in is part of the answer.
"""

import sys
import threading
import time
from collections import Counter
from types import FrameType
from typing import Annotated

from zkfleet.monitor.answers import Answer, Column, Value, table
from zkfleet.monitor.commands import Between, command
from zkfleet.monitor.running import NAME

SECONDS_BETWEEN_SAMPLES = 0.01
MOST_SHOWN = 40
PROFILE = [
    Column("place", "The function and its file."),
    Column("own", "The part of the samples in which a thread was in it.", "%"),
    Column("below", "The part in which a thread was in it, or in what it called.", "%"),
]


def _deadline(seconds: float) -> float:
    return seconds + 5


@command("profile", columns=PROFILE, deadline=_deadline)
def profile(seconds: Annotated[float, Between(0.01, 600)]) -> Answer:
    """Sample what all threads but the monitor's do, for some seconds, and show where they were most.

    A thread that waits is counted like one that works; with many of them look at
    the functions that are yours.
    """
    own: Counter[str] = Counter()
    below: Counter[str] = Counter()
    samples, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        ours = {one.ident for one in threading.enumerate() if one.name.startswith(NAME)}
        for ident, frame in sys._current_frames().items():
            if ident not in ours:
                samples += 1
                places = list(_places(frame))
                own[places[0]] += 1
                below.update(set(places))
        time.sleep(SECONDS_BETWEEN_SAMPLES)
    rows: list[dict[str, Value]] = [
        {"place": place, "own": _percent(own[place], samples), "below": _percent(count, samples)}
        for place, count in sorted(below.items(), key=lambda one: (-own[one[0]], -one[1]))[:MOST_SHOWN]
    ]
    return table(PROFILE, rows)


def _places(frame: FrameType | None) -> "list[str]":
    found = []
    while frame is not None:
        code = frame.f_code
        found.append(f"{code.co_qualname} ({code.co_filename}:{code.co_firstlineno})")
        frame = frame.f_back
    return found


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0
