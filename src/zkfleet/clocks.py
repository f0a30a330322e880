"""Which clock goes on while the machine sleeps?

ZooKeeper counts a session's time while the machine of its client sleeps.  `time.monotonic` does not, on Linux: after a
night it says that a second has passed.  Whatever rests on a session that may be over goes by this clock.
"""

import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


def since_boot() -> float:
    """Return seconds of a clock that nobody sets and that counts sleep; only differences mean something."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)
