"""What do all commands have in common?

The options that say which ensemble and in which form to answer, the one place
where errors become a line, a hint and an exit code, and which signals are heard.
"""

import functools
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import get_completion_class

from zkfleet.cli.output import emit_text, say
from zkfleet.errors import BadAuth, BadHosts, BadInput, WaitTimedOut, ZkfleetError
from zkfleet.spelling import spell_record

if TYPE_CHECKING:
    from zkfleet.registry import Registry

Command = TypeVar("Command", bound=Callable[..., Any])
FAILED, CHANGES_WAIT = 1, 10
DEV = "dev:"


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Which ensemble was asked for, and how to reach it."""

    hosts: str | None
    timeout: float
    keep_trying: bool
    auth: tuple[str, ...]
    sasl: str | None
    ca: str | None
    certificate: str | None
    key: str | None
    jute_maxbuffer: int | None = None

    def connect(self) -> "Registry":
        """Open a session."""
        from zkfleet.registry import connect

        return connect(self._chosen(), timeout=self.timeout, wait=self.keep_trying, **self._options())

    def check(self) -> None:
        """See that the options are right, without asking anybody."""
        from zkfleet.registry.connecting import check_options

        check_options(self._chosen(), **self._options())

    def _chosen(self) -> str:
        from zkfleet.registry.hosts import chosen_by

        hosts, _ = chosen_by(self.hosts)
        if not asks_for_dev(hosts):
            return hosts
        if self.sasl or self.ca or self.certificate or self.key:
            raise BadInput(
                f"{DEV} has no TLS and no SASL",
                hint="leave --tls-... and --sasl out, or name a ZooKeeper that has them",
            )
        return dev_server()

    def _options(self) -> dict[str, Any]:
        from zkfleet.registry import TLS

        for option, pairs in (("--auth", self.auth), ("--sasl", [self.sasl] if self.sasl else [])):
            if not all(all(pair.partition(":")[:2]) for pair in pairs):
                raise BadAuth(f"{option} is not USER:PASSWORD", hint=f"write {option} user:password")
        tls = TLS(self.ca, self.certificate, self.key) if self.ca or self.certificate or self.key else None
        options: dict[str, Any] = {
            "auth": [("digest", pair) for pair in self.auth] + ([("sasl", self.sasl)] if self.sasl else []),
            "tls": tls,
        }
        return options if self.jute_maxbuffer is None else options | {"jute_maxbuffer": self.jute_maxbuffer}


class Seconds(click.FloatRange):
    """A number of seconds; not infinite, and not no number."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or fail."""
        try:
            float(value)
        except ValueError:
            self.fail(f"{value!r} is no number of seconds.", param, ctx)
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no number of seconds.", param, ctx)
        return number


def asks_for_dev(hosts: str | None) -> bool:
    """Tell whether a connection string means a dev server of one's own.

    Raises:
        BadHosts: it means a part of one, which is empty.
    """
    scheme, colon, chroot = (hosts or "").strip().partition(":")
    if f"{scheme}{colon}".lower() != DEV or chroot[:1] not in ("", "/"):
        return False
    if chroot.strip("/"):
        raise BadHosts(f"{hosts!r}: an empty server has no {chroot}", hint=f"write {DEV} alone")
    return True


@functools.cache
def dev_server() -> str:
    """Start a dev server that lives as long as the command, and return its connection string."""
    from zkfleet.devserver import DevServer

    return DevServer().start().hosts


_HOSTS_HELP = "host:port,host:port/chroot, or dev: for an empty one of its own; else $ZKFLEET_ZOOKEEPER."
_ENSEMBLE = (
    click.option("-z", "--zookeeper", metavar="HOSTS", help=_HOSTS_HELP),
    click.option("--keep-trying", is_flag=True, help="Until ZooKeeper answers."),
    click.option("--auth", multiple=True, metavar="USER:PASSWORD", help="Digest credentials; may be repeated."),
    click.option("--sasl", metavar="USER:PASSWORD", help="SASL DIGEST-MD5 credentials."),
    click.option("--tls-ca", metavar="FILE", help="Encrypt; trust these certificates."),
    click.option("--tls-certificate", metavar="FILE", help="Encrypt; show this certificate."),
    click.option("--tls-key", metavar="FILE", help="The key of --tls-certificate."),
    click.option(
        "--jute-maxbuffer",
        type=int,
        metavar="BYTES",
        help="What the ensemble has in place of 1048575, for large nodes.",
    ),
)

