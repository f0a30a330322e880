"""zkfleet zeo check, and zkzeo-nagios: ZEO servers checked by the rules of Nagios plugins.

Nothing here ends with an exit code that means something else: wrong usage, a
ZooKeeper that is not there and a fault of ours are UNKNOWN, with the reason.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any, NoReturn

import click

from zkfleet.cli.options import Command, Ensemble, Seconds, with_ensemble
from zkfleet.cli.output import emit_text
from zkfleet.cli.zeo_options import with_asking
from zkfleet.endpoints import parse_endpoint
from zkfleet.errors import BadAddress, BadInput, TreeState, ZkfleetError
from zkfleet.zeo.checking import BY_WEIGHT, PER, Level, Limits, judge, metrics, report
from zkfleet.zeo.described import Described, Standing
from zkfleet.zeo.earlier import load, save
from zkfleet.zeo.surveying import Asking, Survey, registered, standing, survey

TIMEOUT = 10.0
UNIX = "unix:"
_DEFAULTS = Limits()
_CHECKING = (
    click.option("-m", "--output-metrics", is_flag=True, help="Say metrics, too."),
    click.option("-s", "--status-path", metavar="FILE", help="Keep the last status here, for metrics that are rates."),
    click.option(
        "-u", "--time-units", type=click.Choice(list(PER)), default="minutes", show_default=True, help="Of rates."
    ),
    click.option("-M", "--zc-monitor-address", metavar="ADDRESS", help="Check only the server that has this monitor."),
    click.option(
        "--lag", type=Seconds(min=0), default=_DEFAULTS.lag, show_default=True, help="Seconds behind the newest."
    ),
    click.option(
        "--lock", type=Seconds(min=0), default=_DEFAULTS.lock, show_default=True, help="Seconds of a lock held."
    ),
    click.option(
        "--waiting", type=click.IntRange(min=0), default=_DEFAULTS.waiting, show_default=True, help="For the lock."
    ),
)


class WrongUsage(click.UsageError):
    """A plugin's wrong usage, which is not CRITICAL; a monitoring system reads the reason on stdout."""

    exit_code = int(Level.UNKNOWN)

    def show(self, file: IO[Any] | None = None) -> None:
        """Write a line, with the usage in it; people find the usual words on stderr."""
        super().show(file)
        usage = self.ctx.get_usage().removeprefix("Usage: ") if self.ctx else ""
        _write(report(Level.UNKNOWN, f"wrong usage: {self.format_message()} Usage: {' '.join(usage.split())}"))


class Plugin(click.Command):
    """A command whose wrong usage is UNKNOWN."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as exc:
            raise WrongUsage(exc.format_message(), exc.ctx) from None


def with_checking(function: Command) -> Command:
    """Give a command the options of a check."""
    for option in reversed(_CHECKING):
        function = option(function)
    return function


@click.command("check", cls=Plugin)
@click.argument("target", metavar="PATH|HOST:PORT|unix:FILE")
@with_checking
@with_asking
@partial(with_ensemble, timeout=TIMEOUT)
def check_command(ensemble: Ensemble, asking: Callable[[float], Asking], target: str, **options: Any) -> NoReturn:
    """Check the ZEO servers that are registered at PATH, or a single one.

    A Nagios plugin: exits with 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
    """
    _end(ensemble, asking, target, options)


@click.command("zkzeo-nagios", cls=Plugin)
@click.argument("zookeeper_connection_string")
@click.argument("path")
@click.option("--timeout", type=Seconds(min=0.1), default=TIMEOUT, show_default=True, help="Seconds, for everything.")
@with_checking
@with_asking
def nagios(
    asking: Callable[[float], Asking], zookeeper_connection_string: str, path: str, timeout: float, **options: Any
) -> NoReturn:
    """Check the ZEO servers that are registered at PATH: `zkfleet zeo check` by its old name."""
    _end(Ensemble(zookeeper_connection_string, timeout, False, (), None, None, None, None), asking, path, options)


def _end(ensemble: Ensemble, asking: Callable[[float], Asking], target: str, options: dict[str, Any]) -> NoReturn:
    """Check, print and exit, all within the timeout."""
    for name in ("zkfleet", "kazoo"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    import zkfleet.registry  # noqa: F401  before the time runs: it takes a second on a busy machine

    said: list[tuple[Level, str]] = []
    deadline = time.monotonic() + ensemble.timeout
    # Left alone if it takes too long, wherever it hangs.
    check = threading.Thread(
        target=lambda: said.append(_checked(ensemble, asking, target, deadline, options)), daemon=True
    )
    check.start()
    check.join(ensemble.timeout)
    if not said:
        said.append((Level.UNKNOWN, report(Level.UNKNOWN, f"{target}: not checked within {ensemble.timeout:g} s")))
    level, text = said[0]
    _write(text)
    raise SystemExit(int(level))


def _write(text: str) -> None:
    """Write a plugin's answer; whether or not anybody reads it, the exit code is to tell the level."""
    try:
        emit_text(text)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):  # it is closed; so Python would fail once more at the exit
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  it is open as long as the process


