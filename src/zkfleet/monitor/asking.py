"""Which command do these words call, may it be called, and what went wrong?

Pure.  The words are those of a line, or of an URL; what comes of it is a call
that may be made, or a `BadInput` that says what to do instead.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from zkfleet.errors import BadInput
from zkfleet.monitor.answers import Answer, Mode
from zkfleet.monitor.commands import Command, Commands
from zkfleet.monitor.wording import as_json, as_text, error_as_json, error_as_text, told_as_json
from zkfleet.spelling import spell

JSON, TOLD = "json", "told"
"""The words before a command whose answer is to be JSON: the values, or the text and whether all is well."""
MOST_SHOWN = 500


@dataclass(frozen=True, slots=True)
class Call:
    """A command that may be run with these arguments.

    Attributes:
        command: which one.
        arguments: its arguments.
        in_json: the answer is to be JSON.
        told: and that holds the text.
    """

    command: Command
    arguments: tuple[Any, ...]
    in_json: bool = False
    told: bool = False


class Outcome(Enum):
    """What came of a call."""

    ANSWERED = auto()
    REFUSED = auto()
    """The words were wrong."""
    FAILED = auto()
    """The command raised something."""
    LATE = auto()
    """There is no answer, yet."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a call, as it is written to a connection.

    Attributes:
        text: what is written.
        mode: what becomes of the connection; None for what was before.
        outcome: what it is.
        answer: the answer itself, for doors that write it in other ways; None if there is none.
    """

    text: str
    mode: Mode | None = None
    outcome: Outcome = Outcome.ANSWERED
    answer: Answer | None = None


def call(commands: Commands, words: Sequence[str], *, actions: bool) -> Call:
    """Return the call that words mean.

    Args:
        commands: those that there are.
        words: a command and its arguments, perhaps with `json` or `told` before.
        actions: whether those that change something are enabled.

    Raises:
        BadInput: there is no such command, it is off, or the arguments are wrong.
    """
    in_json = _in_json(words)
    name, *rest = words[1:] if in_json else words
    found = find(commands, name)
    if found.action is True:  # said first: what its arguments are is of no use to who may not call it
        allow(found, actions=actions)
    arguments = rest if found.claims_input else found.read(rest)
    allow(found, arguments, actions=actions)
    return Call(found, tuple(arguments), in_json, in_json and words[0] == TOLD)


def _in_json(words: Sequence[str]) -> bool:
    return words[0] in (JSON, TOLD) and len(words) > 1


def naming(words: Sequence[str]) -> Sequence[str]:
    """Return those of a line's words that say what its arguments are for: a command, perhaps with `json` before it."""
    return words[: 2 if _in_json(words) else 1]


def find(commands: Commands, name: str) -> Command:
    """Return the command of a name.

    Raises:
        BadInput: there is none; the nearest ones are named.
    """
    found = commands.get(name)
    if found is None:
        near = difflib.get_close_matches(name[:40], [one.name for one in commands], 3)
        nearest = f"  The nearest: {', '.join(near)}" if near else ""
        raise BadInput(f"Invalid command {name[:100]!r}", hint=f'Try "help".{nearest}')
    return found


def allow(found: Command, arguments: Sequence[Any] = (), *, actions: bool) -> None:
    """Pass a command that may be run with these arguments.

    Raises:
        BadInput: it changes something, and that is not enabled.
    """
    if not actions and found.changes(arguments):
        raise BadInput(f"{found.name}: it changes something, and is off", hint="start the monitor with actions=True")


def reply(call: Call, answer: Answer) -> Reply:
    """Return what is written of an answer."""
    if call.told:
        text = told_as_json(call.command.name, answer)
    else:
        text = as_json(call.command.name, answer) if call.in_json else as_text(answer)
    return Reply(text, answer.mode, answer=answer)


def refusal(words: Sequence[str], error: BadInput) -> Reply:
    """Return what is written to somebody whose words were wrong."""
    if _in_json(words):
        return Reply(error_as_json(words[1], str(error), error.hint), outcome=Outcome.REFUSED)
    return Reply(error_as_text(error), outcome=Outcome.REFUSED)


def failure(call: Call, exc: BaseException, id_: str) -> Reply:
    """Return the one line about an exception in a command, whose traceback is in the log under the id."""
    said = " ".join(str(exc).split())[:MOST_SHOWN]
    return trouble(call, f"{type(exc).__name__}: {said} (error {id_}, the log has more)", Outcome.FAILED)


def trouble(call: Call, message: str, outcome: Outcome) -> Reply:
    """Return the one line that says why there is no answer."""
    name = call.command.name
    return Reply(error_as_json(name, message) if call.in_json else spell(f"{name}: {message}") + "\n", outcome=outcome)
