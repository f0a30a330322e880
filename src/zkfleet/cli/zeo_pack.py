"""zkfleet zeo pack: pack the database of a path, at the server that serves it."""

import dataclasses
from collections.abc import Callable

import click

from zkfleet.cli.options import Ensemble, Seconds, with_ensemble, with_errors, with_format
from zkfleet.cli.output import emit, progress, say
from zkfleet.cli.zeo_options import with_asking
from zkfleet.monitor.wording import shown
from zkfleet.zeo.packer import DAY, Packed, pack
from zkfleet.zeo.surveying import Asking


@click.command("pack")
@click.argument("path")
@click.option(
    "--days",
    type=Seconds(min=0),
    default=0.0,
    metavar="DAYS",
    show_default=True,
    help="Keep what was replaced in the last days.",
)
@click.option("--storage", default="", metavar="NAME", help="Which one; needed if there are several.")
@click.option(
    "--gc/--no-gc",
    default=None,
    help="Whether objects that nothing refers to go, too; else as the storage is configured.",
)
@click.option("--wait", type=Seconds(min=0.1), default=DAY, show_default=True, help="Seconds for the pack.")
@with_format
@with_asking
@with_ensemble
@with_errors
def pack_command(
    ensemble: Ensemble,
    asking: Callable[[float], Asking],
    path: str,
    days: float,
    storage: str,
    gc: bool | None,
    wait: float,
    form: str,
) -> None:
    """Pack the database of the ZEO servers that are registered at PATH.

    The server that writes packs, and the command waits for it.  After --wait
    seconds, or Ctrl-C, the server continues.  --gc and --no-gc need a server of
    zkfleet.
    """
    with ensemble.connect() as registry, progress("packing") as show:
        done = pack(
            registry,
            path,
            storage=storage,
            days=days,
            gc=gc,
            wait=wait,
            how=asking(ensemble.timeout),
            begun=_announce,
            progress=show,
        )
    data = {"path": path, "days": days, "gc": gc, **dataclasses.asdict(done)}
    emit(form, [_in_words(done)], data)


def _announce(server: str, storage: str, size: int) -> None:
    say(f"packing storage {storage} at {server}: {_bytes(size)}", err=True)


def _in_words(done: Packed) -> str:
    after = "not known" if done.size_after is None else _bytes(done.size_after)
    return (
        f"packed storage {done.storage} at {done.server} in {done.seconds:.1f} s: "
        f"{_bytes(done.size_before)} before, {after} after"
    )


def _bytes(number: int) -> str:
    return f"{number:,} bytes ({shown(number, 'bytes')})"
