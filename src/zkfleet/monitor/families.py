"""What are a command's numbers called as metrics?

Pure.  A column that is a gauge or a counter is one metric, named after the
command and the column, with its unit: `zkfleet_process_rss_bytes`,
`zkfleet_gc_collections_total`.  The columns that are labels are its labels.
"""

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from zkfleet.errors import BadInput, MissingDependency
from zkfleet.monitor.answers import Answer, Column, Kind, Value
from zkfleet.monitor.commands import Command
from zkfleet.spelling import spell

try:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
except ImportError as exc:
    raise MissingDependency("metrics stand on prometheus-client", hint="pip install 'zkfleet[monitor]'") from exc

PREFIX = "zkfleet"
NUMBERS = (Kind.GAUGE, Kind.COUNTER)
Family = GaugeMetricFamily | CounterMetricFamily


def is_told(command: Command) -> bool:
    """Tell whether a command's numbers are metrics: it can be asked without arguments, changes nothing, has some."""
    has_numbers = any(column.kind in NUMBERS for column in command.columns)
    return command.metrics and has_numbers and not command.action and not any(one.needed for one in command.parameters)


def told(commands: Iterable[Command]) -> list[Command]:
    """Return those of which metrics tell."""
    return [command for command in commands if is_told(command)]


def families(command: Command, answer: Answer | None = None) -> list[Family]:
    """Return the metrics of a command.

    Args:
        command: whose they are.
        answer: what it said; None for their names alone.

    Raises:
        BadInput: two rows of the answer have the same labels.
    """
    columns = command.columns if answer is None else answer.columns
    labels = [at for at, column in enumerate(columns) if column.kind is Kind.LABEL]
    rows = () if answer is None else answer.rows
    keys = [[_label(row[at]) for at in labels] for row in rows]
    if len({tuple(key) for key in keys}) < len(keys):
        raise BadInput(f"{command.name}: two rows have the same labels", hint="give it a label, or metrics=False")
    return [
        _family(command.name, columns, at, labels, zip(keys, rows, strict=True))
        for at, column in enumerate(columns)
        if column.kind in NUMBERS
    ]


def _family(
    command: str,
    columns: tuple[Column, ...],
    at: int,
    labels: list[int],
    rows: Iterator[tuple[list[str], tuple[Value, ...]]],
) -> Family:
    column = columns[at]
    kind: Any = CounterMetricFamily if column.kind is Kind.COUNTER else GaugeMetricFamily
    name = f"{PREFIX}_{_word(command)}_{_word(column.name)}"
    made: Family = kind(name, column.help, labels=[_word(columns[one].name) for one in labels], unit=column.unit)
    for key, row in rows:
        number = row[at]
        if isinstance(number, int | float) and not math.isnan(number):
            made.add_metric(key, float(number))
    return made


def _word(name: str) -> str:
    return re.sub(r"\W", "_", name, flags=re.ASCII)


def _label(value: Value) -> str:
    # A line end is escaped where labels are written, and there alone.
    return "" if value is None else "\n".join(map(spell, str(value).split("\n")))
