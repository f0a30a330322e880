"""zkfleet tree: import, export, plan, apply, validate and graph."""

import sys
from pathlib import Path

import click

from zkfleet.cli.options import CHANGES_WAIT, FAILED, Ensemble, with_ensemble, with_errors, with_format
from zkfleet.cli.output import as_json, emit, emit_plan, emit_text, progress
from zkfleet.errors import BadInput
from zkfleet.tree import Plan, make_graph, parse, validate

_FILE = click.Path(dir_okay=False, allow_dash=True)
_TEXT = click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
_PATH = click.argument("path", default="/")
_TRIM = click.option(
    "--trim/--no-trim",
    default=None,
    help="Delete, or silently keep, nodes that the text leaves out below its own; else they are listed.",
)
_ACL = click.option("--acl", metavar="ACL", help="For all nodes: scheme:id:permissions,...")


def read_text(file: str) -> tuple[str, str]:
    """Return a file's text and its name for messages."""
    data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    name = "<stdin>" if file == "-" else file
    try:
        return data.decode("utf-8-sig"), name
    except UnicodeDecodeError as exc:
        raise BadInput(f"{name}: no UTF-8 at byte {exc.start}", hint="save it as UTF-8") from exc


@click.group("tree")
def tree_command() -> None:
    """Model the system as a tree of text."""


@tree_command.command("import")
@_TEXT
@_PATH
@_TRIM
@_ACL
@click.option("-n", "--dry-run", is_flag=True, help="Only show what would change.")
@with_format
@with_ensemble
@with_errors
def import_command(
    ensemble: Ensemble, file: str, path: str, trim: bool | None, acl: str | None, dry_run: bool, form: str
) -> None:
    """Make the nodes below PATH be as FILE (- for stdin) says."""
    text, source = read_text(file)
    with ensemble.connect() as registry, progress("importing") as show:
        plan = registry.import_tree(text, path, trim=trim, acl=acl, dry_run=dry_run, source=source, progress=show)
    emit_plan(form, str(plan), plan.to_json())


@tree_command.command("export")
@_PATH
@click.option("-e", "--ephemeral", is_flag=True, help="Include ephemeral nodes.")
@click.option("--name", help="For the top node, instead of its own.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write to this file.")
@with_format
@with_ensemble
@with_errors
def export_command(
    ensemble: Ensemble, path: str, ephemeral: bool, name: str | None, output: str | None, form: str
) -> None:
    """Print the nodes at and below PATH as text, or as JSON."""
    with ensemble.connect() as registry, progress("exporting") as show:
        text = registry.export_tree(path, ephemeral=ephemeral, name=name, progress=show)
    if form == "json":
        text = as_json(parse(text).as_dict())
    if output:
        Path(output).write_text(text, encoding="utf-8")
    else:
        emit_text(text)


@tree_command.command("plan")
@_TEXT
@_PATH
@_TRIM
@_ACL
@click.option("--save", type=click.Path(dir_okay=False), help="Keep the plan in this file, for `tree apply`.")
@click.option("--check", is_flag=True, help="Exit with 10 if there are changes.")
@with_format
@with_ensemble
@with_errors
def plan_command(
    ensemble: Ensemble,
    file: str,
    path: str,
    trim: bool | None,
    acl: str | None,
    save: str | None,
    check: bool,
    form: str,
) -> None:
    """Show what importing FILE would change."""
    text, source = read_text(file)
    with ensemble.connect() as registry:
        plan = registry.plan_tree(text, path, trim=trim, acl=acl, source=source)
    emit_plan(form, str(plan), plan.to_json())
    if save:
        Path(save).write_text(plan.to_json(), encoding="utf-8")
    if check and plan.changes:
        raise SystemExit(CHANGES_WAIT)


@tree_command.command("apply")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--inverse", is_flag=True, help="Undo it, if nothing changed since.")
@with_format
@with_ensemble
@with_errors
def apply_command(ensemble: Ensemble, file: str, inverse: bool, form: str) -> None:
    """Carry out a plan that `tree plan --save` kept."""
    plan = Plan.from_json(read_text(file)[0])
    plan = plan.inverse() if inverse else plan
    with ensemble.connect() as registry, progress("applying") as show:
        registry.apply_plan(plan, progress=show)
    emit_plan(form, str(plan), plan.to_json())


@tree_command.command("validate")
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, allow_dash=True))
@with_format
@with_errors
def validate_command(files: tuple[str, ...], form: str) -> None:
    """Say what is wrong with FILES, links included; no server is asked."""
    problems = [problem for file in files for problem in validate(*read_text(file))]
    rows = [
        {"source": p.source, "line": p.line, "column": p.column, "found": p.found, "remedy": p.remedy} for p in problems
    ]
    emit(form, map(str, problems), rows)
    if problems:
        raise SystemExit(FAILED)


@tree_command.command("graph")
@click.argument("source")
@click.option("--as", "kind", type=click.Choice(["dot", "mermaid", "svg"]), default="dot", show_default=True)
@with_ensemble
@with_errors
def graph_command(ensemble: Ensemble, source: str, kind: str) -> None:
    """Draw the services and links of SOURCE: a file, - for stdin, or a path in the ensemble."""
    if source.startswith("/") and not Path(source).is_file():
        with ensemble.connect() as registry:
            # The text of the top node has no place for its own links.
            root = registry.tree("/").root if source == "/" else parse(registry.export_tree(source))
    else:
        root = parse(*read_text(source))
    graph = make_graph(root)
    emit_text({"dot": graph.dot, "mermaid": graph.mermaid, "svg": graph.svg}[kind]())
