"""Which commands are there, and how is one called?

A command is a plain function from arguments to an `Answer`.  Its name, its help
and its parameters are declared once, by the decorator, the docstring and the
signature; the line protocol, HTTP and JSON all check what they were given
against that, here.

    @command("objects")
    def objects(number: Annotated[int, Between(1, 1000)] = 20) -> Answer:
        '''Count the objects that there are, by type.'''

What has run before is not known here, and nothing is run.
"""

import inspect
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from zkfleet.errors import BadInput
from zkfleet.monitor.answers import Answer, Column

Says = Answer | str | Iterator[str]
"""What a command's function returns: an answer, a text, or a text in parts."""
Function = TypeVar("Function", bound=Callable[..., Says])


@dataclass(frozen=True, slots=True)
class Between:
    """The smallest and the largest number that an argument may be, in `Annotated[int, Between(1, 100)]`."""

    least: float
    most: float = math.inf


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a command.

    Attributes:
        name: as in the function; in capitals where it is shown.
        kind: `str`, `int`, `float`, or the words to choose from.
        needed: there is no default.
        many: it takes all words that are left.
        between: its bounds, if it is a number.
    """

    name: str
    kind: type[str] | type[int] | type[float] | tuple[str, ...]
    needed: bool
    many: bool = False
    between: Between = Between(-math.inf)

    def __str__(self) -> str:
        shown = "|".join(self.kind) if isinstance(self.kind, tuple) else self.name.upper()
        shown += " ..." if self.many else ""
        return shown if self.needed else f"[{shown}]"

    def read(self, word: str) -> str | int | float:
        """Return the value that a word means.

        Raises:
            BadInput: it means none; nothing is evaluated.
        """
        if isinstance(self.kind, tuple):
            if word not in self.kind:
                raise BadInput(f"{self.name.upper()} is one of {', '.join(self.kind)}, and not {word[:100]!r}")
            return word
        if self.kind is str:
            return word
        try:
            number = float(word) if self.kind is float else int(word)
        except ValueError:
            whole = "a whole number" if self.kind is int else "a number"
            raise BadInput(f"{self.name.upper()} is {whole}, and not {word[:100]!r}") from None
        if not (math.isfinite(number) and self.between.least <= number <= self.between.most):
            most = "" if math.isinf(self.between.most) else f" and at most {self.between.most:g}"
            raise BadInput(f"{self.name.upper()} is at least {self.between.least:g}{most}, and not {word[:100]!r}")
        return number


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        name: how it is called.
        function: what it does.
        help: its first line is a summary, a whole sentence; "" if there is none.
        parameters: its arguments, in order.
        columns: what its answers tell, for pages and metrics; () for text alone.
        blocks: it may wait for something, such as a database: it runs on a thread of its own, with a deadline.
        action: it changes something, and is off unless the monitor enables actions; a function of the
            arguments if it depends on them.
        claims_input: its answers may claim all further lines; it checks its arguments itself.
        deadline: seconds, if not the monitor's own; a function of the arguments if it depends on them.
        metrics: its gauges and counters are metrics; False if it costs too much to be asked every few seconds.
    """

    name: str
    function: Callable[..., Says]
    help: str = ""
    parameters: tuple[Parameter, ...] = ()
    columns: tuple[Column, ...] = ()
    blocks: bool = True
    action: bool | Callable[..., bool] = False
    claims_input: bool = False
    deadline: float | Callable[..., float] | None = None
    metrics: bool = True

    def changes(self, arguments: Sequence[Any]) -> bool:
        """Return whether it changes something, called with these arguments."""
        return self.action if isinstance(self.action, bool) else self.action(*arguments)

    @property
    def summary(self) -> str:
        """The first line of the help, or `?`."""
        return self.help.partition("\n")[0] or "?"

    @property
    def usage(self) -> str:
        """How it is called."""
        return " ".join([self.name, *map(str, self.parameters)])

    def read(self, words: Sequence[str]) -> list[Any]:
        """Return the arguments that words mean.

        Raises:
            BadInput: too few, too many, or one that is none; the hint is the usage.
        """
        needed = sum(parameter.needed for parameter in self.parameters)
        has_many = bool(self.parameters) and self.parameters[-1].many
        if len(words) < needed:
            raise self._wrong(f"{self.parameters[len(words)].name.upper()} is missing")
        if len(words) > len(self.parameters) and not has_many:
            raise self._wrong(f"one word too many: {words[len(self.parameters)][:100]!r}")
        last = self.parameters[-1:] * max(0, len(words) - len(self.parameters))
        try:
            return [one.read(word) for one, word in zip((*self.parameters, *last), words, strict=False)]
        except BadInput as exc:
            raise self._wrong(str(exc)) from None

    def read_named(self, given: Mapping[str, str]) -> list[Any]:
        """Return the arguments that texts by name mean, as HTTP has them; one that takes many is split at blanks.

        Raises:
            BadInput: as `read`; also a name that is none, or one left out before another that is there.
        """
        if unknown := given.keys() - {one.name for one in self.parameters}:
            raise self._wrong(f"there is no {', '.join(sorted(unknown))}")
        words: list[str] = []
        left_out = ""
        for one in self.parameters:
            if one.name not in given:
                left_out = left_out or one.name
            elif left_out:
                raise self._wrong(f"{one.name} needs {left_out} before it")
            else:
                words += given[one.name].split() if one.many else [given[one.name]]
        return self.read(words)

    def seconds(self, arguments: Sequence[Any], otherwise: float) -> float:
        """Return how long it may take."""
        if self.deadline is None:
            return otherwise
        return self.deadline if isinstance(self.deadline, int | float) else self.deadline(*arguments)

    def _wrong(self, what: str) -> BadInput:
        return BadInput(f"{self.name}: {what}", hint=f"usage: {self.usage}")


