"""What differs from storage to storage."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree
from ZODB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ReadOnlyError

from tests.calls.conftest import get, put
from tests.calls.things import Counter
from zkfleet import calls
from zkfleet.calls import threads


@pytest.fixture
def file(tmp_path):
    return str(tmp_path / "Data.fs")


@pytest.fixture
def db(file):
    db = DB(FileStorage(file))
    put(db, counter=Counter(), tree=OOBTree(), length=Length())
    yield db
    db.close()


def test_trees_and_lengths_resolve_conflicts_without_another_try(db, root):
    meddled = []

    def insert(tree, length):
        tree["mine"] = 1
        length.change(1)
        if not meddled:  # while this is not committed yet
            with db.transaction() as connection:
                connection.root()["tree"]["theirs"] = 2
                connection.root()["length"].change(10)
        meddled.append(1)

    threads.run(insert, root["tree"], root["length"])
    root._p_jar.sync()
    assert meddled == [1]
    assert dict(root["tree"]) == {"mine": 1, "theirs": 2}
    assert root["length"]() == 11


def test_a_read_only_storage_can_be_read_and_says_so_when_it_is_written_to(db, file):
    db.close()
    db = DB(FileStorage(file, read_only=True))
    with db.transaction() as connection:
        counter = connection.root()["counter"]
        before = calls.statistics().attempts
        assert threads.run(counter.run, lambda counter: counter.count) == 0
        with pytest.raises(ReadOnlyError):
            threads.run(counter.add)
        assert calls.statistics().attempts == before + 2
    db.close()


@pytest.mark.slow
def test_a_storm_of_16_callers_on_one_counter_loses_none(db, counter):
    policy = calls.Policy(max_transaction_errors=None)
    together = threading.Barrier(16)

    def call_often():
        together.wait(60)
        for _ in range(25):
            threads.run(counter.add, policy=policy)

    with ThreadPoolExecutor(16) as callers:
        for caller in [callers.submit(call_often) for _ in range(16)]:
            caller.result(60)
    assert get(db) == 400
