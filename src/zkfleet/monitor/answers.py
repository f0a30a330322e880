"""What does a command say, before anybody has chosen how it is written?

An `Answer` is a value: columns that say what is told, in which unit, and rows
that tell it.  Text, JSON and metrics are made of it (`wording`, and the HTTP
door), so a command is written once.  A command whose text is fixed to the
letter gives that, too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from zkfleet.spelling import spell

Value = str | int | float | bool | None | Sequence["Value"] | Mapping[str, "Value"]
"""What JSON can hold."""


class Mode(Enum):
    """What becomes of a connection after a command."""

    QUIT = auto()
    """It is closed; so are all, unless a command says otherwise."""
    INTERACTIVE = auto()
    """It takes more commands."""
    MORE = auto()
    """All further lines are arguments of this command, until it says otherwise."""


class Kind(Enum):
    """What a column is to somebody who draws curves."""

    TEXT = auto()
    """Nothing: it is read by people and programs."""
    LABEL = auto()
    """It tells one row's curve from another's."""
    GAUGE = auto()
    """A number that goes up and down."""
    COUNTER = auto()
    """A number that only grows while the process lives."""


@dataclass(frozen=True, slots=True)
class Column:
    """One thing that is told.

    Attributes:
        name: in words with underscores, without the unit; a key in JSON.
        help: what it means, a whole sentence.
        unit: "bytes", "seconds", or "" for a plain number or a text.
        kind: what it is as a metric.
    """

    name: str
    help: str
    unit: str = ""
    kind: Kind = Kind.TEXT


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command says; make it with `lines`, `fields` or `table`.

    Attributes:
        columns: what is told; () if there is nothing but text.
        rows: the values, in the order of the columns.
        single: it is one thing and not a list of them; there is one row.
        text: how it is written for people, to the letter; None to have it made of the rows.
        mode: what becomes of the connection; None for what was before.
        ok: False if it says that something is not as it should be, such as `ready`.
    """

    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[Value, ...], ...] = ()
    single: bool = False
    text: str | None = None
    mode: Mode | None = None
    ok: bool = True

    def value(self) -> Value:
        """Return what JSON shows: an object, a list of them, or a list of lines."""
        if not self.columns:
            return (self.text or "").splitlines()
        names = [column.name for column in self.columns]
        found = [dict(zip(names, row, strict=True)) for row in self.rows]
        return found[0] if self.single else found


def lines(*texts: str, ok: bool = True, mode: Mode | None = None) -> Answer:
    """Return an answer that is text alone, a line of each."""
    return Answer(text=lines_of(texts), ok=ok, mode=mode)


def lines_of(texts: Iterable[str]) -> str:
    """Return a line of each text, for the `text` of an answer; tabs may line up what is in it."""
    return "".join("\t".join(map(spell, text.split("\t"))) + "\n" for text in texts)


def fields(
    columns: Sequence[Column], values: Mapping[str, Value], *, text: str | None = None, ok: bool = True
) -> Answer:
    """Return an answer about one thing.

    Args:
        columns: what is told.
        values: by the columns' names; one that is missing is None.
        text: as in `Answer`.
        ok: as in `Answer`.
    """
    return Answer(tuple(columns), (_row(columns, values),), single=True, text=text, ok=ok)


def table(
    columns: Sequence[Column], rows: Iterable[Mapping[str, Value]], *, text: str | None = None, ok: bool = True
) -> Answer:
    """Return an answer about any number of things of a kind; arguments as for `fields`."""
    return Answer(tuple(columns), tuple(_row(columns, row) for row in rows), text=text, ok=ok)


def _row(columns: Sequence[Column], values: Mapping[str, Value]) -> tuple[Value, ...]:
    if unknown := values.keys() - {column.name for column in columns}:
        raise KeyError(f"no such columns: {', '.join(sorted(unknown))}")
    return tuple(values.get(column.name) for column in columns)
