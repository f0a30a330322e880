"""Object ids end with the server that gave them."""

from contextlib import ExitStack, closing

import pytest
import transaction
from persistent.mapping import PersistentMapping
from ZODB.POSException import ConflictError
from ZODB.utils import p64

import zkfleet.zeo
from tests.conftest import wait_for
from tests.zeo.making import a_config, a_filestorage
from zkfleet.zeo.oids import REMEMBERED, Oids


def ids(*numbers):
    return [p64(number) for number in numbers]


# -- what is known of ids


def test_ids_are_handed_out_once_and_in_order():
    oids = Oids()
    oids.add(ids(1, 2), oids.server)
    oids.add(ids(3), oids.server)
    assert [oids.take() for _ in range(4)] == [*ids(1, 2, 3), None]


def test_none_outlives_its_server():
    oids = Oids()
    oids.add(ids(1, 2, 7), oids.server)
    oids.take()
    oids.change_server()
    assert oids.take() is None
    oids.add(ids(2, 3), oids.server)
    assert [n for n in range(9) if oids.is_former(p64(n))] == [1, 7]


def test_ids_that_come_after_their_server_has_gone_are_dropped():
    oids = Oids()
    asked = oids.server
    oids.change_server()
    oids.add(ids(1), asked)
    assert oids.take() is None


def test_no_more_is_remembered_than_so_much():
    oids = Oids()
    for n in range(3 * REMEMBERED):
        oids.add(ids(2 * n), oids.server)
        if n % 100 == 0:
            oids.change_server()
    assert len(oids._given) + len(oids._former) <= 2 * REMEMBERED
    assert oids.is_former(p64(2 * 2900))
    assert not oids.is_former(p64(0))


# -- what clients do


@pytest.fixture
def serve(tmp_path):
    """Starts a server of ours; it ends with the test."""
    with ExitStack() as ending:

        def start(fleet, path="/db", *, storage=None, more=""):
            storage = storage or a_filestorage(tmp_path / "Data.fs")
            config = a_config(address="127.0.0.1", zookeeper=fleet.session.hosts, path=path, storage=storage, more=more)
            server = zkfleet.zeo.Server(config).start()
            ending.callback(server.close)
            return server

        yield start


@pytest.fixture
def serve_plain(fleet, zeo):
    """Starts a server of ZEO's own, which counts on from the last committed object."""

    def start():
        server = zeo()
        registration = fleet.register("/db", server.address)

        def end():
            registration.close()
            server.kill()

        return end

    return start


@pytest.fixture
def open_one(fleet):
    """Opens a database that hears of commits before each transaction; it is closed with the test."""
    with ExitStack() as ending:

        def start(path="/db", **options):
            return ending.enter_context(
                closing(zkfleet.zeo.DB(fleet, path, wait_timeout=20, server_sync=True, **options))
            )

        yield start


def add(found, name, count):
    """Commit so many new objects."""
    with found.transaction() as connection:
        for n in range(count):
            connection.root()[f"{name}{n}"] = PersistentMapping()


def read_all(found):
    with found.transaction() as connection:
        return [len(value) for value in connection.root().values()]


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize("reads", [False, True], ids=["", "after reading"])
def test_new_objects_are_committed_after_a_server_was_started_again(serve_plain, open_one, count, reads):
    end_server, one, other = serve_plain(), open_one(), open_one()
    add(one, "one", 1)
    end_server()
    serve_plain()
    add(other, "other", 30)
    if reads:
        read_all(one)
    for n in range(3):
        add(one, f"new{n}-", count)
    assert len(read_all(other)) == 1 + 30 + 3 * count


@pytest.mark.slow
def test_an_object_that_got_its_id_before_is_refused_once_and_harms_nobody(serve_plain, open_one):
    end_server, one, other = serve_plain(), open_one(), open_one()
    add(one, "box", 1)
    manager, others = transaction.TransactionManager(), transaction.TransactionManager()
    with closing(one.open(manager)) as connection:
        connection.root()["late"] = PersistentMapping()
        manager.savepoint()
        connection.add(PersistentMapping())
        end_server()
        serve_plain()
        wait_for(one.storage.is_connected)
        with closing(other.open(others)) as elsewhere:
            new = PersistentMapping()
            elsewhere.add(new)  # which takes the same id, and waits
            with pytest.raises(ConflictError, match="has an id of a server that was left"):
                manager.commit()
            manager.abort()
            connection.root()["late"] = PersistentMapping()
            manager.commit()
            elsewhere.root()["box0"]["new"] = new
            others.commit()
    assert len(read_all(one)) == len(read_all(other)) == 2


@pytest.mark.slow
def test_a_server_in_between_hands_on_that_an_id_is_of_a_former_server(fleet, serve, open_one):
    fleet.import_tree("/back\n/left\n/right\n")
    storage = "%import zkfleet.zeo\n<zkzeoclient 1>\n  zookeeper {}\n  server /back\n  wait-timeout 20\n</zkzeoclient>"
    back = serve(fleet, "/back")
    for front in ("/left", "/right"):
        serve(fleet, front, storage=storage.format(fleet.session.hosts))
    one, other = open_one("/left"), open_one("/right")
    add(one, "one", 1)
    add(other, "other", 1)
    back.close()
    serve(fleet, "/back")
    add(open_one("/back"), "direct", 100)
    for found in (one, other):
        for attempt in transaction.manager.attempts(2):
            with attempt, closing(found.open()) as connection:
                for n in range(10):
                    connection.root()[f"new{found is one}{n}"] = PersistentMapping()
                transaction.commit()
    assert len(read_all(open_one("/back"))) == 122
