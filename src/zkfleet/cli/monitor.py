"""zkfleet monitor: ask a running process, or all of a fleet, what it does."""

import contextlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from zkfleet.cli.monitor_options import with_monitors
from zkfleet.cli.options import FAILED, Ensemble, Seconds, report, with_ensemble, with_errors, with_format
from zkfleet.cli.output import emit, lines_of, say
from zkfleet.errors import BadInput, ConnectFailed, TreeState, ZkfleetError
from zkfleet.monitor import Column, found, table
from zkfleet.monitor.answers import Value
from zkfleet.monitor.client import Asking, Told, ask, ask_all, at_once
from zkfleet.monitor.places import UnixPath, place
from zkfleet.monitor.wording import as_text
from zkfleet.spelling import spell

if TYPE_CHECKING:
    from zkfleet.monitor.places import Place

TIMEOUT = 10.0
LISTED = [
    Column("address", "Its socket."),
    Column("pid", "The process id."),
    Column("uptime", "Time since the process was started.", "seconds"),
    Column("command", "How it was started."),
    Column("problem", "Why it does not say so."),
]
LIST = "`zkfleet monitor` lists the monitors of this user"


@click.command("monitor")
@click.argument("words", nargs=-1, metavar="[ADDRESS] [COMMAND]...")
@click.option("--path", metavar="PATH", help="Ask who is registered at or below it; then there is no ADDRESS.")
@click.option("--all", "everybody", is_flag=True, help="All of them, at once.")
@click.option("-w", "--watch", type=Seconds(min=0.1), metavar="SECONDS", help="Ask again and again, so often.")
@with_format
@with_monitors
@partial(with_ensemble, timeout=TIMEOUT)
@with_errors
def monitor_command(
    ensemble: Ensemble,
    asking: Callable[[float], Asking],
    words: tuple[str, ...],
    path: str | None,
    everybody: bool,
    watch: float | None,
    form: str,
) -> None:
    """Ask the monitor of a running process.

    ADDRESS is host:port, the path of a Unix socket, or the id of a process of
    this user.  COMMAND is one of the monitor's: `help` lists them.  Without
    one, they are read from a prompt; without ADDRESS, the monitors of this user are
    listed.  The exit code is 1 if a command failed, or said that something is
    not as it should be.
    """
    how = asking(ensemble.timeout)
    if everybody and path is None:
        raise BadInput("--all is for those below a path", hint="add --path PATH")
    if path is not None:
        with ensemble.connect() as registry:
            _repeat(watch, lambda: _ask_registered(found.below(registry, path), path, words, how, everybody, form))
    elif not words:
        _repeat(watch, lambda: _list(how, form))
    elif len(words) == 1 and watch is None:
        from zkfleet.cli.prompt import converse

        converse(_where(words[0]), how, form)
    else:
        where = _where(words[0])
        _repeat(watch, lambda: show(where, words[1:], how, form))


def _where(address: str) -> "Place":
    if address.isascii() and address.isdigit():
        return UnixPath(found.of_process(int(address)))
    return place(address)


def _repeat(watch: float | None, once: Callable[[], bool]) -> None:
    """Show something once, or again and again until Ctrl-C; exit with 1 if all was not well at last."""
    well = True
    with contextlib.suppress(*((KeyboardInterrupt,) if watch else ())):
        while True:
            begun = time.monotonic()
            well = once()
            if watch is None:
                break
            sys.stdout.flush()
            time.sleep(max(0.0, begun + watch - time.monotonic()))
    if not well:
        raise SystemExit(FAILED)


def asked(where: "Place", words: Sequence[str], how: Asking, *, as_value: bool = False) -> Told:
    """Ask a monitor; arguments and errors as for `client.ask`."""
    try:
        return ask(where, words, how, as_value=as_value)
    except ConnectFailed as exc:
        if isinstance(where, UnixPath):
            exc.hint = LIST
        raise


def show(where: "Place", words: Sequence[str], how: Asking, form: str) -> bool:
    """Ask a monitor and show what it says; tell whether all is well."""
    try:
        told = asked(where, words, how, as_value=form == "json")
    except ZkfleetError as exc:
        report(exc)
        return False
    if told.error:
        report(ZkfleetError(told.error, hint=told.hint))
    else:
        emit(form, lines_of(told.text), told.value)
    return told.ok


def _ask_registered(
    monitors: Sequence[found.Found], path: str, words: Sequence[str], how: Asking, everybody: bool, form: str
) -> bool:
    if not words:
        raise BadInput("no command", hint="name one of the monitor's: `help` lists them")
    if not monitors:
        raise TreeState(f"no monitor is registered at or below {path}", hint="start monitors with registry= and path=")
    if len(monitors) > 1 and not everybody:
        names = ", ".join(one.address for one in monitors[:5]) + (", ..." if len(monitors) > 5 else "")
        raise BadInput(f"{len(monitors)} monitors are registered there: {names}", hint="--all asks all, or name one")
    if not everybody:
        return show(place(monitors[0].address), words, how, form)
    said = ask_all([one.address for one in monitors], words, how, as_value=form == "json")
    emit(form, lines_of(as_table(said)), [_row(one, said[one.address]) for one in monitors])
    return all(isinstance(told, Told) and told.ok for told in said.values())


def _row(one: found.Found, said: Told | ZkfleetError) -> dict[str, Any]:
    row: dict[str, Any] = {"path": one.path, "address": one.address}
    if isinstance(said, ZkfleetError):
        return row | {"ok": False, "error": str(said), "hint": said.hint}
    if said.error:
        return row | {"ok": False, "error": said.error, "hint": said.hint}
    return row | {"ok": said.ok, "answer": said.value}


def as_table(said: Mapping[str, Told | ZkfleetError]) -> str:
    """Return what monitors said as a table, a row for each line; `!` marks those where not all is well."""
    width = max(len(spell(address)) for address in said)
    rows = []
    for address, told in said.items():
        mark = " " if isinstance(told, Told) and told.ok else "!"
        rows += [f"{mark} {spell(address):{width}}  {line}".rstrip() for line in _lines(address, told)]
    return "".join(f"{row}\n" for row in rows)


def _lines(address: str, told: Told | ZkfleetError) -> list[str]:
    if isinstance(told, ZkfleetError):
        return [_without(str(told), address)]
    return lines_of(told.error or told.text) or [""]


def _without(problem: str, address: str) -> str:
    return problem.removeprefix(f"{spell(address)}: ")


def _list(how: Asking, form: str) -> bool:
    """List the monitors of this user, and what they say of their processes."""
    paths = found.of_this_user()
    said = at_once(paths, lambda path: ask(UnixPath(path), ["process"], how, as_value=True), how.timeout)
    listed = table(LISTED, [_process(path, said[path]) for path in paths])
    emit(form, lines_of(as_text(listed)) if paths else [], listed.value())
    if not paths:
        say("this user has no monitors in the runtime directory", err=True)
    return True


def _process(path: str, said: Told | ZkfleetError) -> dict[str, Value]:
    if isinstance(said, ZkfleetError):
        return {"address": path, "problem": _without(str(said), path)}
    told = said.value if isinstance(said.value, Mapping) else {}
    return {"address": path, "problem": said.error, **{name: told.get(name) for name in ("pid", "uptime", "command")}}
