"""How are the calls of this process doing?

`zkfleet.calls` counts them; here they are told.  A process that makes none is
not made to load it.
"""

import sys

from zkfleet.monitor.answers import Answer, Column, Kind, Value, fields
from zkfleet.monitor.commands import command

CALLS = [
    Column("in_flight", "Calls that have a connection now.", kind=Kind.GAUGE),
    Column("queued", "Calls that wait for one.", kind=Kind.GAUGE),
    Column("calls", "Calls that are over, well or not.", kind=Kind.COUNTER),
    Column("failed", "Those of them that ended with an error.", kind=Kind.COUNTER),
    Column("attempts", "Tries that they needed.", kind=Kind.COUNTER),
    Column("conflicts", "Errors that were worth another try.", kind=Kind.COUNTER),
    Column("conflicts_by_class", "The same, by the name of their class."),
    Column("disconnect_waits", "Waits for a database to be connected again.", kind=Kind.COUNTER),
    Column("outcomes_unknown", "Commits of which it is not known whether they happened.", kind=Kind.COUNTER),
    Column("total", "Time that all calls took, from asking to result.", "seconds", Kind.COUNTER),
    Column("median", "Half of the last thousand took less.", "seconds", Kind.GAUGE),
    Column("p95", "95 % of them took less.", "seconds", Kind.GAUGE),
    Column("p99", "99 % of them took less.", "seconds", Kind.GAUGE),
    Column("longest", "What the slowest of all took.", "seconds", Kind.GAUGE),
]
COUNTED = ("in_flight", "queued", "calls", "failed", "attempts", "disconnect_waits", "outcomes_unknown")
TIMED = ("total", "median", "p95", "p99", "longest")


@command("calls", columns=CALLS)
def calls() -> Answer:
    """Show how the calls of this process are doing, of all doors and databases."""
    if "zkfleet.calls" not in sys.modules:
        return fields(CALLS, {}, text="this process does not use zkfleet.calls\n")
    from zkfleet.calls import statistics

    said = statistics()
    values: dict[str, Value] = {name: getattr(said, name) for name in COUNTED}
    values |= {name: round(getattr(said.latencies, name), 6) for name in TIMED}
    conflicts = dict(said.conflicts)
    return fields(CALLS, values | {"conflicts": sum(conflicts.values()), "conflicts_by_class": conflicts})
