from hypothesis import given
from hypothesis import strategies as st

from zkfleet.tree import decode, encode
from zkfleet.zeo.described import Described, described_by

texts = st.text(min_size=1, max_size=8)
by_name = st.dictionaries(texts, texts, max_size=3)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner)
)


@given(
    st.builds(
        Described,
        storages=st.lists(texts, max_size=3).map(tuple),
        read_only=st.none() | st.booleans(),
        role=texts,
        databases=by_name,
        tids=by_name,
        monitor=texts,
        transient=st.booleans(),
    )
)
def test_what_a_server_says_is_read_back_from_its_node(described):
    assert described_by(decode(encode(described.properties()))) == described


@given(
    st.dictionaries(
        st.sampled_from(["storages", "read_only", "role", "database", "tid", "monitor", "transient"]), anything
    )
)
def test_what_is_not_of_its_kind_is_not_said(properties):
    described = described_by(properties)
    assert all(map(str, (*described.storages, *described.databases.values(), *described.tids.values())))
    assert described_by(described.properties()) == described


def test_a_server_of_another_make_says_nothing():
    assert described_by({"pid": 7}) == Described()
