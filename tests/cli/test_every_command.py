"""Every command that takes `-z` works with `dev:`; a new one must be told here how it is called."""

import click
import pytest
from click.testing import CliRunner

from zkfleet.cli import main

TREE = "/svc : http\n  threads = 3\n  /providers\n/lb\n  providers -> /svc/providers\n"
# What each is called with on the tree above, and what stands in the answer.
CALLS = {
    "addresses": (["/svc/providers"], ""),
    "doctor": ([], ""),
    "get": (["/svc", "threads"], "3\n"),
    "ln": (["/svc", "/lb/service"], ""),
    "rm": (["-r", "/lb"], "- /lb\n"),
    "set": (["/svc", "threads=4"], ""),
    "show": ([], "threads = 3"),
    "top": (["--once"], "no ZEO server and no monitor"),
    "tree apply": (["PLAN"], "+ /more"),
    "tree export": ([], "/lb\n  providers -> /svc/providers\n"),
    "tree graph": (["/"], '"/lb" -> "/svc/providers"'),
    "tree import": (["FILE"], "nothing to change"),
    "tree plan": (["FILE"], "nothing to change"),
}
# Those that start processes have tests of their own: tests/end_to_end/test_demo.py and test_dev.py;
# those that look at ZEO servers are called below: there are none; monitors are asked in test_monitor.py.
ELSEWHERE = {"demo", "monitor", "run", "zeo check", "zeo identify", "zeo pack", "zeo status"}


def commands(group=main, *names):
    """All commands of a group, and of the groups in it, by their names."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)
        else:
            yield " ".join((*names, name)), command


def takes_an_ensemble(command):
    return any("-z" in parameter.opts for parameter in command.params)


def test_every_command_that_takes_an_ensemble_is_called_here():
    assert {name for name, command in commands() if takes_an_ensemble(command)} == CALLS.keys() | ELSEWHERE


@pytest.fixture
def call(tmp_path):
    """Runs a command with `-z dev:`, in this process, so that all have the same server."""
    files = {"FILE": tmp_path / "fleet.tree", "PLAN": tmp_path / "plan"}
    files["FILE"].write_text(TREE)

    def run(name, *arguments):
        words = [str(files.get(word, word)) for word in (*name.split(), *arguments)]
        done = CliRunner().invoke(main, [*words, "-z", "dev:"])
        assert (done.exit_code, done.stderr) == (0, ""), (name, done.output)
        return done.stdout

    run("tree import", "FILE")
    more = tmp_path / "more.tree"
    more.write_text("/more\n")
    run("tree plan", str(more), "--save", "PLAN")
    return run


@pytest.mark.parametrize("name", CALLS)
def test_it_works_on_a_dev_server_of_its_own(call, name):
    arguments, answer = CALLS[name]
    assert answer in call(name, *arguments)


def test_zeo_servers_that_are_not_there_are_told(call):
    done = CliRunner().invoke(main, ["zeo", "check", "/svc/providers", "-z", "dev:"])
    assert (done.exit_code, done.stdout.partition(":")[0]) == (2, "CRITICAL")
    done = CliRunner().invoke(main, ["zeo", "status", "/svc/providers", "-z", "dev:"])
    assert "/svc/providers" in done.output
