"""The commands about the monitor itself: help, and how long one stays.

Their answers are those of zc.monitor, to the letter.
"""

import textwrap

from zkfleet.monitor.answers import Answer, Mode, lines
from zkfleet.monitor.asking import find
from zkfleet.monitor.commands import Command, Commands


def add_to(commands: Commands) -> None:
    """Add these commands to a set of them, which is the one that they tell of."""

    @commands.command("help", blocks=False)
    def help_(command: str | None = None) -> Answer:
        """List the commands, or explain one.

        Without an argument all commands are listed, each with a summary; with
        the name of a command everything is shown that is known of it.
        """
        return listed(commands) if command is None else explained(find(commands, command))

    @commands.command("interactive", blocks=False)
    def interactive() -> Answer:
        """Stay connected for more than one command.

        The connection is closed after one command, unless this is the first.
        Then it stays open until `quit`, and an empty line repeats the command
        before it.
        """
        return lines('Interactive mode on.  Use "quit" To exit.', mode=Mode.INTERACTIVE)

    @commands.command("quit", blocks=False)
    def quit_() -> Answer:
        """Close the connection.

        Needed after `interactive`; all other connections are closed anyway.
        """
        return lines("Goodbye.", mode=Mode.QUIT)

    @commands.command("json", blocks=False)
    def json() -> Answer:
        """Answer in JSON: `json COMMAND ...`.

        The answer is one line: an object with the command, whether all is well,
        and the answer itself, or an error and what to do about it.
        """
        return lines("json COMMAND ... answers in JSON")

    @commands.command("told", blocks=False)
    def told() -> Answer:
        """Answer in JSON that holds the text: `told COMMAND ...`.

        For programs that show the text to people: one line, an object with the
        command, whether all is well, and the text, or an error and what to do
        about it.
        """
        return lines("told COMMAND ... answers in JSON that holds the text")


def listed(commands: Commands) -> Answer:
    """Return all commands and their summaries."""
    return lines("Supported commands:", *sorted(f"  {one.name} -- {one.summary}" for one in commands))


def explained(one: Command) -> Answer:
    """Return all that is known of a command."""
    told = [f"Help for {one.name}:", "", *textwrap.indent(one.help, "    ").strip().split("\n")]
    if one.parameters and not one.claims_input:
        told += ["", f"    usage: {one.usage}"]
    return lines(*told, "")
