"""How many connections calls have to a database that they reach from others."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from ZODB import DB

from tests.calls.conftest import get, put
from tests.calls.things import Counter
from tests.conftest import wait_for
from zkfleet import calls
from zkfleet.calls import threads
from zkfleet.calls.pool import pool_of

LIMITS = {"a": 2, "b": 1, "c": 3}


@pytest.fixture
def databases():
    databases = {}
    for name, connections in LIMITS.items():
        db = DB(None, databases=databases, database_name=name)
        put(db, counter=Counter())
        calls.limit(db, connections=connections)
    yield databases
    for db in databases.values():
        db.close()


def opened(db):
    return sum(1 for connection in db.connectionDebugInfo() if connection["opened"])


def test_connections_to_a_second_database_are_bounded_by_the_limits_of_all_that_reach_it(databases):
    most, go_on = [], threading.Event()

    def reach_b(counter):
        counter._p_jar.get_connection("b").root()["counter"]._p_activate()
        most.append(opened(databases["b"]))
        assert go_on.wait(60)

    def call(name):
        threads.run(Counter.run, refs[name], reach_b)

    refs = {}
    for name, db in databases.items():
        with db.transaction() as connection:
            refs[name] = calls.ref(connection.root()["counter"])
    with ThreadPoolExecutor(30) as callers:
        made = [callers.submit(call, name) for name in LIMITS for _ in range(10)]
        wait_for(lambda: len(most) == sum(LIMITS.values()))
        wait_for(lambda: sum(pool_of(db).queued for db in databases.values()) == 30 - len(most))
        assert opened(databases["b"]) == sum(LIMITS.values())
        go_on.set()
        for each in made:
            each.result(60)
    assert max(most) == sum(LIMITS.values())
    assert opened(databases["b"]) == 0
    assert get(databases["b"]) == 0
