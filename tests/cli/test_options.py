import logging
import subprocess
import sys

import pytest
from click.testing import CliRunner

from zkfleet.cli import main

LOGGING = """
import click, logging
from zkfleet.cli.options import with_errors

@click.command()
@with_errors
def command():
    logging.getLogger("zkfleet.registry").warning("ours")
    logging.getLogger("zkfleet.registry").error("our error")
    logging.getLogger("zkfleets").warning("theirs")

command()
"""


@pytest.mark.slow
def test_what_we_warn_of_is_shown_to_those_who_debug():
    def shown(*arguments):
        done = subprocess.run([sys.executable, "-c", LOGGING, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout == ""
        return [line.rpartition(": ")[2] for line in done.stderr.splitlines()]

    assert shown() == ["our error", "theirs"]
    assert shown("--debug") == ["ours", "our error", "theirs"]


@pytest.mark.parametrize("more", [[], ["--debug"]])
def test_a_command_leaves_the_loggers_of_its_process_alone(more):
    loggers = [logging.getLogger(name) for name in (None, "zkfleet", "kazoo")]
    before = [(one.level, list(one.handlers)) for one in loggers]
    CliRunner().invoke(main, ["tree", "validate", "-", *more], input="/a\n")
    assert [(one.level, one.handlers) for one in loggers] == before


def test_what_is_no_number_of_seconds_is_told_so():
    done = CliRunner().invoke(main, ["show", "--timeout", "x"])
    assert "'x' is no number of seconds." in done.stderr
