"""zkfleet show, addresses, get, set, ln, rm and doctor: single nodes and what lives there."""

import dataclasses
import sys
import threading
from collections.abc import Callable
from typing import Any

import click

from zkfleet import paths
from zkfleet.cli.options import FAILED, Ensemble, Seconds, with_ensemble, with_errors, with_format
from zkfleet.cli.output import emit, lines_of, say
from zkfleet.endpoints import check_servers
from zkfleet.errors import BadProperties, LinkLoop, NodeNotEmpty, NodeNotFound, WaitTimedOut
from zkfleet.tree import parse_assignments
from zkfleet.tree.model import NODE_LINK

LOOK_AGAIN = 0.2
SYSTEM = {"zookeeper"}
"""ZooKeeper's own node, below / alone."""


def _watch(view: Any, show: Callable[[Any], None]) -> None:
    """Show a view at every change, until Ctrl-C or until nobody reads it any more."""
    unread = threading.Event()

    def show_if_read(view: Any) -> None:
        try:
            show(view)
            sys.stdout.flush()
        except BrokenPipeError:
            unread.set()

    view(show_if_read)
    try:
        while not unread.wait(LOOK_AGAIN):
            pass  # an interrupt that comes just before the wait begins does not end it
    except KeyboardInterrupt:
        say(err=True)
        return
    raise BrokenPipeError


@click.command("show")
@click.argument("path", default="/")
@click.option("-w", "--watch", is_flag=True, help="Show it again whenever it changed.")
@with_format
@with_ensemble
@with_errors
def show_command(ensemble: Ensemble, path: str, watch: bool, form: str) -> None:
    """Show the tree at and below PATH with its live providers."""

    def show(tree: Any) -> None:
        if tree.refused:
            say(f"no read permission: {' '.join(tree.refused)}", err=True)
        if tree.problem is not None:
            say(f"{path} is gone: {tree.problem}", err=True)
            return
        emit(form, lines_of(tree.text), tree.root.as_dict())
        if watch and form == "human":
            say()

    with ensemble.connect() as registry:
        tree = registry.tree(path)
        if watch:
            _watch(tree, show)
        else:
            show(tree)


@click.command("addresses")
@click.argument("path")
@click.option("-w", "--watch", is_flag=True, help="Print them again whenever they changed.")
@click.option("--wait", "wait_for", type=Seconds(min=0), metavar="SECONDS", help="Wait until there is at least one.")
@with_format
@with_ensemble
@with_errors
def addresses_command(ensemble: Ensemble, path: str, watch: bool, wait_for: float | None, form: str) -> None:
    """List the addresses that provide the service at PATH, one a line."""
    from zkfleet.registry.formats import UNKNOWN

    with ensemble.connect() as registry:
        view = registry.providers(path)
        if wait_for is not None:
            try:
                view.wait_until(lambda providers: providers.endpoints, wait_for)
            except WaitTimedOut as exc:
                raise WaitTimedOut(f"nobody provided {path} within {wait_for:g} s") from exc

        def show(view: Any = view) -> None:
            instances = view.instances
            rows = {str(one.endpoint): view[name] for name, one in instances.items() if one.endpoint is not None}
            if not watch and all(one.format == UNKNOWN for one in instances.values()):
                check_servers(path, set(instances) - SYSTEM)
            emit(form, list(rows), rows)
            for name, instance in instances.items():
                if instance.reason and name not in SYSTEM:
                    say(f"! {name} is left out: {instance.reason}", err=True)
            if watch and form == "human":
                say()

        if watch:
            _watch(view, show)
        else:
            show()


@click.command("get")
@click.argument("path")
@click.argument("name", required=False)
@with_format
@with_ensemble
@with_errors
def get_command(ensemble: Ensemble, path: str, name: str | None, form: str) -> None:
    """Print the properties of the node at PATH, property links followed, or the one called NAME."""
    with ensemble.connect() as registry:
        properties = registry.properties(path, watch=False)
        if name is None:
            emit(form, (f"{key} = {properties[key]!r}" for key in sorted(properties)), dict(properties))
        elif name in properties:
            emit(form, [repr(properties[name])], properties[name])
        else:
            raise BadProperties(f"{path} has no property {name!r}", hint=f"it has {', '.join(sorted(properties))}")


