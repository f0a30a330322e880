"""zkfleet zeo identify: show the identity of a database, and change it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zkfleet.cli.options import Ensemble, with_ensemble, with_errors, with_format
from zkfleet.cli.output import emit, say
from zkfleet.errors import BadInput, ZkfleetError

if TYPE_CHECKING:
    from zkfleet.zeo.described import Described
    from zkfleet.zeo.identities import Databases, Word

HEADINGS = ("STORAGE", "IDENTITY", "SAID BY")


@click.command("identify")
@click.argument("target", metavar="CONFIG|FILE|PATH")
@click.option("-s", "--storage", default="", metavar="NAME", help="Only this storage.")
@click.option("--set", "given", metavar="IDENTITY", help="Give the data this identity.")
@click.option("--accept", is_flag=True, help="Give the data the identity that the others have.")
@click.option("--new", is_flag=True, help="Give the data a new identity: a copy becomes a database of its own.")
@with_format
@with_ensemble
@with_errors
def identify_command(
    ensemble: Ensemble, target: str, storage: str, given: str | None, accept: bool, new: bool, form: str
) -> None:
    """Show the identity of a database, and change it in the data.

    CONFIG is a ZEO server's configuration, FILE a FileStorage's file, PATH the
    node of a service, of which the registered servers are shown.  Stop the
    server before you change the identity.
    """
    from zkfleet.zeo.identities import accepted, databases_of, new_identity, words_of, write

    if sum((given is not None, accept, new)) > 1:
        raise click.UsageError("--set, --accept and --new exclude each other.")
    changes = given is not None or accept or new
    file = Path(target)
    if not file.is_file():
        if changes or file.exists():
            raise BadInput(f"{target}: no such file", hint="name a server's configuration, or a FileStorage's file")
        emit_words(form, _words_at(target, _registered(ensemble, target), storage))
        return
    found = databases_of(file)
    if changes:
        storage = found.choose(storage)
    names = found.chosen(storage)
    words = [word for name in names for word in words_of(found, name)]
    servers = _of_servers(ensemble, found, names)
    if changes:
        identity = new_identity() if new else accepted([*words, *servers]) if given is None else given
        write(found, storage, identity)
        words = words_of(found, storage)
    emit_words(form, [*words, *servers])


def _registered(ensemble: Ensemble, path: str) -> dict[str, "Described"]:
    from zkfleet.zeo.surveying import registered

    with ensemble.connect() as registry:
        return registered(registry, path)


def _words_at(path: str, servers: dict[str, "Described"], storage: str) -> list["Word"]:
    """Return the identities at the servers of a path; refuse a storage that none of them names."""
    from zkfleet.zeo.identities import words_in

    there = sorted({word.storage for word in words_in(servers)})
    if storage and there and storage not in there:
        raise BadInput(f"{path} has no storage {storage!r}", hint=f"there are: {', '.join(there)}")
    return words_in(servers, storage)


def _of_servers(ensemble: Ensemble, found: "Databases", names: Sequence[str]) -> list["Word"]:
    """Return the identities at the servers of a configuration's paths; warn if ZooKeeper does not answer."""
    from zkfleet.zeo.identities import words_in

    zookeeper = found.settings.zookeeper if found.settings else None
    words: list[Word] = []
    if zookeeper is None:
        return words
    where = ensemble if ensemble.hosts else replace(ensemble, hosts=zookeeper.connection)
    for path, here in zookeeper.places(names).items():
        try:
            servers = _registered(where, path)
        except ZkfleetError as exc:
            say(f"registered servers are not shown: {exc}", err=True)
            break
        words += [word for name in here for word in words_in(servers, name)]
    return words


def emit_words(form: str, words: Sequence["Word"]) -> None:
    """Show the identities, and whether they differ."""
    from zkfleet.zeo.identities import is_of_others

    rows = [HEADINGS, *((word.storage, word.identity or "-", word.by) for word in words)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    emit(form, lines, [dataclasses.asdict(word) for word in words])
    for name in sorted({word.storage for word in words}):
        if len({word.identity for word in words if word.storage == name}) > 1:
            agreed = len({word.identity for word in words if word.storage == name and is_of_others(word)}) == 1
            how = "--accept or --set changes" if agreed else "--set changes"
            say(f"! storage {name!r}: they do not agree; {how} the identity in the data", err=True)
