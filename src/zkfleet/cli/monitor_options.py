"""How are monitors reached by the commands that ask them?"""

import functools
import os
from typing import Any

import click

from zkfleet.cli.certificates import Certificates, with_certificates
from zkfleet.cli.options import Command
from zkfleet.errors import BadInput
from zkfleet.monitor.client import Asking
from zkfleet.monitor.places import check_token
from zkfleet.monitor.tokens import token_in

TOKEN = "ZKFLEET_MONITOR_TOKEN"  # noqa: S105  the name of where one is
_TOKEN_FILE = click.option(
    "--token-file", metavar="FILE", help=f"Begin with the token in it; else with ${TOKEN}, if it is set."
)


def with_monitors(function: Command) -> Command:
    """Give a command the options of asking monitors, as its first argument: a function from a timeout to how."""

    @_TOKEN_FILE
    @with_certificates("monitor", "monitors")
    @functools.wraps(function)
    def command(*args: Any, token_file: str | None, monitor_certificates: Certificates, **kwargs: Any) -> Any:
        def asking(timeout: float) -> Asking:
            token = token_in(token_file) if token_file else _token_of_environment()
            return Asking(timeout, token, monitor_certificates.context(), monitor_certificates.name)

        return function(asking, *args, **kwargs)

    return command  # type: ignore[return-value]


def _token_of_environment() -> str:
    token = os.environ.get(TOKEN, "").strip()
    try:
        check_token(token)
    except BadInput as exc:
        raise BadInput(f"${TOKEN}: {exc}", hint=exc.hint) from exc
    return token