@click.command("set")
@click.argument("path")
@click.argument("assignments", nargs=-1, required=True, metavar="NAME=LITERAL...")
@with_ensemble
@with_errors
def set_command(ensemble: Ensemble, path: str, assignments: tuple[str, ...]) -> None:
    """Set properties of the node at PATH; the others stay.  Only a server changes what it has registered.

    Values are Python literals: threads=4 debug=True comment="'some text'"
    """
    values = parse_assignments(assignments)
    with ensemble.connect() as registry:
        properties = registry.properties(path, watch=False)
        properties.update(values)
        for name in values:
            if f"{name}{NODE_LINK}" in properties:
                say(
                    f"warning: {path} also has the node link {name}{NODE_LINK}, which leads where it did:"
                    " `zkfleet ln` changes it",
                    err=True,
                )


@click.command("ln")
@click.argument("source")
@click.argument("destination")
@with_ensemble
@with_errors
def ln_command(ensemble: Ensemble, source: str, destination: str) -> None:
    """Make a node link at DESTINATION that leads to SOURCE."""
    with ensemble.connect() as registry:
        registry.ln(source, destination)
        if (
            not destination.endswith("/")
            and registry.exists(destination)
            and registry.resolve(destination) == destination
        ):
            say(f"warning: {destination} is a node, and hides the link until it is deleted", err=True)
        try:
            registry.resolve(destination + paths.split(source)[1] if destination.endswith("/") else destination)
        except (NodeNotFound, LinkLoop) as exc:
            say(f"warning: the link leads nowhere: {exc}", err=True)


@click.command("rm")
@click.argument("path")
@click.option("-r", "--recursive", is_flag=True, help="Delete what is below, too.")
@click.option("-f", "--force", is_flag=True, help="Delete ephemeral nodes, too.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be deleted.")
@with_format
@with_ensemble
@with_errors
def rm_command(ensemble: Ensemble, path: str, recursive: bool, force: bool, dry_run: bool, form: str) -> None:
    """Delete the node, or the link, at PATH; what a link leads to stays.

    The node of a registered server is kept.  If -f deletes it, the server registers again.
    """
    with ensemble.connect() as registry:
        try:
            wanted = registry.delete_recursive(path, dry_run=True, force=force)
        except NodeNotFound:
            if dry_run or not registry.unlink(path):
                raise
            emit(form, [f"- {path}, a link"], {"deleted": [path], "held": {}})
            return
        if len(wanted.deleted) + len(wanted.held) > 1 and not recursive:
            raise NodeNotEmpty(f"{path} has nodes below it", hint="-r deletes them too; -r -n shows which they are")
        done = wanted if dry_run else registry.delete_recursive(path, force=force)
    emit(form, (f"- {deleted}" for deleted in done.deleted), {"deleted": done.deleted, "held": dict(done.held)})
    for gone in done.ephemeral:
        say(f"warning: {gone} belongs to a live session: a server that is registered registers again", err=True)
    for kept, reason in done.held:
        say(f"! {kept} is kept: {reason}", err=True)
    if done.held:
        say("hint: a server takes its node with it when it ends; -f deletes what is ephemeral, too", err=True)
        raise SystemExit(FAILED)


@click.command("doctor")
@click.argument("path", default="/")
@with_format
@with_ensemble
@with_errors
def doctor_command(ensemble: Ensemble, path: str, form: str) -> None:
    """Look for what is wrong at and below PATH; exit with 1 if something is."""
    with ensemble.connect() as registry:
        found = registry.doctor(path)
    emit(form, map(str, found), [dataclasses.asdict(finding) for finding in found])
    if found:
        raise SystemExit(FAILED)
