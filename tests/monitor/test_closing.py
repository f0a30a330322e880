"""Databases that are closed, before a command looks at them and in the middle of it."""

import json

import pytest
import transaction
from ZODB.DB import DB
from ZODB.MappingStorage import MappingStorage

from tests.conftest import wait_for
from tests.monitor.conftest import ask
from tests.zeo.conftest import fleet, zeo  # noqa: F401  fixtures
from tests.zeo.making import Attempt, a_client
from zkfleet import monitor
from zkfleet.zeo import client

LISTS = ["databases", "connections 0", "pool", "zeoclient"]
ABOUT_ONE = ["connections 0 gone", "cache gone", "pack 0 gone", "minimize gone", "zeoclient gone", "dbinfo gone"]


class Closing(MappingStorage):
    """A storage whose database is closed on another thread as soon as somebody asks it for something."""

    def __init__(self, when):
        super().__init__()
        self.when, self.database = when, None

    def _asked(self, what):
        if what == self.when and self.database is not None:
            database, self.database = self.database, None
            Attempt(database.close).outcome()

    def getName(self):
        self._asked("name")
        return super().getName()

    def getSize(self):
        self._asked("size")
        return super().getSize()

    def pack(self, t, referencesf):
        self._asked("pack")
        super().pack(t, referencesf)


class Info(dict):
    """What somebody said of a connection; to look into it closes the database."""

    def get(self, _key):
        Attempt(self["database"].close).outcome()
        return "closes"


@pytest.fixture
def say(tmp_path):
    """Asks a monitor of this process, which has one database that stays open."""
    kept = monitor.databases["kept"] = DB(MappingStorage())
    with monitor.start(str(tmp_path / "m.sock"), actions=True) as started:
        yield lambda command: json.loads(ask(started.address, f"json {command}"))
    monitor.databases.clear()
    kept.close()


def names(reply):
    return [row["database"] for row in reply["answer"]]


def gone(storage):
    database = monitor.databases["gone"] = DB(storage)
    return database


@pytest.mark.parametrize("command", LISTS)
def test_the_others_are_listed_beside_a_closed_one(say, command):
    gone(MappingStorage()).close()
    with_it = say(command)["answer"]
    del monitor.databases["gone"]
    assert [one for one in with_it if one["database"] != "gone"] == say(command)["answer"]


@pytest.mark.parametrize("command", ABOUT_ONE)
def test_a_closed_one_is_said_to_be(say, command):
    gone(MappingStorage()).close()
    assert "the database 'gone' is closed" in say(command)["error"]


@pytest.mark.parametrize("when", ["name", "size"])
def test_one_that_is_closed_while_it_is_listed_is_closed(say, when):
    storage = Closing(when)
    storage.database = gone(storage)
    told = {row["database"]: row["open"] for row in say("databases")["answer"]}
    assert told == {"gone": False, "kept": True}


def test_one_that_is_closed_while_its_connections_are_listed_hides_no_others(say):
    database = gone(MappingStorage())
    connection = database.open(transaction.TransactionManager())
    connection.setDebugInfo(Info(database=database))
    kept = monitor.databases["kept"].open(transaction.TransactionManager())
    assert "kept" in names(say("connections 0"))
    assert names(say("connections 0")) == ["kept"]
    kept.close()


def test_one_that_is_closed_while_it_is_packed_is_said_to_be(say):
    storage = Closing("pack")
    storage.database = gone(storage)
    assert "the database 'gone' is closed" in say("pack 0 gone")["error"]
    assert say("pack 0 kept")["answer"][0].startswith("packed kept")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "following"])
def test_one_that_is_closed_while_its_frozen_server_is_to_pack_is_said_to_be(say, fleet, zeo, kind):  # noqa: F811
    server = zeo()
    fleet.register("/db", server.address)
    storage = a_client((server.host, server.port)) if kind == "plain" else client(fleet, "/db", ping_interval=None)
    database = gone(storage)
    server.freeze()
    packing = Attempt(say, "pack 0 gone 30")
    wait_for(lambda: say("zeoclient gone")["answer"][0]["in_flight"])
    closing = Attempt(database.close)
    for command in LISTS:
        assert "answer" in say(command)
    assert "the database 'gone' is closed" in packing.outcome()["error"]
    closing.outcome()
    assert say("zeoclient")["answer"] == []
    assert "is closed" in say("zeostatus gone")["error"]
