"""By which certificates does a command ask others?"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from zkfleet.cli.options import Command

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the options said: files in PEM form, or None.

    Attributes:
        ca: whom to trust.
        certificate: what is shown.
        key: its key.
        name: what theirs are for, if not the host that was asked; or "".
    """

    ca: str | None
    certificate: str | None
    key: str | None
    name: str

    def context(self) -> "ssl.SSLContext | None":
        """Return what speaks TLS with them; None for no TLS."""
        if not (self.ca or self.certificate or self.key):
            return None
        import ssl

        context = ssl.create_default_context(cafile=self.ca)
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key)
        return context


def with_certificates(word: str, whom: str) -> Callable[[Command], Command]:
    """Give a command the options `--WORD-ca` and the three that belong to it, as its argument `WORD_certificates`."""
    options = (
        click.option(f"--{word}-ca", metavar="FILE", help=f"Ask {whom} by TLS; trust these certificates."),
        click.option(f"--{word}-certificate", metavar="FILE", help="Show them this certificate."),
        click.option(f"--{word}-key", metavar="FILE", help=f"The key of --{word}-certificate."),
        click.option(f"--{word}-name", default="", metavar="HOST", help="Their certificates are for this name."),
    )

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def command(*args: Any, **kwargs: Any) -> Any:
            said = [kwargs.pop(f"{word}_{what}") for what in ("ca", "certificate", "key", "name")]
            return function(*args, **{f"{word}_certificates": Certificates(*said)}, **kwargs)

        for option in reversed(options):
            command = option(command)
        return command  # type: ignore[return-value]

    return decorate
