"""What does `zkfleet top` show of two looks at a fleet?

Pure: a look is what servers and monitors said at one time, a frame is made of
two of them, for the rates, and is laid out as tables or as JSON.  Whom to ask
is decided here, too, of the tree; `top` asks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from zkfleet.spelling import spell
from zkfleet.zeo.checking import Limits, complaints
from zkfleet.zeo.described import Described, Standing, described_by, standing_of
from zkfleet.zeo.standby import PRIMARY, SUFFIX
from zkfleet.zeo.status import Row, rate, rows_of, span
from zkfleet.zeo.surveying import Survey

SERVERS = ("", "SERVICE", "SERVER", "STORAGE", "ROLE", "CLIENTS", "COMMITS/S", "CONFLICTS/S", "WAITING", "LOCK", "LAG")
PROCESSES = ("", "MONITOR", "AT", "PID", "UP", "CPU", "MEMORY", "HIT RATE", "READY")
NUMBERS = {"CLIENTS", "COMMITS/S", "CONFLICTS/S", "WAITING", "LAG", "PID", "UP", "CPU", "MEMORY", "HIT RATE"}
Properties = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Process:
    """What the monitor of a process said.

    Attributes:
        path: of the node that tells of it.
        address: where it listens.
        said: the answer of `process`; empty if there is none.
        caches: the rows of `zeoclient`.
        problem: why there is no answer, or what `ready` has to say; "" if all is well.
    """

    path: str
    address: str
    said: Properties = field(default_factory=dict)
    caches: Sequence[Properties] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """What a fleet said at one time.

    Attributes:
        at: when, seconds since 1970.
        surveys: of the ZEO servers, by the path of their service.
        processes: those that have a monitor.
        stale: for how many seconds the registry was out of sight; None if it is not.
    """

    at: float
    surveys: Mapping[str, Survey] = field(default_factory=dict)
    processes: Sequence[Process] = ()
    stale: float | None = None


@dataclass(frozen=True, slots=True)
class ServerLine:
    """One storage of a ZEO server, or a standby: what `zeo status` shows, conflicts a second, and what is wrong."""

    service: str
    row: Row
    conflicts: float | None
    note: str


@dataclass(frozen=True, slots=True)
class ProcessLine:
    """One process: `cpu` is the share of one processor since the look before, `hit_rate` that of its ZEO caches."""

    path: str
    address: str
    pid: int | None
    uptime: float | None
    cpu: float | None
    rss: float | None
    hit_rate: float | None
    problem: str


@dataclass(frozen=True, slots=True)
class Frame:
    """What is shown."""

    at: float
    stale: float | None
    servers: Sequence[ServerLine]
    processes: Sequence[ProcessLine]

    @property
    def well(self) -> bool:
        """Whether nothing is marked."""
        return not any(one.note for one in self.servers) and not any(one.problem for one in self.processes)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


# -- whom to ask


def servers_in(tree: Mapping[str, Properties]) -> dict[str, dict[str, Described]]:
    """Return the ZEO servers that a tree of nodes tells of: by service, and there by address."""
    found: dict[str, dict[str, Described]] = {}
    for path in sorted(tree):
        described, (service, _, name) = described_by(tree[path]), path.rpartition("/")
        # A standby's node has a role as well, and no address.
        if (described.storages or described.role) and ":" in name and not service.endswith(SUFFIX):
            found.setdefault(service, {})[name] = described
    return found


def standing_in(tree: Mapping[str, Properties], service: str) -> list[Standing]:
    """Return what the standbys of a service say, by a tree of nodes."""
    home = f"{service}{SUFFIX}/"
    names = [path.removeprefix(home) for path in sorted(tree) if path.startswith(home)]
    return [standing_of(name, tree[home + name]) for name in names if name != PRIMARY]


# -- what is shown


def frame(now: Look, before: Look | None = None) -> Frame:
    """Return what is shown of a look, with rates if there is one before."""
    earlier = {one.address: one for one in before.processes} if before else {}
    passed = now.at - before.at if before else 0.0
    servers = [
        line
        for service in sorted(now.surveys)
        for line in _servers(service, now.surveys[service], before.surveys.get(service) if before else None)
    ]
    processes = [_process(one, earlier.get(one.address), passed) for one in now.processes]
    return Frame(now.at, now.stale, servers, processes)


def _servers(service: str, now: Survey, before: Survey | None) -> list[ServerLine]:
    return [
        ServerLine(service, row, _conflicts(row, now, before), "; ".join(one.text for one in complaints(row, Limits())))
        for row in rows_of(now, before)
    ]


def _conflicts(row: Row, now: Survey, before: Survey | None) -> float | None:
    answer, earlier = now.answers.get(row.address), before.answers.get(row.address) if before else None
    if not isinstance(answer, Mapping) or row.storage not in answer:
        return None
    said = earlier.get(row.storage) if isinstance(earlier, Mapping) else None
    return rate("conflicts", answer[row.storage], now, said, before)


def _process(one: Process, earlier: Process | None, passed: float) -> ProcessLine:
    cpu = None
    same = earlier is not None and earlier.said.get("pid") == one.said.get("pid")
    if earlier is not None and same and passed > 0:
        grown = _grown(one.said, earlier.said, "cpu")
        cpu = None if grown is None else grown / passed
    return ProcessLine(
        path=one.path,
        address=one.address,
        pid=one.said.get("pid"),
        uptime=_number(one.said, "uptime"),
        cpu=cpu,
        rss=_number(one.said, "rss"),
        hit_rate=hit_rate(one.caches, earlier.caches if earlier is not None and same else ()),
        problem=one.problem,
    )


def hit_rate(now: Sequence[Properties], before: Sequence[Properties]) -> float | None:
    """Return the share of loads that caches answered since the look before; None if there were none.

    A cache that does not count its misses is judged by what was put into it:
    each miss puts one object there.
    """
    earlier = {row.get("database"): row for row in before}
    hits = misses = 0.0
    for row in now:
        old = earlier.get(row.get("database"), {})
        hits += _grown(row, old, "hits") or 0.0
        misses += _grown(row, old, "added" if row.get("misses") is None else "misses") or 0.0
    return hits / (hits + misses) if hits + misses > 0 else None


def _number(said: Properties, name: str) -> float | None:
    value = said.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _grown(now: Properties, before: Properties, name: str) -> float | None:
    """Return how a counter has grown, from 0 if it was not there; None if it began anew."""
    value, old = _number(now, name), _number(before, name) or 0.0
    return None if value is None or value < old else value - old


# -- how it is laid out


def layout(shown: Frame, path: str) -> RenderableType:
    """Return a frame as rich draws it; what others wrote is text, never markup and never more than a line."""
    parts: list[RenderableType] = [_text(headline(shown, path), style="bold")]
    if shown.servers:
        parts += [Text(), _table(SERVERS, [_server_cells(one) for one in shown.servers])]
    if shown.processes:
        parts += [Text(), _table(PROCESSES, [_process_cells(one) for one in shown.processes])]
    if not (shown.servers or shown.processes):
        parts.append(_text(f"no ZEO server and no monitor is registered at or below {path}"))
    notes = [_text(f"! {one.row.address}: {one.note}", style="red") for one in shown.servers if one.note]
    return Group(*parts, *([Text(), *notes] if notes else []))


def headline(shown: Frame, path: str) -> str:
    """Return the sums, in a line."""
    rows = [one.row for one in shown.servers]
    servers = len({row.address for row in rows if row.storage})
    commits = sum(row.commits or 0.0 for row in rows)
    conflicts = sum(one.conflicts or 0.0 for one in shown.servers)
    clients = sum(row.clients or 0 for row in rows)
    said = f"servers {servers}   clients {clients}   commits/s {commits:.1f}   conflicts/s {conflicts:.1f}"
    stale = "" if shown.stale is None else f"   ZooKeeper is out of sight for {span(shown.stale)}"
    return f"{path}   {datetime.fromtimestamp(shown.at):%H:%M:%S}   {said}{stale}"


def _text(words: str, style: str = "") -> Text:
    return Text(spell(words), style=style)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    made = Table(box=None, pad_edge=False, header_style="dim")
    for heading in headings:
        made.add_column(Text(heading), justify="right" if heading in NUMBERS else "left", no_wrap=True)
    for row in rows:
        made.add_row(*map(_text, row), style="red" if row[0] else None)
    return made


def _server_cells(one: ServerLine) -> tuple[str, ...]:
    row = one.row
    held = "" if row.lock_held is None else f"{span(row.lock_held)} {row.lock_holder}".rstrip()
    return (
        "!" if one.note else "",
        one.service or "/",
        row.address,
        row.storage or "-",
        ", ".join(filter(None, (row.role, row.state))) or "-",
        "-" if row.clients is None else str(row.clients),
        _rate(row.commits),
        _rate(one.conflicts),
        "-" if row.waiting is None else str(row.waiting),
        held or "-",
        span(row.lag),
    )


def _process_cells(one: ProcessLine) -> tuple[str, ...]:
    return (
        "!" if one.problem else "",
        one.address,
        one.path.rpartition("/")[0] or "/",
        "-" if one.pid is None else str(one.pid),
        span(one.uptime),
        "-" if one.cpu is None else f"{one.cpu:.0%}",
        "-" if one.rss is None else f"{one.rss / (1 << 20):.0f} MiB",
        "-" if one.hit_rate is None else f"{one.hit_rate:.1%}",
        one.problem or "OK",
    )


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
