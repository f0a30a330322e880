"""In which form does an answer go to the terminal?

The only module that writes there.  Whatever a line shows, it is one line, and
text of others does nothing to the terminal: it is spelled here.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from zkfleet.errors import BadInput
from zkfleet.spelling import spell

if TYPE_CHECKING:
    from rich.console import RenderableType

    from zkfleet.registry.reads import Progress

_COLOURS = {"+": "green", "-": "red", "~": "yellow", "!": "magenta"}
PROGRESS_AFTER = 1.0
WIDTH_OF_A_PIPE = 200


def say(line: str = "", *, err: bool = False, **style: Any) -> None:
    """Write a line to stdout, or to stderr; `style` as for `click.style`."""
    click.secho(spell(line), err=err, **style)


def emit(form: str, human: list[str] | Iterator[str], data: Any) -> None:
    """Write an answer to stdout: a line of each text for people, or one JSON document."""
    if form == "json":
        emit_json(data)
        return
    click.echo("".join(f"{spell(line)}\n" for line in human), nl=False)


def emit_json(data: Any) -> None:
    """Write a JSON document to stdout; its texts are escaped."""
    click.echo(as_json(data), nl=False)


def emit_text(text: str) -> None:
    """Write a text of several lines to stdout, of a writer that lets no text of others begin a line."""
    emit("human", lines_of(text), None)


def lines_of(text: str) -> list[str]:
    """Return the lines of a text; other marks that `splitlines` knows end none."""
    return text.removesuffix("\n").split("\n") if text else []


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
    for line in lines_of(text):
        say(line, fg=_COLOURS.get(line.lstrip()[:1]))


def draw(drawing: "RenderableType") -> None:
    """Write what rich draws to stdout; the texts in it are spelled by who made it, for here its colours stay."""
    from rich.console import Console

    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDTH_OF_A_PIPE)
    with console.capture() as captured:
        console.print(drawing, soft_wrap=True)
    click.echo("".join(f"{line.rstrip()}\n" for line in lines_of(captured.get())), nl=False)


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