_NAMES = (
    "zookeeper",
    "timeout",
    "keep_trying",
    "auth",
    "sasl",
    "tls_ca",
    "tls_certificate",
    "tls_key",
    "jute_maxbuffer",
)


def with_ensemble(function: Command, *, timeout: float = 15.0) -> Command:
    """Give a command the options of an ensemble, as its first argument."""
    patience = click.option(
        "--timeout", type=Seconds(min=0.1), default=timeout, show_default=True, help="Seconds to wait."
    )

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        return function(Ensemble(*(kwargs.pop(name) for name in _NAMES)), *args, **kwargs)

    for option in reversed((*_ENSEMBLE[:1], patience, *_ENSEMBLE[1:])):
        command = option(command)
    return command  # type: ignore[return-value]


def with_format(function: Command) -> Command:
    """Give a command `--format`."""
    choice = click.Choice(["human", "json"])
    option = click.option(
        "--format", "form", type=choice, default="human", show_default=True, help="Form of the answer."
    )
    return option(function)


def with_errors(function: Command) -> Command:
    """Make errors of ours a line, a hint and exit code 1; `--debug` shows everything."""

    @click.option("--debug", is_flag=True, help="Log everything, and show tracebacks.")
    @functools.wraps(function)
    def command(*args: Any, debug: bool, **kwargs: Any) -> Any:
        _log(debug)
        try:
            return function(*args, **kwargs)
        except BrokenPipeError:
            # Whoever read our answer has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except (ZkfleetError, OSError) as exc:
            if debug:
                raise
            report(exc)
            raise SystemExit(FAILED) from exc

    return command  # type: ignore[return-value]


def on_signals(numbers: Iterable[int], handler: Callable[[int, FrameType | None], object]) -> None:
    """Have signals handled, but for those that we were started to ignore, as by `nohup`."""
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def report(exc: Exception) -> None:
    """Write an error as a line and a hint."""
    first, *rest = _said(exc)
    say(f"error: {first}", err=True)
    for line in rest:
        say(line, err=True)
    hint = getattr(exc, "hint", "") or _HINTS.get(type(exc), "")
    if hint:
        say(f"hint: {hint}", err=True)


_HINTS = {
    FileNotFoundError: "is the path right?",
    PermissionError: "who may do that is up to the file's owner",
    WaitTimedOut: "wait longer, or look at what it waits for with `zkfleet show`",
}


def _said(exc: Exception) -> list[str]:
    """Return the lines that say what is wrong: several if a tree text has several problems."""
    if isinstance(exc, ZkfleetError):
        return str(exc).split("\n")
    if isinstance(exc, OSError) and exc.filename and exc.strerror:
        return [f"{exc.filename}: {exc.strerror}"]
    return [str(exc)]


def _log(debug: bool) -> None:
    """Have what is logged on stderr, unless somebody has set up logging in this process; no logger is touched."""
    shown = logging.StreamHandler()
    shown.addFilter(spell_record)  # what others log, such as ZEO, shows text of their peers
    if not debug:
        shown.addFilter(_is_news)
    level = logging.DEBUG if debug else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", handlers=[shown])


def _is_news(record: logging.LogRecord) -> bool:
    # What we warn of in the log a command says itself.
    return record.levelno >= logging.ERROR or not f"{record.name}.".startswith("zkfleet.")


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print a shell's completion script.

    For bash: zkfleet completion bash >> ~/.bash_completion
    """
    from zkfleet.cli import main

    kind = get_completion_class(shell)
    if kind is not None:
        emit_text(kind(main, {}, "zkfleet", "_ZKFLEET_COMPLETE").source())
