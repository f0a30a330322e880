"""zkfleet zeo serve: a ZEO server that registers itself."""

import click

from zkfleet.cli.options import FAILED, report
from zkfleet.errors import BadInput, ZkfleetError

WRONG_USAGE = 2


@click.command("serve")
@click.option("-C", "--configure", metavar="FILE", help="ZEO's configuration, with a <zookeeper> section.")
@click.option("-a", "--address", metavar="ADDRESS", help="Listen at PORT, HOST:PORT or PATH.")
@click.option("-f", "--filename", "files", multiple=True, metavar="FILE", help="Serve this FileStorage.")
@click.option("-t", "--timeout", metavar="SECONDS", help="How long a client may hold the commit lock.")
@click.option("--pid-file", metavar="PATH", help="Write the process id to this file.")
@click.option("-X", "overrides", multiple=True, metavar="SECTION/KEY=VALUE", help="Set this in the configuration.")
def serve_command(
    configure: str | None,
    address: str | None,
    files: tuple[str, ...],
    timeout: str | None,
    pid_file: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Run a ZEO server, and keep it registered in ZooKeeper.

    SIGTERM and SIGINT take it out of ZooKeeper and let commits under way
    finish; a second one ends it now.  SIGHUP does the same and exits with 1,
    SIGUSR2 opens the log files anew.
    """
    once = {"-C": configure, "-a": address, "-t": timeout, "--pid-file": pid_file}
    arguments = [part for name, value in once.items() if value is not None for part in (name, value)]
    arguments += [part for file in files for part in ("-f", file)]
    arguments += [part for override in overrides for part in ("-X", override)]
    try:
        raise SystemExit(_serve(arguments))
    except BadInput as exc:
        # Starting it again would not help, and 2 tells zdaemon so.
        report(exc)
        raise SystemExit(WRONG_USAGE) from exc
    except (ZkfleetError, OSError) as exc:
        report(exc)
        raise SystemExit(FAILED) from exc


def _serve(arguments: list[str]) -> int:
    from zkfleet.zeo.runner import Runner, options_of

    return Runner(options_of(arguments)).run()
