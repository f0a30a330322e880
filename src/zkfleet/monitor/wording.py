"""How is an answer written for people, and for programs?

Text is for somebody with `nc` in a terminal: one thing is a line for each field,
many are a table.  JSON is one line, the same from every door.
"""

import json

from zkfleet.errors import ZkfleetError
from zkfleet.monitor.answers import Answer, Column, Value
from zkfleet.spelling import spell, spell_json, spell_lines

SIZES = ["bytes", "KiB", "MiB", "GiB", "TiB"]


def as_text(answer: Answer) -> str:
    """Return an answer as lines of text."""
    if answer.text is not None:
        return spell_lines(answer.text)
    if answer.single:
        return _record(answer)
    return _table(answer)


def as_json(command: str, answer: Answer) -> str:
    """Return an answer as one line of JSON."""
    return _line({"command": command, "ok": answer.ok, "answer": answer.value()})


def told_as_json(command: str, answer: Answer) -> str:
    """Return an answer's text as one line of JSON, for programs that show it to people."""
    return _line({"command": command, "ok": answer.ok, "text": as_text(answer)})


def error_as_json(command: str, message: str, hint: str = "") -> str:
    """Return what went wrong as one line of JSON."""
    return _line({"command": command, "ok": False, "error": message, "hint": hint})


def error_as_text(error: ZkfleetError) -> str:
    """Return what a caller did wrong, and below it what to do about it."""
    return f"{error}\n{error.hint}\n" if error.hint else f"{error}\n"


def _line(value: Value) -> str:
    # What is no number in JSON is nothing, rather than an answer that no parser takes.
    return spell_json(json.dumps(_without_nan(value), separators=(",", ":"), ensure_ascii=False)) + "\n"


def _without_nan(value: Value) -> Value:
    if isinstance(value, float) and value - value != 0:  # neither inf nor nan minus itself is 0
        return None
    if isinstance(value, dict):
        return {str(key): _without_nan(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(below) for below in value]
    return value


def _record(answer: Answer) -> str:
    width = max(len(column.name) for column in answer.columns)
    pairs = zip(answer.columns, answer.rows[0], strict=True)
    return "".join(f"{column.name:{width}}  {shown(value, column.unit)}\n" for column, value in pairs)


def _table(answer: Answer) -> str:
    heads = [column.name for column in answer.columns]
    cells = [[shown(value, column.unit) for column, value in _pairs(answer, row)] for row in answer.rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    to_the_right = [
        all(isinstance(row[place], int | float | None) for row in answer.rows) for place in range(len(heads))
    ]
    return "".join(_aligned(line, widths, to_the_right) for line in [heads, *cells])


def _pairs(answer: Answer, row: tuple[Value, ...]) -> list[tuple[Column, Value]]:
    return list(zip(answer.columns, row, strict=True))


def _aligned(cells: list[str], widths: list[int], to_the_right: list[bool]) -> str:
    padded = [
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, to_the_right, strict=True)
    ]
    return "  ".join(padded).rstrip() + "\n"


def shown(value: Value, unit: str = "") -> str:
    """Return a value as people read it, in a line."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int() | float() if unit == "bytes":
            return _size(value)
        case float():
            return f"{value:.3f}".rstrip("0").rstrip(".") + _unit(unit)
        case int():
            return f"{value}{_unit(unit)}"
        case str():
            return spell(value)
        case dict():
            return ", ".join(f"{spell(str(key))} {shown(below)}" for key, below in value.items()) or "-"
    assert isinstance(value, list | tuple)
    return ", ".join(shown(below) for below in value) or "-"


def _unit(unit: str) -> str:
    return {"": "", "seconds": " s"}.get(unit, f" {unit}")


def _size(number: float) -> str:
    for unit in SIZES:
        if abs(number) < 1024 or unit == SIZES[-1]:
            break
        number /= 1024
    return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
