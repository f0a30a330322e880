"""zkfleet top: a live view of the fleet, on the whole screen."""

import contextlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from rich.live import Live

from zkfleet.cli.frame import Frame, Look, Process, frame, layout, servers_in, standing_in
from zkfleet.cli.monitor_options import with_monitors
from zkfleet.cli.options import Ensemble, Seconds, with_ensemble, with_errors, with_format
from zkfleet.cli.output import draw, emit_json
from zkfleet.cli.zeo_options import with_asking
from zkfleet.errors import WaitTimedOut, ZkfleetError
from zkfleet.monitor.client import Asking, Told, ask, at_once, reached
from zkfleet.monitor.found import Found, found_in
from zkfleet.spelling import spell
from zkfleet.zeo.surveying import Asking as AskingZeo
from zkfleet.zeo.surveying import Survey, survey

if TYPE_CHECKING:
    from zkfleet.registry import Tree

LONGEST_ASK, SHORTEST_ASK = 5.0, 0.05


@click.command("top")
@click.argument("path", default="/")
@click.option("--once", is_flag=True, help="Show the first frame and end, as it does when stdout is no terminal.")
@click.option("--interval", type=Seconds(min=0.1), default=2.0, show_default=True, help="Seconds between two frames.")
@with_format
@with_asking
@with_monitors
@with_ensemble
@with_errors
def top_command(
    ensemble: Ensemble,
    monitors: Callable[[float], Asking],
    zeo: Callable[[float], AskingZeo],
    path: str,
    once: bool,
    interval: float,
    form: str,
) -> None:
    """Watch the fleet at and below PATH: ZEO servers, and processes that have a monitor.

    For each server it shows clients, commits and conflicts a second, who holds
    the commit lock and who waits for it; for each process the share of a
    processor, memory, the hit rate of its ZEO caches, and whether it is ready.
    Ctrl-C ends it.  What is not as it should be is marked with !.
    """
    seconds = min(ensemble.timeout, LONGEST_ASK)
    with ensemble.connect() as registry, contextlib.closing(registry.tree(path)) as tree:
        look = partial(look_at, tree, zeo(seconds), monitors(seconds))
        if once or form == "json" or not sys.stdout.isatty():
            before = look()
            time.sleep(min(interval, 1.0))
            _print(frame(look(), before), path, form)
        else:
            _go_on(look, path, interval)


def _print(shown: Frame, path: str, form: str) -> None:
    if form == "json":
        emit_json(shown.as_dict())
    else:
        show(shown, path)


def show(shown: Frame, path: str) -> None:
    """Print a frame."""
    draw(layout(shown, path))


def _go_on(look: Callable[[], Look], path: str, interval: float) -> None:
    before = None
    with contextlib.suppress(KeyboardInterrupt), Live(screen=True, auto_refresh=False) as live:
        while True:
            now = look()
            live.update(layout(frame(now, before), path), refresh=True)
            time.sleep(interval if before else min(interval, 1.0))
            before = now


def look_at(tree: "Tree", zeo: AskingZeo, monitors: Asking) -> Look:
    """Ask everybody that a tree tells of, all at once; blocks for the timeout of those at most."""
    nodes, at = dict(tree), time.time()
    stale = None if tree.stale_since is None else at - tree.stale_since
    with ThreadPoolExecutor(2) as both:
        surveys = both.submit(_survey, nodes, zeo)
        processes = both.submit(_processes, found_in(nodes), monitors)
    return Look(at, surveys.result(), processes.result(), stale)


def _survey(nodes: Mapping[str, Mapping[str, Any]], how: AskingZeo) -> dict[str, Survey]:
    services = servers_in(nodes)
    everybody = survey({name: said for servers in services.values() for name, said in servers.items()}, how)
    return {
        service: Survey(
            {name: everybody.answers[name] for name in servers}, servers, everybody.at, standing_in(nodes, service)
        )
        for service, servers in services.items()
    }


def _processes(monitors: Sequence[Found], how: Asking) -> list[Process]:
    by_address = {one.address: one for one in monitors}
    said = at_once(by_address, lambda address: _process(by_address[address], how), how.timeout)
    return [_found_or_not(one, said[one.address]) for one in monitors]


def _found_or_not(one: Found, said: Process | ZkfleetError) -> Process:
    if isinstance(said, Process):
        return said
    return Process(one.path, one.address, problem=str(said).removeprefix(f"{spell(one.address)}: "))


def _process(one: Found, how: Asking) -> Process:
    where, end = reached(one.address), time.monotonic() + how.timeout
    told = ask(where, ["process"], how, as_value=True)
    if told.error:
        return Process(one.path, one.address, problem=told.error)

    # What hangs, such as a check that reads from a ZEO server that is frozen, takes nothing from what was said before.
    def say(command: str) -> Told:
        left = max(SHORTEST_ASK, end - time.monotonic())
        try:
            return ask(where, [command], replace(how, timeout=left), as_value=True)
        except WaitTimedOut:
            return Told(False, error=f"{command}: no answer within {how.timeout:g} s")

    caches = say("zeoclient").value
    ready = say("ready")
    return Process(
        one.path,
        one.address,
        said=told.value if isinstance(told.value, Mapping) else {},
        caches=[row for row in caches if isinstance(row, Mapping)] if isinstance(caches, list) else [],
        problem=ready.error or _not_ready(ready),
    )


def _not_ready(told: Told) -> str:
    """Return what is missing, in a line."""
    if told.ok:
        return ""
    rows = told.value if isinstance(told.value, list) else []
    reasons = [
        f"{row.get('check')}: {row.get('reason')}" for row in rows if isinstance(row, Mapping) and not row.get("ok")
    ]
    return "; ".join(reasons) or "it is not ready"
