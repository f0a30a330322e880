"""zkfleet zeo: ZEO servers, and those who look after them."""

import click

from zkfleet.cli.zeo_check import check_command
from zkfleet.cli.zeo_identify import identify_command
from zkfleet.cli.zeo_pack import pack_command
from zkfleet.cli.zeo_serve import serve_command
from zkfleet.cli.zeo_status import status_command


@click.group("zeo")
def zeo_command() -> None:
    """Run ZEO servers that their clients find, and look after them."""


for command in (check_command, identify_command, pack_command, serve_command, status_command):
    zeo_command.add_command(command)
