"""zkfleet zeo: ZEO servers and those who look after them."""

import click

from zkfleet.cli.zeo_check import check_command
from zkfleet.cli.zeo_status import status_command


@click.group("zeo")
def zeo_command() -> None:
    """Look after ZEO servers."""


zeo_command.add_command(check_command)
zeo_command.add_command(status_command)
