"""How are ZEO servers reached by the commands that ask them?"""

import functools
from typing import Any

import click

from zkfleet.cli.options import Command, client_context
from zkfleet.zeo.surveying import Asking

_ASKING = (
    click.option("--zeo-ca", metavar="FILE", help="Ask ZEO servers by TLS; trust these certificates."),
    click.option("--zeo-certificate", metavar="FILE", help="Show them this certificate."),
    click.option("--zeo-key", metavar="FILE", help="The key of --zeo-certificate."),
    click.option("--zeo-name", default="", metavar="HOST", help="Their certificates are for this name."),
)


def with_asking(function: Command) -> Command:
    """Give a command the options of asking ZEO servers, as its first argument: a timeout to what to do in it."""

    @functools.wraps(function)
    def command(*args: Any, zeo_ca: Any, zeo_certificate: Any, zeo_key: Any, zeo_name: str, **kwargs: Any) -> Any:
        def asking(timeout: float) -> Asking:
            return Asking(timeout, client_context(zeo_ca, zeo_certificate, zeo_key), zeo_name)

        return function(asking, *args, **kwargs)

    for option in reversed(_ASKING):
        command = option(command)
    return command  # type: ignore[return-value]
