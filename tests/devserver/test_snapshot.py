"""What is written down is what is read again."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conformance import wire
from tests.devserver.driving import Driven, a_core, check_invariants
from tests.devserver.making import OFTEN, a_body
from tests.devserver.test_server import contents
from zkfleet.devserver import snapshot
from zkfleet.devserver.access import OPEN
from zkfleet.devserver.requests import Op
from zkfleet.errors import BadInput


def loaded(text, now=0.0):
    core = a_core(secret=b"another", first=5)
    snapshot.load(text, core.database, core.sessions, now=now)
    return core


def dumped(core):
    return snapshot.dump(core.database, core.sessions)


@given(st.lists(st.sampled_from([op for op in OFTEN if op > 0]), max_size=25), st.randoms(use_true_random=False))
def test_whatever_was_done_is_read_again_as_it_was(ops, rng):
    driven = Driven()
    client = driven.session()
    for op in ops:
        if not client.closed:
            client.ask_quietly(op, a_body(op, rng.choice))
    again = loaded(dumped(driven.core))
    assert contents(again) == contents(driven.core)
    assert dumped(again) == dumped(driven.core)
    check_invariants(again)


def test_passwords_and_ids_go_on():
    core = a_core()
    session = core.sessions.open(10.0, now=0)
    again = loaded(dumped(core))
    assert again.sessions.password(session) == core.sessions.password(session)
    assert again.sessions.open(10.0, now=0) == core.sessions.open(10.0, now=0)


def test_a_session_has_its_whole_timeout_when_it_is_read():
    core = a_core()
    session = core.sessions.open(10.0, now=0)
    again = loaded(dumped(core), now=5000.0)
    assert again.sessions.expired(now=5009.0) == []
    assert again.sessions.expired(now=5013.0) == [session]


def test_znodes_share_their_access_lists_again():
    driven = Driven()
    driven.session().ask(Op.CREATE, wire.create("/a"))
    assert loaded(dumped(driven.core)).database.nodes["/a"].acl is OPEN


def test_an_empty_database_is_kept_too():
    assert contents(loaded(dumped(a_core()))) == contents(a_core())


def a_full_one():
    """What a server with one of everything is written down as."""
    driven = Driven()
    client = driven.session()
    for path in ("/a", "/a/b"):
        client.ask(Op.CREATE, wire.create(path, b"data"))
    client.ask(Op.CREATE, wire.create("/mine", flags=1))
    client.ask(Op.CREATE, wire.create("/a/s-", flags=2))
    client.ask(Op.CREATE_CONTAINER, wire.create("/container", flags=4))
    client.ask(Op.CREATE_TTL, wire.create("/short", flags=5, ttl=50_000))
    return json.loads(dumped(driven.core))


def put(where, value):
    """Change one thing that is kept: a name, or a path and one of its counts."""

    def change(kept):
        path, _, name = where.rpartition(" ")
        if not path:
            kept[name] = value
            return
        node = next(node for node in kept["nodes"] if node[0] == path)
        node[("path", "data", "acl", *snapshot._COUNTS).index(name)] = value

    return change


def again(name):
    return lambda kept: kept[name].append(kept[name][-1])


IMPOSSIBLE = {
    "a secret of odd length": put("secret", "abc"),
    "no secret": put("secret", ""),
    "a secret that is no text": put("secret", 5),
    "a next id below 0": put("next_id", -1),
    "a next id that does not fit": put("next_id", 1 << 63),
    "a next id with nothing behind it": put("next_id", (1 << 63) - 1),
    "a next id that is text": put("next_id", "5"),
    "a next id that is a half": put("next_id", 1.5),
    "a next id that is taken": lambda kept: kept.update(next_id=kept["sessions"][0][0]),
    "a zxid below 0": put("zxid", -1),
    "a zxid that does not fit": put("zxid", 1 << 63),
    "a zxid with nothing behind it": put("zxid", (1 << 63) - 1),
    "a zxid that is true": put("zxid", True),
    "a zxid before those of its znodes": put("zxid", 2),
    "a session twice": again("sessions"),
    "a session that is nobody's": put("sessions", [[0, 5.0]]),
    "a session below 0": put("sessions", [[-5, 5.0]]),
    "a session with a timeout that is no number": lambda kept: kept["sessions"][0].__setitem__(1, float("nan")),
    "a session with a timeout for ever": lambda kept: kept["sessions"][0].__setitem__(1, float("inf")),
    "a session with no timeout": lambda kept: kept["sessions"][0].__setitem__(1, 0),
    "a session with a timeout that is true": lambda kept: kept["sessions"][0].__setitem__(1, True),
    "a session with a timeout that is text": lambda kept: kept["sessions"][0].__setitem__(1, "5"),
    "an access list of nobody": put("acls", [[]] * 9),
    "an access list of a scheme that there is not": put("acls", [[[31, "x509", "a"]]] * 9),
    "an access list of whoever asks": put("acls", [[[31, "auth", ""]]] * 9),
    "an access list with an id that is no text": put("acls", [[[31, "world", 5]]] * 9),
    "permissions that do not fit": put("acls", [[[1 << 31, "world", "anyone"]]] * 9),
    "permissions that are text": put("acls", [[["31", "world", "anyone"]]] * 9),
    "an access list from the end": put("/a acl", -1),
    "an access list that is true": put("/a acl", True),
    "a znode twice": again("nodes"),
    "a znode of ZooKeeper twice": lambda kept: kept["nodes"].insert(0, kept["nodes"][0]),
    "data that are a number": put("/a data", 5),
    "a version below 0": put("/a version", -1),
    "a version with none behind it": put("/a version", (1 << 31) - 1),
    "a version that is a half": put("/a version", 0.5),
    "a version of permissions with none behind it": put("/a aversion", (1 << 31) - 1),
    "a zxid that is still to come": put("/a mzxid", 1 << 40),
    "a zxid of a znode below 0": put("/a czxid", -1),
    "a time that does not fit": put("/a mtime", 1 << 63),
    "a sequence that does not fit": put("/a cversion", 1 << 30),
    "a sequence that begins again": put("/a cversion", 1),
    "a sequence at the top that begins again": put("/ cversion", 0),
    "an owner that is no session": put("/mine owner", 1),
    "an owner below 0": put("/mine owner", -1),
    "an owner of what has children": lambda kept: put("/a owner", kept["sessions"][0][0])(kept),
    "an owner of the root": lambda kept: put("/ owner", kept["sessions"][0][0])(kept),
    "an owner of a node of ZooKeeper": lambda kept: put("/zookeeper/quota owner", kept["sessions"][0][0])(kept),
    "a container twice": again("containers"),
    "a container that is not there": put("containers", ["/none"]),
    "a container of ZooKeeper's": put("containers", ["/zookeeper/config"]),
    "a container with an owner": put("containers", ["/mine"]),
    "a container with a lifetime": put("containers", ["/short"]),
    "containers that are a text": put("containers", "/"),
    "a lifetime of what is not there": put("lifetimes", {"/none": 5}),
    "a lifetime of the root": put("lifetimes", {"/": 5}),
    "a lifetime of what has an owner": put("lifetimes", {"/mine": 5}),
    "a lifetime of nothing": put("lifetimes", {"/short": 0}),
    "a lifetime that does not fit": put("lifetimes", {"/short": 1 << 40}),
    "a lifetime that is text": put("lifetimes", {"/short": "5"}),
    "a lifetime that is true": put("lifetimes", {"/short": True}),
    "lifetimes that are a list": put("lifetimes", []),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_what_would_break_the_server_later_is_refused(what):
    kept, core = a_full_one(), a_core()
    IMPOSSIBLE[what](kept)
    with pytest.raises(BadInput, match="the file: ") as refused:
        snapshot.load(json.dumps(kept), core.database, core.sessions, now=0, source="the file")
    assert refused.value.hint


def test_what_the_test_above_makes_impossible_is_possible_before():
    kept = a_full_one()
    assert json.loads(dumped(loaded(json.dumps(kept)))) == kept


@given(st.text())
def test_any_other_text_is_refused_with_what_it_is_from(text):
    core = a_core()
    with pytest.raises(BadInput, match="the file: "):
        snapshot.load(text, core.database, core.sessions, now=0, source="the file")
