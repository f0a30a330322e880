import json
import threading

import pytest
import transaction
from persistent.mapping import PersistentMapping
from ZEO.ClientStorage import ClientStorage
from ZODB.DB import DB
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import ConflictError, ReadConflictError

from tests.monitor.conftest import ask
from tests.zeo.plain import Zeo
from zkfleet import monitor
from zkfleet.calls import threads
from zkfleet.monitor.commands import COMMANDS
from zkfleet.monitor.families import families
from zkfleet.monitor.hearing import hear
from zkfleet.monitor.history import KEPT, MOST_KINDS, OTHERS, Conflict, History


@pytest.fixture
def all_slow(monkeypatch):
    """Every transaction is slow."""
    monkeypatch.setattr(History, "slow_after", 0.0)


def conflict(database, note=None):
    """Have two transactions change the root."""
    manager = transaction.TransactionManager()
    connection = database.open(manager)
    manager.begin().note(note)
    connection.root()["a"] = "ours"
    with database.transaction() as other:
        other.root()["a"] = "theirs"
    with pytest.raises(ConflictError):
        manager.commit()
    manager.abort()
    connection.close()


@pytest.fixture
def told(tmp_path, main):
    """What a monitor of this process says in JSON."""
    with monitor.start(str(tmp_path / "m.sock")) as started:
        yield lambda command: json.loads(ask(started.address, f"json {command}"))["answer"]


# -- slow ones


def test_a_slow_transaction_is_told_with_what_it_did(told, main, all_slow):
    manager = transaction.TransactionManager(explicit=True)
    connection = main.open(manager)
    begun = manager.begin()
    begun.setUser("jim")
    begun.note("add two\nof them")
    connection.root()["a"] = 1
    manager.commit()
    connection.close()
    (one,) = told("slow")
    assert one.pop("ago") >= 0
    assert one.pop("took") >= 0
    assert one == {
        "database": "-",
        "loads": 1,
        "stores": 1,
        "ended": "committed",
        "user": "/ jim",
        "description": "add two of them",
        "thread": threading.current_thread().name,
    }


def test_how_a_transaction_ended_is_known(told, main, all_slow):
    with pytest.raises(ZeroDivisionError), main.transaction():
        raise ZeroDivisionError
    assert [one["ended"] for one in told("slow")] == ["aborted"]
    with pytest.raises(TypeError), main.transaction() as connection:
        connection.root()["a"] = threading.Lock()  # cannot be stored
    assert [one["ended"] for one in told("slow")][-2:] == ["failed", "aborted"]


def test_one_that_failed_to_commit_is_told_once(told, main, all_slow):
    manager = transaction.TransactionManager(explicit=True)
    connection = main.open(manager)
    manager.begin()
    connection.root()["a"] = threading.Lock()
    with pytest.raises(TypeError):
        manager.commit()
    manager.abort()
    connection.close()
    assert [one["ended"] for one in told("slow")] == ["failed"]


def test_what_an_earlier_transaction_of_the_connection_did_is_not_told(told, main, all_slow):
    manager = transaction.TransactionManager(explicit=True)
    connection = main.open(manager)
    for number in range(2):
        with manager:
            connection.root()["a"] = number
    connection.close()
    assert [(one["loads"], one["stores"]) for one in told("slow")] == [(0, 1), (1, 1)]


def test_what_is_not_slow_is_not_there(told, main):
    with main.transaction():
        pass
    assert told("slow") == []


def test_the_last_hundred_are_there_and_all_are_counted(told, main, all_slow):
    for number in range(KEPT + 1):
        with main.transaction(str(number)):
            pass
    assert [one["description"] for one in told("slow")] == [str(KEPT - number) for number in range(KEPT)]
    assert told("databases")[0]["slow"] == KEPT + 1


def test_the_number_of_seconds_may_be_said(told, main, all_slow):
    with main.transaction():
        pass
    assert len(told("slow 0")) == 1
    assert told("slow 3600") == []


def test_a_connection_that_waited_when_the_database_was_put_in_is_heard(told, main, all_slow):
    with main.transaction("with the only connection"):
        pass
    assert len(told("slow")) == 1


def test_a_transaction_lasts_from_its_begin_and_not_from_the_one_before():
    now = 0.0
    database = DB(MappingStorage())
    history = History()
    hear(database, history, clock=lambda: now)
    manager = transaction.TransactionManager()
    connection = database.open(manager)
    now = 100.0
    manager.begin()
    now = 103.0
    manager.commit()
    assert [one.seconds for one in history.slow()] == [3.0]
    connection.close()
    database.close()


def test_a_transaction_that_nobody_begins_lasts_from_the_one_before():
    now = 0.0
    database = DB(MappingStorage())
    history = History()
    hear(database, history, clock=lambda: now)
    manager = transaction.TransactionManager()
    connection = database.open(manager)
    for now in (2.0, 5.0):
        connection.root()["a"] = now
        manager.commit()
    assert [one.seconds for one in history.slow()] == [3.0, 2.0]
    connection.close()
    database.close()


