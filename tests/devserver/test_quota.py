"""How much is below a node that has a quota."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkfleet.devserver.access import OPEN
from zkfleet.devserver.database import Database
from zkfleet.devserver.quota import LIMITS, ROOT, STATS

NAMES = st.sampled_from(["a", "b", "c"])


def make(database, path, data=b""):
    database.create(path, data, OPEN, zxid=1, time=0)


def limit(database, path):
    """Do what a client does that sets a quota."""
    at = ""
    for name in path.strip("/").split("/"):
        at += f"/{name}"
        if database.find(ROOT + at) is None:
            make(database, ROOT + at)
    make(database, f"{ROOT}{path}/{LIMITS}", b"count=5,bytes=-1")
    make(database, f"{ROOT}{path}/{STATS}", b"count=0,bytes=0")


def counted(database, path):
    return database.find(f"{ROOT}{path}/{STATS}").data


@pytest.fixture
def database():
    database = Database()
    make(database, "/a", b"12")
    make(database, "/a/b", b"345")
    database.commit()
    return database


def test_a_new_quota_counts_what_is_there(database):
    limit(database, "/a")
    assert counted(database, "/a") == b"count=2,bytes=5"


def test_every_change_below_is_counted_and_others_are_not(database):
    limit(database, "/a")
    make(database, "/a/b/c", b"1")
    make(database, "/other", b"123456789")
    assert counted(database, "/a") == b"count=3,bytes=6"
    database.set_data("/a/b/c", b"12345", zxid=2, time=0)
    assert counted(database, "/a") == b"count=3,bytes=10"
    database.set_data("/a", None, zxid=2, time=0)
    assert counted(database, "/a") == b"count=3,bytes=8"
    database.delete("/a/b/c", zxid=3)
    assert counted(database, "/a") == b"count=2,bytes=3"


def test_what_is_taken_back_was_never_counted(database):
    limit(database, "/a")
    database.commit()
    before = counted(database, "/a")
    make(database, "/a/c", b"1")
    database.set_data("/a", b"", zxid=2, time=0)
    database.delete("/a/b", zxid=2)
    assert counted(database, "/a") != before
    database.roll_back()
    assert counted(database, "/a") == before


def test_without_its_limits_a_quota_counts_no_more(database):
    limit(database, "/a")
    database.delete(f"{ROOT}/a/{LIMITS}", zxid=2)
    make(database, "/a/c")
    assert counted(database, "/a") == b"count=2,bytes=5"


@pytest.mark.parametrize(
    "data", [b"", None, b"\xff", b"count=,bytes=x", b"count=" + b"9" * 5000, "count=\u0663".encode(), b"=" * 50]
)
def test_whatever_a_client_writes_into_the_counts_they_stay_numbers(database, data):
    limit(database, "/a")
    database.set_data(f"{ROOT}/a/{STATS}", data, zxid=2, time=0)
    make(database, "/a/c", b"1")
    assert counted(database, "/a") == b"count=0,bytes=0"


def test_numbers_that_are_no_counts_are_kept(database):
    limit(database, "/a")
    database.set_data(f"{ROOT}/a/{STATS}", b"count=2,bytes=5=;byteHardLimit=-1", zxid=2, time=0)
    make(database, "/a/c", b"1")
    assert counted(database, "/a") == b"count=3,bytes=6=;byteHardLimit=-1"


def test_a_tree_may_be_deeper_than_python_nests_calls(database):
    path = "/a"
    for _ in range(3000):
        path += "/d"
        make(database, path)
    limit(database, "/a")
    assert counted(database, "/a") == b"count=3002,bytes=5"


@given(st.lists(st.tuples(st.lists(NAMES, min_size=1, max_size=4), st.binary(max_size=5))))
def test_the_counts_are_those_of_a_fresh_look(changes):
    database = Database()
    make(database, "/a")
    limit(database, "/a")
    for names, data in changes:
        path = "/a/" + "/".join(names)
        node = database.find(path)
        if node is None and database.find(path.rpartition("/")[0]) is not None:
            make(database, path, data)
        elif node is not None and len(data) % 2 and not node.children:
            database.delete(path, zxid=2)
        elif node is not None:
            database.set_data(path, data, zxid=2, time=0)
    below = [node for path, node in database.nodes.items() if path == "/a" or path.startswith("/a/")]
    assert counted(database, "/a") == f"count={len(below)},bytes={sum(len(node.data) for node in below)}".encode()
