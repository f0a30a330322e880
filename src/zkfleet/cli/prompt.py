"""The prompt of `zkfleet monitor ADDRESS`: one command after another, with completion and history.

Each is a connection of its own, so the process may be restarted meanwhile.
What is no terminal is read the same way: a file of commands.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from zkfleet.cli.monitor import asked, show
from zkfleet.cli.options import FAILED
from zkfleet.cli.output import lines_of, say
from zkfleet.monitor.client import Asking

if TYPE_CHECKING:
    from zkfleet.monitor.places import Place

HISTORY = 1000
LEAVE = ("quit", "exit")


def converse(where: "Place", how: Asking, form: str) -> None:
    """Read commands and show their answers, until the end; exit with 1 if it is no terminal and one failed."""
    names = command_names(where, how)
    if sys.stdin.isatty():
        with _editing(names):
            for words in typed(lambda: input(f"{where}> ")):
                show(where, words, how, form)
        return
    well = [show(where, words, how, form) for words in typed(_next_line)]
    if not all(well):
        raise SystemExit(FAILED)


def command_names(where: "Place", how: Asking) -> list[str]:
    """Return the commands that a monitor has; raises as `asked`."""
    told = asked(where, ["help"], how)
    return [line.split()[0] for line in lines_of(told.text) if " -- " in line]


def _next_line() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


def typed(read: Callable[[], str]) -> Iterator[list[str]]:
    """Yield the words of each line, until `quit` or the end; an empty line is the one before it again."""
    last: list[str] = []
    while True:
        try:
            words = read().split()
        except EOFError:
            return
        except KeyboardInterrupt:  # the line is given up, as in a shell
            say()
            continue
        last = words or last
        if last and last[0] in LEAVE:
            return
        if last:
            yield last


def completions(names: list[str], text: str, begin: int, line: str) -> list[str]:
    """Return what a word may be: a command at the beginning of a line, or behind `help` and `json`."""
    before = line[:begin].split()
    return [f"{name} " for name in names if name.startswith(text)] if before in ([], ["help"], ["json"]) else []


@contextlib.contextmanager
def _editing(names: list[str]) -> Iterator[None]:
    """Complete commands, and keep the history."""
    try:
        import readline
    except ImportError:  # this Python was built without it
        yield
        return

    def complete(text: str, number: int) -> str | None:
        found = completions(names, text, readline.get_begidx(), readline.get_line_buffer())
        return found[number] if number < len(found) else None

    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")
    readline.set_history_length(HISTORY)
    file = history_file()
    with contextlib.suppress(OSError):
        readline.read_history_file(file)
    try:
        yield
    finally:
        say(err=True)
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            readline.write_history_file(file)  # which makes it this user's alone
        except OSError as exc:
            say(f"warning: the history was not kept: {exc}", err=True)


def history_file() -> Path:
    """Return where the history is kept."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(home) / "zkfleet" / "monitor_history"
