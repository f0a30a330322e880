"""How are monitors reached by the commands that ask them?"""

import functools
import os
from pathlib import Path
from typing import Any

import click

from zkfleet.cli.options import Command, client_context
from zkfleet.errors import BadInput
from zkfleet.monitor.client import Asking

TOKEN = "ZKFLEET_MONITOR_TOKEN"  # noqa: S105  the name of where one is
_ASKING = (
    click.option("--token-file", metavar="FILE", help=f"Begin with the token in it; else with ${TOKEN}, if it is set."),
    click.option("--monitor-ca", metavar="FILE", help="Ask monitors by TLS; trust these certificates."),
    click.option("--monitor-certificate", metavar="FILE", help="Show them this certificate."),
    click.option("--monitor-key", metavar="FILE", help="The key of --monitor-certificate."),
    click.option("--monitor-name", default="", metavar="HOST", help="Their certificates are for this name."),
)


def with_monitors(function: Command) -> Command:
    """Give a command the options of asking monitors, as its first argument: a function from a timeout to how."""

    @functools.wraps(function)
    def command(
        *args: Any,
        token_file: str | None,
        monitor_ca: Any,
        monitor_certificate: Any,
        monitor_key: Any,
        monitor_name: str,
        **kwargs: Any,
    ) -> Any:
        def asking(timeout: float) -> Asking:
            tls = client_context(monitor_ca, monitor_certificate, monitor_key)
            return Asking(timeout, _token(token_file), tls, monitor_name)

        return function(asking, *args, **kwargs)

    for option in reversed(_ASKING):
        command = option(command)
    return command  # type: ignore[return-value]


def _token(file: str | None) -> str:
    words = (Path(file).read_text() if file else os.environ.get(TOKEN, "")).split()
    if len(words) > 1 or (file and not words):
        raise BadInput(f"{file or f'${TOKEN}'}: a token is one word", hint="put the word there and nothing else")
    return "".join(words)
