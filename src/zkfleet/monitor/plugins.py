"""How do plugins of zc.monitor become commands?

They take a connection to write to, and words; what they return may be one of
three markers that say what becomes of the connection.

    plugins.register(hello, "hi")

An adapter as thin as it can be: what was written is the answer.  It runs on a
thread of its own like any command that may block, so a plugin that was written
for zc.monitor's one thread must not count on being alone.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from zkfleet.monitor.answers import Answer, Mode
from zkfleet.monitor.commands import COMMANDS, Command, Commands, Parameter

INTERACTIVE_MARKER = Mode.INTERACTIVE
QUIT_MARKER = Mode.QUIT
MORE_MARKER = Mode.MORE
MOST_WRITTEN = 64 << 20
Plugin = Callable[..., Any]


class Output:
    """What a plugin writes to; `print(..., file=connection)` works."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._size = 0

    def write(self, text: str | bytes) -> None:
        """Write a text.

        Raises:
            OSError: it is longer than any answer, as if the client had gone.
        """
        shown = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
        self._size += len(shown)
        if self._size > MOST_WRITTEN:
            raise OSError(f"a plugin wrote more than {MOST_WRITTEN} bytes")
        self._parts.append(shown)

    def writelines(self, texts: Iterator[str | bytes]) -> None:
        """Write texts, one after another."""
        for text in texts:
            self.write(text)

    def flush(self) -> None:
        """Nothing: it is sent when the plugin returns."""

    def text(self) -> str:
        """Return all that was written."""
        return "".join(self._parts)


def register(plugin: Plugin, name: str | None = None, *, commands: Commands = COMMANDS) -> None:
    """Add a plugin as a command; its own name is the default."""
    commands.add(as_command(plugin, name or plugin.__name__))


def as_command(plugin: Plugin, name: str) -> Command:
    """Return a plugin as a command."""

    def run(*words: str) -> Answer:
        output = Output()
        mode = plugin(output, *words)
        return Answer(text=output.text(), mode=mode if isinstance(mode, Mode) else None)

    words = Parameter("arguments", str, needed=False, many=True)
    # Any of them may claim the input, and only it knows what its words mean.
    return Command(name, run, inspect.cleandoc(plugin.__doc__ or ""), (words,), claims_input=True)
