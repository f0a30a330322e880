"""zkfleet zeo status: a table of the ZEO servers of a path."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Mapping

import click

from zkfleet.cli.options import FAILED, Ensemble, Seconds, with_ensemble, with_errors, with_format
from zkfleet.cli.output import emit, lines_of, say
from zkfleet.cli.zeo_options import with_asking
from zkfleet.zeo.checking import Limits, complaints, strangers
from zkfleet.zeo.described import Described
from zkfleet.zeo.status import Row, rows_of, table
from zkfleet.zeo.surveying import Asking, registered, standing, survey

LONGEST_ASK = 5.0


@click.command("status")
@click.argument("path")
@click.option("-w", "--watch", is_flag=True, help="Show it again and again.")
@click.option("--interval", type=Seconds(min=0), default=1.0, show_default=True, help="Seconds between two asks.")
@with_format
@with_asking
@with_ensemble
@with_errors
def status_command(
    ensemble: Ensemble, asking: Callable[[float], Asking], path: str, watch: bool, interval: float, form: str
) -> None:
    """Show the ZEO servers that are registered at PATH, and how they are.

    Each is asked twice, for the rates; with --interval 0 once.  What is not
    as it should be is marked with ! and said at the end of the line.  Exits
    with 1 if nobody is registered.
    """
    how = asking(min(ensemble.timeout, LONGEST_ASK))
    with ensemble.connect() as registry:
        before = survey(registered(registry, path), how) if interval or watch else None
        way_out = (KeyboardInterrupt,) if watch else ()
        with contextlib.suppress(*way_out):
            while True:
                if before is not None:
                    time.sleep(interval)
                servers = registered(registry, path)
                now = survey(servers, how, standing(registry, path))
                _show(path, servers, rows_of(now, before), form)
                if not watch:
                    break
                sys.stdout.flush()
                before = now
    if not watch and not servers:
        raise SystemExit(FAILED)


def _show(path: str, servers: Mapping[str, Described], rows: list[Row], form: str) -> None:
    if not servers:
        say(f"nobody is registered at {path}", err=True)
    notes = ["; ".join(each.text for each in complaints(row, Limits())) for row in rows]
    said = [dataclasses.asdict(row) | {"note": note} for row, note in zip(rows, notes, strict=True)]
    emit(form, lines_of(table(rows, notes)) if rows else [], said)
    for complaint in strangers(rows):
        say(f"! {complaint.text}", err=True)
