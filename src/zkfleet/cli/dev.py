"""zkfleet dev: a ZooKeeper for development and tests, as long as the command runs."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import click

from zkfleet.cli.options import Seconds, on_signals, with_errors
from zkfleet.cli.output import say
from zkfleet.devserver import DevServer
from zkfleet.endpoints import is_loopback, is_wildcard

LOOK_AGAIN = 0.2


@click.command("dev")
@click.option("--port", type=click.IntRange(0, 65535), default=2181, show_default=True, help="0 for any that is free.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; 0.0.0.0 or :: for all.")
@click.option("--tree", metavar="FILE", help="Import this text at the start (- for stdin).")
@click.option("--data", type=click.Path(dir_okay=False, path_type=Path), help="Keep everything in this file, too.")
@click.option("--tick", type=Seconds(min=0.01), default=2.0, show_default=True, help="Seconds; sessions end with one.")
@click.option(
    "--session-timeout",
    "timeouts",
    nargs=2,
    type=Seconds(min=0.01),
    metavar="MIN MAX",
    help="Seconds that are granted to sessions; else 2 and 20 ticks.",
)
@with_errors
def dev_command(
    port: int, host: str, tree: str | None, data: Path | None, tick: float, timeouts: tuple[float, float] | None
) -> None:
    """Run a ZooKeeper for development and tests: in memory, without Java, not for production.

    Its connection string, for this machine, is written to stdout once it answers.
    The tree is imported before it listens.
    """
    if not is_loopback(host):
        where = "this machine" if is_wildcard(host) else host
        say(f"warning: whoever reaches {where} can read and change everything", err=True)
    prepare = None if tree is None else _importing(tree)
    server = DevServer(port, host=host, data=data, tick=tick, session_timeouts=timeouts)
    with server.start(prepare):
        kept = f"kept in {data} between runs" if data else "gone when it ends"
        say(
            f"A ZooKeeper for development and tests, not for production.  Its data are in memory, and {kept}.", err=True
        )
        ended: list[int] = []
        on_signals((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), lambda number, _frame: ended.append(number))
        say(server.hosts)
        while not ended:
            time.sleep(LOOK_AGAIN)  # an Event has a lock, which a signal in the middle of `wait` finds taken


def _importing(file: str) -> Callable[[str], None]:
    """Return what imports a file, whose text is read and checked already."""
    from zkfleet.cli.trees import read_text
    from zkfleet.registry import connect
    from zkfleet.tree import parse

    text, source = read_text(file)
    parse(text, source=source)

    def prepare(hosts: str) -> None:
        with connect(hosts) as registry:
            registry.import_tree(text, source=source)

    return prepare
