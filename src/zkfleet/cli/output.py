"""In which form does an answer go to the terminal?"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from zkfleet.errors import BadInput

if TYPE_CHECKING:
    from zkfleet.registry.reads import Progress

_COLOURS = {"+": "green", "-": "red", "~": "yellow", "!": "magenta"}
PROGRESS_AFTER = 1.0


def emit(form: str, human: str, data: Any) -> None:
    """Write an answer to stdout, for people or as one JSON document."""
    click.echo(as_json(data) if form == "json" else human, nl=False)


def as_json(data: Any) -> str:
    """Return a JSON document; raises `BadInput` if it would be too deep for readers, and for us."""
    try:
        return json.dumps(data, indent=2, default=str) + "\n"
    except RecursionError:
        raise BadInput("this is nested too deeply for JSON", hint="leave --format json out") from None


def emit_plan(form: str, text: str, as_json: str) -> None:
    """Write a plan to stdout; its marks are coloured on a terminal."""
    if form == "json":
        click.echo(as_json, nl=False)
        return
    for line in text.splitlines():
        click.secho(line, fg=_COLOURS.get(line.lstrip()[:1]))


@contextmanager
def progress(title: str) -> "Iterator[Progress | None]":
    """Yield a function that shows how far we are, on a terminal and after a second."""
    if not sys.stderr.isatty():
        yield None
        return
    import time

    from rich.console import Console
    from rich.progress import Progress as Bar

    begun = time.monotonic()
    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, visible=False)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=time.monotonic() - begun > PROGRESS_AFTER)

        yield show
