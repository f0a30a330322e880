import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkfleet.errors import BadInput, Unavailable
from zkfleet.zeo.candidates import Candidate, choose, preference

ANYBODY = preference(None)


def names(found):
    return [(f"{one.host}:{one.port}", one.tier) for one in found]


def choose_among(providers, *, mode="write", storage="1", prefer=None):
    return names(choose(providers, storage=storage, mode=mode, prefer=preference(prefer)).candidates)


def test_who_is_registered_may_be_tried():
    choice = choose(
        {"[::1]:8100": {"instance": "x", "database": {"1": "d"}}}, storage="1", mode="write", prefer=ANYBODY
    )
    found = choice.candidates
    assert found == (Candidate("::1", 8100, "x", 0, "d"),)
    assert found[0].address == ("::1", 8100)


@pytest.mark.parametrize("said", [{"state": "draining"}, {"storages": ["2"]}, {"read_only": True}])
def test_who_says_that_he_cannot_serve_us_is_left_out(said):
    assert choose_among({"a:1": said, "b:1": {"storages": ["1", "2"]}}) == [("b:1", 0)]


def test_a_name_that_is_no_address_is_passed_over():
    assert choose_among({"primary": {}, "a:1": {}}) == [("a:1", 0)]


def test_who_only_reads_goes_to_read_only_servers_first():
    servers = {"a:1": {}, "b:1": {"read_only": True}, "c:1": {"read_only": False}}
    assert choose_among(servers, mode="read") == [("b:1", 0), ("a:1", 1), ("c:1", 1)]


def test_who_falls_back_to_reading_tries_those_that_write_first():
    servers = {"a:1": {"read_only": True}, "b:1": {}}
    assert choose_among(servers, mode="fallback") == [("b:1", 0), ("a:1", 1)]


def test_a_property_is_preferred():
    servers = {"a:1": {"zone": "us"}, "b:1": {"zone": "eu", "rack": 7}, "c:1": {"zone": "eu"}, "d:1": {}}
    assert choose_among(servers, prefer="zone=eu") == [("b:1", 0), ("c:1", 0), ("a:1", 1), ("d:1", 1)]
    assert choose_among(servers, prefer=["zone=eu", "rack=7"])[:2] == [("b:1", 0), ("c:1", 1)]
    assert choose_among(servers, prefer=lambda said: said.get("rack", 9))[0] == ("b:1", 0)


def test_why_somebody_was_left_out_is_told():
    said = {"a:1": {"state": "draining"}, "b:1": {"storages": ["2"]}, "c:1": {"read_only": True}, "primary": {}}
    left_out = choose(said, storage="1", mode="write", prefer=ANYBODY).left_out
    assert {name: type(problem) for name, problem in left_out.items()} == {
        "a:1": Unavailable,
        "b:1": BadInput,
        "c:1": Unavailable,
        "primary": Unavailable,
    }


def test_whom_a_preference_fails_for_is_tried_last():
    servers = {"a:1": {}, "b:1": {"rack": 2}, "c:1": {"rack": 1}}
    choice = choose(servers, storage="1", mode="write", prefer=lambda said: said["rack"])
    assert names(choice.candidates) == [("c:1", 0), ("b:1", 1), ("a:1", 2)]
    assert choice.not_preferred == "a:1: KeyError('rack')"


def test_a_server_on_ipv6_is_spelled_as_it_is_registered():
    choice = choose({"[::1]:8100": {}}, storage="1", mode="write", prefer=lambda said: said["rack"])
    assert choice.not_preferred == "[::1]:8100: KeyError('rack')"


def test_a_preference_that_cannot_be_compared_is_not_heeded():
    servers = {"a:1": {"rack": 2}, "b:1": {"rack": "x"}, "c:1": {"rack": 1, "read_only": True}}
    choice = choose(servers, storage="1", mode="fallback", prefer=lambda said: said["rack"])
    assert names(choice.candidates) == [("a:1", 0), ("b:1", 0), ("c:1", 1)]
    assert "not supported between" in choice.not_preferred


@pytest.mark.parametrize("wanted", ["zone", "=eu", ["zone=eu", ""]])
def test_what_is_no_preference_is_refused(wanted):
    with pytest.raises(BadInput, match="no preference"):
        preference(wanted)


said = st.fixed_dictionaries(
    {},
    optional={"read_only": st.booleans(), "zone": st.sampled_from("ab"), "state": st.sampled_from(["draining", "up"])},
)


@given(
    st.dictionaries(st.integers(1, 9).map("a:{}".format), said),
    st.sampled_from(["read", "write", "fallback"]),
    st.sampled_from([None, "zone=a"]),
)
def test_tiers_rise_by_one_and_nobody_is_there_twice(providers, mode, prefer):
    found = choose_among(providers, mode=mode, prefer=prefer)
    tiers = [tier for _, tier in found]
    assert sorted(set(tiers)) == list(range(len(set(tiers))))
    assert tiers == sorted(tiers)
    assert len({name for name, _ in found}) == len(found)
    assert {name for name, _ in found} <= set(providers)
