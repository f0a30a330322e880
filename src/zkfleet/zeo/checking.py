"""Is anything wrong with the ZEO servers of a path, by the rules of Nagios plugins?

One line, a level that is the exit code, and metrics of the names that
`zeo-nagios` gives them.  Pure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from zkfleet.errors import ZkfleetError
from zkfleet.spelling import spell
from zkfleet.zeo.asking import Said
from zkfleet.zeo.status import EMPTY, NO_STORAGES, STANDBY, Row, rate, rows_of, span
from zkfleet.zeo.surveying import Survey

GAUGES = {"active_txns": "active", "connections": "connections", "waiting": "waiting"}
COUNTERS = ("aborts", "commits", "conflicts", "conflicts_resolved", "loads", "stores")
PER = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86400.0}


class Level(IntEnum):
    """How bad it is: a Nagios plugin's exit code."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


BY_WEIGHT = (Level.OK, Level.WARNING, Level.UNKNOWN, Level.CRITICAL)


@dataclass(frozen=True, slots=True)
class Limits:
    """What is warned of.

    Attributes:
        lag: seconds that a server's last transaction may be older than the newest.
        lock: seconds that the commit lock may be held.
        waiting: transactions that may wait for it.
    """

    lag: float = 60.0
    lock: float = 30.0
    waiting: int = 10


@dataclass(frozen=True, slots=True)
class Complaint:
    """Something that is not as it should be."""

    level: Level
    text: str


def complaints(row: Row, limits: Limits) -> list[Complaint]:
    """Return what is wrong with one storage of one server, the worst first."""
    if row.problem:
        return [Complaint(Level.WARNING if row.problem == NO_STORAGES else Level.CRITICAL, row.problem)]
    found = []
    if row.locked_by:
        found.append(f"the storage's file is another process's: {row.locked_by}")
    if row.last == EMPTY:
        found.append(f"Empty storage {row.storage!r}")
    if row.lock_held is not None and row.lock_held > limits.lock:
        by = f" by {row.lock_holder}" if row.lock_holder else ""
        found.append(f"commit lock held for {span(row.lock_held)}{by}")
    if row.waiting is not None and row.waiting > limits.waiting:
        found.append(f"{row.waiting} transactions wait for the commit lock")
    if row.lag is not None and row.lag > limits.lag:
        found.append(f"{span(row.lag)} behind the newest")
    return [Complaint(Level.WARNING, text) for text in found]


def strangers(rows: Sequence[Row]) -> list[Complaint]:
    """Return a complaint for every storage that is another database on another server."""
    found = []
    for name in sorted({row.storage for row in rows}):
        by_identity = {row.database: row.address for row in rows if row.storage == name and row.database}
        if len(by_identity) > 1:
            said = ", ".join(f"{database} at {address}" for database, address in sorted(by_identity.items()))
            found.append(Complaint(Level.CRITICAL, f"different databases are storage {name!r}: {said}"))
    return found


def judge(survey: Survey, limits: Limits) -> tuple[Level, str]:
    """Return how bad things are, and the line that says so."""
    rows = rows_of(survey)
    if not survey.answers:
        why = [f"{row.address}: {each.text}" for row in rows for each in complaints(row, limits)]
        return Level.CRITICAL, "; ".join([", ".join(["nobody is registered", *_standbys(rows)]), *why])
    several = len(survey.answers) > 1 or len(rows) > 1
    found = strangers(rows)
    for row in rows:
        where = f"{row.address} {row.storage}".strip() + ": " if several or row.problem else ""
        found += [Complaint(each.level, where + each.text) for each in complaints(row, limits)]
    found.sort(key=lambda each: -BY_WEIGHT.index(each.level))
    if found:
        return found[0].level, "; ".join(each.text for each in found)
    ages = [row.age for row in rows if row.age is not None]
    clients = sum(row.clients or 0 for row in rows)
    said = [f"servers {len(survey.answers)}", *_standbys(rows), f"clients {clients}"]
    return Level.OK, f"{', '.join(said)}, last transaction {span(min(ages))} ago"


def _standbys(rows: Sequence[Row]) -> list[str]:
    number = sum(row.role == STANDBY for row in rows)
    return [f"standbys {number}"] if number else []


def metrics(survey: Survey, before: Survey | None, per: str) -> list[str]:
    """Return `label=value` of gauges, and of counters' rates in a unit of time if there is a survey before."""
    return [
        f"{_label(name, storage, address if len(survey.answers) > 1 else '')}={value}"
        for address, answer in sorted(survey.answers.items())
        if not isinstance(answer, ZkfleetError)
        for storage, said in sorted(answer.items())
        for name, value in _values(said, survey, _said(before, address, storage), before, PER[per])
    ]


def _said(survey: Survey | None, address: str, storage: str) -> Said | None:
    answer = survey.answers.get(address) if survey else None
    return None if answer is None or isinstance(answer, ZkfleetError) else answer.get(storage)


def _values(
    said: Said, now: Survey, earlier: Said | None, before: Survey | None, per: float
) -> Iterator[tuple[str, float]]:
    for name, ours in GAUGES.items():
        yield name, getattr(said, ours)
    for name in COUNTERS:
        grown = rate(name, said, now, earlier, before)
        if grown is not None:
            yield name, grown * per


def _label(name: str, storage: str, address: str) -> str:
    label = ":".join(part for part in (address, "" if storage == "1" else storage, name) if part)
    label = spell(label).replace("=", "_").replace("'", "''")
    return f"'{label}'" if any(character in label for character in " '") else label


def report(level: Level, line: str, values: Sequence[str] = ()) -> str:
    """Return a plugin's output: the line, and metrics behind bars, the first on the same line."""
    first = spell(f"{level.name}: {line}".replace("|", "/").replace("\n", " "))
    if not values:
        return first + "\n"
    rest = "\n| " + "\n ".join(values[1:]) if values[1:] else ""
    return f"{first}|{values[0]}{rest}\n"
