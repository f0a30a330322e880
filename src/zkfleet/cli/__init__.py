"""What can be done from a shell?

The `zkfleet` command, and the only room that prints.  Data goes to stdout, all
else to stderr; errors are one line and a hint.  Each module holds one group of
commands and is loaded when one of them is asked for, so `--help` is quick.

    options, output   what all commands share
    trees             tree import, export, plan, apply, validate, graph
    nodes             show, addresses, get, set, ln, rm, doctor
    run, launcher     run a server and keep it registered: the shell, the decisions
    demo, programs    a fleet to look at
    dev               a ZooKeeper without Java
    zeo               the group of zeo_serve, zeo_status, zeo_check, zeo_identify and zeo_pack; zkzeo-nagios
    monitor, prompt   ask one process, many of them, or one again and again
    certificates, zeo_options, monitor_options    how ZEO servers and monitors are reached by those who ask
    top, frame        a live view of the fleet: the shell, what is shown
"""

from importlib import import_module

import click

import zkfleet
from zkfleet.cli.options import FAILED, report
from zkfleet.errors import MissingDependency

_HOMES = {
    "addresses": "nodes",
    "completion": "options",
    "demo": "demo",
    "dev": "dev",
    "doctor": "nodes",
    "get": "nodes",
    "ln": "nodes",
    "monitor": "monitor",
    "rm": "nodes",
    "run": "run",
    "set": "nodes",
    "show": "nodes",
    "top": "top",
    "tree": "trees",
    "zeo": "zeo",
}
_SUMMARIES = {
    "addresses": "List the addresses that provide a service.",
    "completion": "Print a shell's completion script.",
    "demo": "Run a fleet of ZEO and HTTP servers to look at.",
    "dev": "Run a ZooKeeper for development and tests.",
    "doctor": "Look for what is wrong in the tree.",
    "get": "Print a node's properties.",
    "ln": "Make a link to a node.",
    "monitor": "Ask running processes what they do.",
    "rm": "Delete a node.",
    "run": "Run a server and keep it registered.",
    "set": "Set properties of a node.",
    "show": "Show the tree with its live providers.",
    "top": "Watch the fleet: servers, clients, commits, locks.",
    "tree": "Model the system as a tree of text.",
    "zeo": "Run ZEO servers that their clients find, and look after them.",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names."""
        return sorted(_HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; one whose libraries are not installed is an error with a hint."""
        if cmd_name not in _HOMES:
            return None
        try:
            module = import_module(f"zkfleet.cli.{_HOMES[cmd_name]}")
        except MissingDependency as exc:
            report(exc)
            raise SystemExit(FAILED) from exc
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_SUMMARIES.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(zkfleet.__version__, prog_name="zkfleet")
def main() -> None:
    """Run ZODB and HTTP services as one fleet: servers register in ZooKeeper, clients follow them."""