def test_connections_stay_of_the_class_that_their_database_has(main):
    class Own(DB):
        klass = type("OwnConnection", (DB.klass,), {})

    database = Own(MappingStorage())
    monitor.databases["own"] = database
    connection = database.open(transaction.TransactionManager())
    assert isinstance(connection, Own.klass)
    assert not hasattr(DB.klass, "history")
    connection.close()
    database.close()


# -- conflicts

ROOT = "persistent.mapping.PersistentMapping"


def test_conflicts_are_counted_by_error_and_class_of_object(told, main):
    assert told("conflicts") == []
    conflict(main)
    conflict(main)
    assert told("conflicts") == [
        {"database": "-", "error": "ConflictError", "class": ROOT, "commits": 2, "objects": {"0x00": 2}}
    ]


def test_the_last_conflicts_are_listed_with_their_objects(told, main):
    conflict(main, "the first")
    conflict(main, "the second")
    one, two = told("conflicts last")
    assert 0 <= one.pop("ago") <= two.pop("ago")
    assert one == {
        "database": "-",
        "error": "ConflictError",
        "class": ROOT,
        "oid": "0x00",
        "user": "",
        "description": "the second",
        "thread": threading.current_thread().name,
    }
    assert two["description"] == "the first"


def test_conflicts_are_those_of_their_database(told, main):
    monitor.databases["other"] = other = DB(MappingStorage())
    conflict(main)
    conflict(other)
    conflict(other)
    assert [(one["database"], one["commits"]) for one in told("conflicts")] == [("-", 1), ("other", 2)]
    assert [one["database"] for one in told("conflicts counts -")] == ["-"]
    assert [one["database"] for one in told("conflicts last")] == ["other", "other", "-"]
    assert [one["database"] for one in told("conflicts last other")] == ["other", "other"]
    other.close()


def test_a_read_conflict_is_told_with_the_class_of_what_was_read(told, main):
    with main.transaction() as connection:
        connection.root()["read"] = PersistentMapping()
        connection.root()["written"] = PersistentMapping()
    manager = transaction.TransactionManager()
    connection = main.open(manager)
    manager.begin()
    connection.readCurrent(connection.root()["read"])
    connection.root()["written"]["x"] = 1
    with main.transaction() as other:
        other.root()["read"]["x"] = 1
    with pytest.raises(ReadConflictError):
        manager.commit()
    manager.abort()
    connection.close()
    (one,) = told("conflicts")
    assert (one["error"], one["class"], one["commits"]) == ("ReadConflictError", ROOT, 1)


def test_every_attempt_of_a_call_that_meets_a_conflict_counts(told, main):
    tries = []

    def change(root):
        tries.append(root)
        if len(tries) < 3:
            with main.transaction() as other:
                other.root()["a"] = len(tries)
        root["a"] = "ours"

    connection = main.open(transaction.TransactionManager())
    threads.run(change, connection.root())
    connection.close()
    assert len(tries) == 3
    assert [one["commits"] for one in told("conflicts")] == [2]


def test_conflicts_are_a_metric_by_error_and_class(told, main):
    conflict(main)
    command = COMMANDS.get("conflicts")
    (family,) = families(command, command.function())
    (sample,) = [one for one in family.samples if one.name == "zkfleet_conflicts_commits_total"]
    assert sample.labels == {"database": "-", "error": "ConflictError", "class": ROOT}
    assert sample.value == 1


@pytest.mark.slow
def test_a_conflict_that_a_zeo_server_finds_is_told(told, tmp_path):
    server = Zeo(tmp_path / "Data.fs")
    monitor.databases["zeo"] = client = DB(ClientStorage((server.host, server.port), wait_timeout=10))
    try:
        conflict(client)
        assert [(one["database"], one["class"]) for one in told("conflicts")] == [("zeo", ROOT)]
    finally:
        client.close()
        server.kill()


def test_the_last_hundred_conflicts_are_kept_and_all_are_counted():
    history = History()
    for number in range(KEPT + 1):
        history.add_conflict(Conflict(0.0, ("ConflictError", "a.B"), str(number), "", "", ""))
    assert history.by_kind() == {("ConflictError", "a.B"): KEPT + 1}
    assert [one.oid for one in history.conflicts()] == [str(KEPT - number) for number in range(KEPT)]


def test_kinds_of_conflicts_are_bounded():
    history = History()
    for number in range(MOST_KINDS + 5):
        history.add_conflict(Conflict(0.0, ("ConflictError", str(number)), "", "", "", ""))
    assert len(history.by_kind()) == MOST_KINDS + 1
    assert history.by_kind()[OTHERS] == 5