def _checked(
    ensemble: Ensemble, asking: Callable[[float], Asking], target: str, deadline: float, options: dict[str, Any]
) -> tuple[Level, str]:
    try:
        return _check(ensemble, asking, target, deadline, **options)
    except ZkfleetError as exc:
        level = Level.CRITICAL if isinstance(exc, TreeState) else Level.UNKNOWN
        return level, report(level, str(exc))
    except Exception as exc:  # a fault of ours says nothing of the servers, and must not look like a warning
        return Level.UNKNOWN, report(Level.UNKNOWN, f"{type(exc).__name__}: {exc}")


def _check(
    ensemble: Ensemble,
    asking: Callable[[float], Asking],
    target: str,
    deadline: float,
    *,
    output_metrics: bool,
    status_path: str | None,
    time_units: str,
    zc_monitor_address: str | None,
    lag: float,
    lock: float,
    waiting: int,
) -> tuple[Level, str]:
    others: list[Standing] = []
    if zc_monitor_address and not target.startswith("/"):
        raise BadInput(f"{target}: a monitor is found by the path of its server", hint="leave -M out")
    if target.startswith("/"):
        # Sooner than all is over, so that there is time to say why: kazoo may take 0.7 s more than it is given.
        with replace(ensemble, timeout=max(ensemble.timeout * 0.8 - 0.7, ensemble.timeout * 0.3)).connect() as registry:
            servers, others = registered(registry, target), standing(registry, target)
        if zc_monitor_address:
            servers, others = _of_monitor(zc_monitor_address, target, servers), []
    else:
        servers = {_single(target): Described()}
    found = survey(servers, asking(max(0.1, (deadline - time.monotonic()) * 0.9)), others)
    level, line = judge(found, Limits(lag, lock, waiting))
    values: list[str] = []
    if output_metrics:
        try:
            values = _metrics(found, status_path, time_units)
        except (OSError, ZkfleetError) as exc:
            level, line = max(level, Level.UNKNOWN, key=BY_WEIGHT.index), f"{line}; {exc}"
    return level, report(level, line, values)


def _single(target: str) -> str:
    """Return the address of a single server.

    Raises:
        BadAddress: it is none, or has no port.
    """
    if target.startswith(UNIX):
        return os.path.abspath(target.removeprefix(UNIX))
    if not parse_endpoint(target).port:
        raise BadAddress(f"{target}: nobody listens on port 0", hint="give the port that the server got")
    return target


def _metrics(found: Survey, status_path: str | None, time_units: str) -> list[str]:
    if status_path is None:
        return metrics(found, None, time_units)
    file = Path(status_path)
    values = metrics(found, load(file), time_units)
    save(file, found)
    return values


def _of_monitor(address: str, path: str, servers: Mapping[str, Described]) -> dict[str, Described]:
    """Return the servers at a path whose nodes name a monitor.

    Raises:
        BadInput: there is none.
    """
    found = {name: said for name, said in servers.items() if said.monitor == address}
    if not found:
        known = ", ".join(sorted({said.monitor for said in servers.values() if said.monitor})) or "none"
        raise BadInput(
            f"no server at {path} says that its monitor is {address}: {known}",
            hint="one on a Unix-domain socket is not in the tree: check HOST:PORT instead",
        )
    return found


def nagios_main() -> None:
    """Run `zkzeo-nagios`."""
    nagios(prog_name="zkzeo-nagios")
