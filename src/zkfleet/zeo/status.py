"""How are the ZEO servers of a path?

A row for each storage of each registered server and for each standby, and the table of them.  Pure:
`surveying` asks.  For how long somebody holds the commit lock is by the clock of
the server; who it is only our own servers say.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from persistent.TimeStamp import TimeStamp

from zkfleet.errors import ZkfleetError
from zkfleet.spelling import spell
from zkfleet.zeo.asking import Answer, Said
from zkfleet.zeo.described import Described, Standing
from zkfleet.zeo.duty import State
from zkfleet.zeo.packs import under_way
from zkfleet.zeo.surveying import Survey

EMPTY = "0" * 16
NO_STORAGES = "No storages"
STANDBY = "standby"
PACKING = "packing"
HEADINGS = (
    "ADDRESS",
    "STORAGE",
    "ROLE",
    "CLIENTS",
    "COMMITS/S",
    "LOCK HELD",
    "WAITING",
    "LAST",
    "AGE",
    "LAG",
    "LOCK HOLDER",
)
UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


@dataclass(frozen=True, slots=True)
class Row:
    """One storage of one server, or one standby; None is what is not known.

    Attributes:
        address: of the server; of a standby, its name.
        storage: the storage's name; "" for a server that did not answer.
        role: by its node; `standby` for one that does not serve.
        state: of a standby: `waiting`, `opening`, `blocked` or `draining`; of a storage: `packing`.
        in_state: for how many seconds.
        database: the storage's identity, by its node, or "".
        clients: that are connected.
        commits: a second, since the survey before.
        lock_held: seconds, if somebody holds the commit lock.
        lock_holder: who, its address and its transaction's user and description; "" if that is not known.
        waiting: transactions that wait for it.
        last: the last transaction, 16 hex digits.
        age: seconds since that.
        lag: seconds from it to the newest of that storage on any server.
        locked_by: the process that has the storage's file, of a standby that is blocked.
        problem: why there is no more.
    """

    address: str
    storage: str = ""
    role: str = ""
    database: str = ""
    clients: int | None = None
    commits: float | None = None
    lock_held: float | None = None
    waiting: int | None = None
    last: str = ""
    age: float | None = None
    lag: float | None = None
    state: str = ""
    in_state: float | None = None
    locked_by: str = ""
    lock_holder: str = ""
    problem: str = ""


def rows_of(now: Survey, before: Survey | None = None) -> list[Row]:
    """Return the rows of a survey: servers by their addresses, with rates if there is one before, and standbys."""
    newest: dict[str, float] = {}
    for answer in now.answers.values():
        if not isinstance(answer, ZkfleetError):
            for name, said in answer.items():
                newest[name] = max(newest.get(name, 0.0), seconds(said.last))
    found = [row for address in sorted(now.answers) for row in _rows(address, now, before, newest)]
    # The one that serves is registered, and has a row.
    return found + [_of_standby(one, now.at) for one in now.standing if one.state != State.SERVING.value]


def _of_standby(one: Standing, at: float) -> Row:
    in_state = None if one.since is None else max(0.0, at - one.since)
    return Row(one.name, role=STANDBY, state=one.state, in_state=in_state, locked_by=one.locked_by)


def _rows(address: str, now: Survey, before: Survey | None, newest: Mapping[str, float]) -> Iterator[Row]:
    described, answer = now.described.get(address, Described()), now.answers[address]
    role = _role(described)
    if isinstance(answer, ZkfleetError):
        yield Row(address, role=role, problem=str(answer).removeprefix(f"{spell(address)}: "))
        return
    names = described.storages or tuple(sorted(answer))
    if not names:
        yield Row(address, role=role, problem=NO_STORAGES)
    for name in names:
        said = answer.get(name)
        if said is None:
            yield Row(address, name, role, problem=f"it serves no storage {name!r}, and its node says that it does")
            continue
        at, pack = seconds(said.last), under_way(said.pack)
        yield Row(
            address,
            name,
            role,
            described.databases.get(name, ""),
            clients=said.connections,
            commits=rate("commits", said, now, _earlier(address, name, before), before),
            state=PACKING if pack else "",
            in_state=max(0.0, now.at - pack.began) if pack else None,
            lock_held=None if said.locked_at is None else max(0.0, now.at - said.locked_at),
            lock_holder=said.lock_holder,
            waiting=said.waiting,
            last=said.last,
            age=None if said.last == EMPTY else max(0.0, now.at - at),
            lag=None if said.last == EMPTY else newest[name] - at,
        )


def _role(described: Described) -> str:
    return ", ".join(part for part in (described.role, "read-only" if described.read_only else "") if part)


def _earlier(address: str, name: str, before: Survey | None) -> Said | None:
    answer: Answer | ZkfleetError | None = before.answers.get(address) if before else None
    return answer.get(name) if isinstance(answer, Mapping) else None


def rate(counter: str, said: Said, now: Survey, earlier: Said | None, before: Survey | None) -> float | None:
    """Return a counter's growth a second; None if it began anew, or time stood still."""
    if earlier is None or before is None or earlier.started != said.started or now.at <= before.at:
        return None
    return float(getattr(said, counter) - getattr(earlier, counter)) / (now.at - before.at)


def seconds(tid: str) -> float:
    """Return when a transaction was, in seconds since 1970; 0 for none."""
    return 0.0 if tid == EMPTY else float(TimeStamp(bytes.fromhex(tid)).timeTime())


def table(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """Return the rows as text; those with a note are marked with `!`, and it is written behind them."""
    marked = [("!" if note else "", *map(spell, _cells(row))) for row, note in zip(rows, notes, strict=True)]
    cells = [("", *HEADINGS), *marked]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    return "".join(f"{line}  {spell(note)}".rstrip() + "\n" for line, note in zip(lines, ("", *notes), strict=True))


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.address,
        row.storage or "-",
        ", ".join(filter(None, (row.role, row.state))) or "-",
        "-" if row.clients is None else str(row.clients),
        "-" if row.commits is None else f"{row.commits:.1f}",
        span(row.lock_held),
        "-" if row.waiting is None else str(row.waiting),
        row.last or "-",
        span(row.age),
        span(row.lag),
        row.lock_holder or "-",
    )


def span(length: float | None) -> str:
    """Return a length of time for people."""
    if length is None:
        return "-"
    for unit, name in UNITS:
        if length >= 2 * unit:
            return f"{length / unit:.1f} {name}"
    return f"{length:.1f} s"
