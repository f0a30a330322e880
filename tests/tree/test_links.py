import pytest

from zkfleet.errors import LinkLoop, NodeNotFound
from zkfleet.tree import links, parse
from zkfleet.tree.validate import flatten

TREE = """
/a
  here -> .
  /b
    l -> c
    l2 -> ../c
    far -> /lb/pools
    nowhere -> /x/y
    number => ../c size
    same => /a/c
    chain => /lb limit
    broken => /a/c color
    gone => /x size
    /c
  /c
    size = 7
    same = 'yes'
/lb
  pools -> /a/b
  limit => /a/c size
  one -> two
  two -> one
  up => /lb down
  down => . up
  self -> self
"""


@pytest.fixture
def lookup():
    nodes = dict(flatten(parse(TREE)))
    return nodes.get


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/b/l", "/a/b/c"),
        ("/a/b/l2", "/a/c"),
        ("/a/here", "/a"),
        ("/a/here/here/b/l", "/a/b/c"),
        ("/lb/pools/c", "/a/b/c"),
        ("/lb/pools/far/far/l2", "/a/c"),
    ],
)
def test_links_are_followed_anywhere_on_a_path(lookup, path, real):
    assert links.resolve(path, lookup) == real


def test_a_real_child_shadows_a_link():
    nodes = {"/": {}, "/a": {"x ->": "/b"}, "/a/x": {}, "/b": {}}
    assert links.resolve("/a/x", nodes.get) == "/a/x"


@pytest.mark.parametrize(
    ("path", "missing"),
    [("/x", "/x"), ("/x/y/z", "/x"), ("/a/b/z", "/a/b/z"), ("/lb/pools/z", "/a/b/z"), ("/a/b/nowhere", "/x")],
)
def test_a_path_that_leads_nowhere_names_what_is_missing(lookup, path, missing):
    with pytest.raises(NodeNotFound) as caught:
        links.resolve(path, lookup)
    assert (caught.value.path, caught.value.missing) == (path, missing)


def test_a_loop_is_reported_with_the_whole_chain(lookup):
    with pytest.raises(LinkLoop) as caught:
        links.resolve("/lb/one", lookup)
    assert caught.value.chain == ("/lb/one", "/lb/two", "/lb/one")
    with pytest.raises(LinkLoop):
        links.resolve("/lb/self/x", lookup)


def test_a_plain_path_is_found_with_one_look():
    asked = []

    def lookup(path):
        asked.append(path)
        return {}

    assert links.resolve("/a/b/c", lookup) == "/a/b/c"
    assert asked == ["/a/b/c"]


@pytest.mark.parametrize(
    ("name", "value", "chain"),
    [
        ("number", 7, (("/a/b", "number"), ("/a/c", "size"))),
        ("same", "yes", (("/a/b", "same"), ("/a/c", "same"))),
        ("chain", 7, (("/a/b", "chain"), ("/lb", "limit"), ("/a/c", "size"))),
    ],
)
def test_property_links_are_followed(lookup, name, value, chain):
    found = links.property_value("/a/b", name, lookup)
    assert (found.value, found.chain) == (value, chain)


@pytest.mark.parametrize(("name", "missing"), [("broken", "/a/c color"), ("gone", "/x"), ("none", "/a/b none")])
def test_a_property_that_is_nowhere_names_what_is_missing(lookup, name, missing):
    with pytest.raises(NodeNotFound) as caught:
        links.property_value("/a/b", name, lookup)
    assert caught.value.missing == missing


def test_a_loop_of_property_links_is_reported_with_the_whole_chain(lookup):
    with pytest.raises(LinkLoop) as caught:
        links.property_value("/lb", "up", lookup)
    assert caught.value.chain == ("/lb up", "/lb down", "/lb up")


def test_linked_values_join_the_raw_properties():
    nodes = {"/a": {"x =>": "/b", "y": 1}, "/b": {"x": 2}}
    assert links.resolved_properties("/a", nodes.get) == {"x =>": "/b", "y": 1, "x": 2}
