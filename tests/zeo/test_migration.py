"""What the README of zc.zkzeo shows, with its own configuration and arguments: see docs/migration.md."""

from contextlib import ExitStack, closing
from importlib.metadata import entry_points

import pytest
import transaction
import ZODB
import ZODB.config

import zkfleet.zeo
from tests.conftest import wait_for
from tests.zeo.making import addresses
from tests.zeo.test_client import count
from tests.zeo.test_trouble import count_until_done
from zkfleet.cli.zeo_check import nagios_main
from zkfleet.cli.zeo_serve import serve_command
from zkfleet.zeo import Server

SERVER = """
   <zeo>
      address 127.0.0.1
   </zeo>

   <zookeeper>
      connection {hosts}
      path /db
   </zookeeper>

   <filestorage>
      path {file}
   </filestorage>
"""
CLIENT = """
    %import zkfleet.zeo

    <zodb>
       <zkzeoclient>
          zookeeper {hosts}
          server /db
          max-disconnect-poll 1
       </zkzeoclient>
    </zodb>
"""


def seen(connection):
    """What the counter is in a new transaction."""
    transaction.begin()
    try:
        return connection.root()["n"]
    finally:
        transaction.abort()


@pytest.mark.slow
def test_clients_by_every_old_door_go_on_with_the_next_server(fleet, tmp_path, caplog):
    hosts = fleet.session.hosts
    conf = SERVER.format(hosts=hosts, file=tmp_path / "demo.fs")
    doors = [
        lambda: ZODB.DB(zkfleet.zeo.client(hosts, "/db", max_disconnect_poll=1)),
        lambda: zkfleet.zeo.DB(hosts, "/db", max_disconnect_poll=1),
        lambda: ZODB.config.databaseFromString(CLIENT.format(hosts=hosts)),
    ]
    with ExitStack() as stack:
        with Server(conf):
            [old] = wait_for(lambda: addresses(fleet, "/db"))
            found = []
            for number, door in enumerate(doors, 1):
                with pytest.warns(DeprecationWarning, match="max_disconnect_poll does nothing"):
                    found.append(stack.enter_context(closing(door())))
                assert count(found[-1]) == number
            with pytest.warns(DeprecationWarning, match="max_disconnect_poll does nothing"):
                connection = stack.enter_context(closing(zkfleet.zeo.connection(hosts, "/db", max_disconnect_poll=1)))
            assert seen(connection) == len(doors)
        every = [connection.db(), *found]
        wait_for(lambda: not any(database.storage.is_connected() for database in every))
        wait_for(lambda: caplog.text.count("zeo_no_servers path=/db") == len(every))
        with Server(conf):
            [new] = wait_for(lambda: addresses(fleet, "/db"))
            assert new != old
            for number, database in enumerate(found, len(doors) + 1):
                assert count_until_done(database) == number
            wait_for(lambda: seen(connection) == 2 * len(doors))


@pytest.mark.parametrize(("name", "does"), [("zkrunzeo", serve_command), ("zkzeo-nagios", nagios_main)])
def test_the_old_commands_are_installed(name, does):
    assert entry_points(group="console_scripts")[name].load() is does
