from hypothesis import given
from hypothesis import strategies as st

from zkfleet import paths
from zkfleet.tree import Node, decode, encode, parse, render
from zkfleet.tree.model import fault, same

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
WORDS = st.sampled_from(
    ["a", "b", "type", "threads", "10.0.0.1:80", "x y", "a->b", "#", "'", "é", "a:", "a=b", "/", ":"]
)
NAMES = WORDS.filter(lambda name: paths.name_fault(name) is None) | TEXT.filter(
    lambda name: paths.name_fault(name) is None
)
PATHS = st.sampled_from(["/a", "../b", "b", "/a b/c", "/", "", "/a b", "/é#x", "a//b", ".", "x y z"])
ARROWS = st.sampled_from(["", " ->", " =>"])
KEYS = st.builds(lambda word, arrow: word + arrow, WORDS | TEXT, ARROWS)
PROPERTIES = st.dictionaries(KEYS, VALUES | PATHS, max_size=5) | st.binary(max_size=8).map(decode)
NODES = st.recursive(
    st.builds(Node, PROPERTIES),
    lambda inner: st.builds(Node, PROPERTIES, st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)
TREES = st.dictionaries(NAMES, NODES, max_size=3).map(lambda children: Node({}, children))


@given(TREES)
def test_every_tree_reads_back_from_its_text(tree):
    assert parse(render(tree)) == tree


@given(TREES)
def test_the_canonical_text_is_a_fixed_point(tree):
    text = render(tree)
    assert render(parse(text)) == text


@given(NODES, NAMES)
def test_a_node_can_be_written_under_any_name(node, name):
    assert parse(render(node, name)).children[name] == node


@given(PROPERTIES)
def test_properties_survive_the_znode(properties):
    assert same(decode(encode(properties)), properties)


@given(st.binary(max_size=40))
def test_any_bytes_survive_export_and_import(data):
    properties = decode(data)
    assert fault(properties) is None
    tree = Node({}, {"n": Node(properties)})
    read = parse(render(tree)).children["n"].properties
    again = encode(read)
    assert again == data or same(decode(again), properties)


@given(st.binary(min_size=1, max_size=40).filter(lambda data: b"{" not in data))
def test_raw_data_that_are_no_json_stay_the_same_bytes(data):
    assert encode(decode(data)) == data
