"""What is written down is what is read again."""

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


@given(st.text())
def test_any_other_text_is_refused_with_what_it_is_from(text):
    core = a_core()
    with pytest.raises(BadInput, match="the file: "):
        snapshot.load(text, core.database, core.sessions, now=0, source="the file")
