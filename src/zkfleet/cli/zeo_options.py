"""How are ZEO servers reached by the commands that ask them?"""

import functools
from typing import Any

from zkfleet.cli.certificates import Certificates, with_certificates
from zkfleet.cli.options import Command
from zkfleet.zeo.surveying import Asking


def with_asking(function: Command) -> Command:
    """Give a command the options of asking ZEO servers, as its first argument: a timeout to what to do in it."""

    @with_certificates("zeo", "ZEO servers")
    @functools.wraps(function)
    def command(*args: Any, zeo_certificates: Certificates, **kwargs: Any) -> Any:
        def asking(timeout: float) -> Asking:
            return Asking(timeout, zeo_certificates.context(), zeo_certificates.name)

        return function(asking, *args, **kwargs)

    return command  # type: ignore[return-value]