class Commands:
    """A set of commands, by name; a later one takes the place of an earlier one of the same name."""

    def __init__(self) -> None:
        self._by_name: dict[str, Command] = {}

    def add(self, command: Command) -> None:
        """Add a command."""
        # A new one, in order: who goes through the old one on another thread is not disturbed.
        self._by_name = dict(sorted({**self._by_name, command.name: command}.items()))

    def get(self, name: str) -> Command | None:
        """Return the command of a name, or None."""
        return self._by_name.get(name)

    def __iter__(self) -> Iterator[Command]:
        """Yield all, in the order of their names."""
        return iter(self._by_name.values())

    def command(
        self,
        name: str,
        *,
        columns: Sequence[Column] = (),
        blocks: bool = True,
        action: bool | Callable[..., bool] = False,
        claims_input: bool = False,
        deadline: float | Callable[..., float] | None = None,
        metrics: bool = True,
    ) -> Callable[[Function], Function]:
        """Add the decorated function as a command; arguments as in `Command`.

        Help is its docstring without what follows a line `Args:`, parameters
        are its arguments: `str`, `int`, `float` or `Literal[...]`, any of them
        `| None` or with `Between`.
        """

        def decorate(function: Function) -> Function:
            self.add(
                Command(
                    name,
                    function,
                    inspect.cleandoc(function.__doc__ or "").partition("\n\nArgs:")[0],
                    parameters_of(function),
                    tuple(columns),
                    blocks,
                    action,
                    claims_input,
                    deadline,
                    metrics,
                )
            )
            return function

        return decorate


def parameters_of(function: Callable[..., object]) -> tuple[Parameter, ...]:
    """Return the parameters that a function's signature declares.

    Raises:
        TypeError: one of them is of a type that no word can mean, or by name only.
    """
    hints = get_type_hints(function, include_extras=True)
    return tuple(_parameter(one, hints.get(one.name, str)) for one in inspect.signature(function).parameters.values())


def _parameter(declared: inspect.Parameter, hint: Any) -> Parameter:
    many = declared.kind is declared.VAR_POSITIONAL
    if declared.kind not in (declared.POSITIONAL_ONLY, declared.POSITIONAL_OR_KEYWORD, declared.VAR_POSITIONAL):
        raise TypeError(f"{declared.name}: a command has no arguments by name only")
    kind, between = _kind(hint)
    return Parameter(declared.name, kind, declared.default is declared.empty and not many, many, between)


def _kind(hint: Any) -> tuple[Any, Between]:
    between = Between(-math.inf)
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = [one for one in get_args(hint) if one is not type(None)]
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        between = next((one for one in extras if isinstance(one, Between)), between)
    if get_origin(hint) is Literal:
        return get_args(hint), between
    if hint not in (str, int, float):
        raise TypeError(f"no word can mean a {hint}")
    return hint, between


COMMANDS = Commands()
"""Those of this process."""
command = COMMANDS.command
"""Adds the decorated function to the commands of this process; see `Commands.command`."""
