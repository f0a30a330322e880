import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tree.test_round_trip import NAMES, NODES, TREES
from zkfleet import paths
from zkfleet.errors import BadInput, BadProperties
from zkfleet.tree import OPEN, Acl, Node, Plan, Seen, encode, make_plan, parse, render
from zkfleet.tree.plan import Create, Delete, Hold, SetAcl, Update
from zkfleet.tree.validate import flatten

READ = (Acl("r", "world", "anyone"),)


def seen(text, **ephemeral):
    """The znodes that a tree text describes, as if they had been read."""
    return {path: Seen(encode(properties), version=3, czxid=9) for path, properties in flatten(parse(text))}


def apply(plan, current):
    after = dict(current)
    for step in plan.steps:
        match step:
            case Create(path, data, acl):
                assert path not in after
                assert paths.split(path)[0] in after
                after[path] = Seen(data, acl=acl)
            case Update(path, before, data):
                assert after[path].data == before
                after[path] = Seen(data)
            case Delete(path):
                assert not any(paths.split(other)[0] == path for other in after if other != "/")
                del after[path]
    return after


def test_what_is_missing_is_created_parents_first():
    plan = make_plan(parse("/a\n  x = 1\n  /b\n/c"), {"/": Seen()})
    assert plan.steps == (
        Create("/a", b'{"x":1}', OPEN, 0),
        Create("/a/b", b"{}"),
        Create("/c", b"{}", OPEN, 0),
    )


def test_what_differs_is_updated_with_the_versions_seen():
    plan = make_plan(parse("/a\n  x = 2"), seen("/a\n  x = 1"))
    assert plan.steps == (Update("/a", b'{"x":1}', b'{"x":2}', 3, 9),)


def test_bytes_that_say_the_same_are_left_alone():
    plan = make_plan(parse("/a\n  x = 1\n  y = 2"), {"/": Seen(), "/a": Seen(b'{"y": 2, "x": 1}')})
    assert not plan.changes


def test_what_the_text_leaves_out_is_reported_once_at_its_top():
    current = seen("/a\n  /b\n    /c\n  /d\n/other")
    assert make_plan(parse("/a\n  /d"), current).left_over == ("/a/b",)
    assert make_plan(parse("/a\n  /d"), current, trim=False) == Plan("/")


def test_trimming_deletes_children_first_and_no_other_top_level_node():
    plan = make_plan(parse("/a\n  /d"), seen("/a\n  /b\n    /c\n  /d\n/other"), trim=True)
    assert [step.path for step in plan.steps] == ["/a/b/c", "/a/b"]


def test_what_holds_an_ephemeral_is_held():
    current = seen("/a\n  /b\n    /c\n      /d")
    current["/a/b/c/h:1"] = Seen(ephemeral=True)
    plan = make_plan(parse("/a"), current, trim=True)
    assert plan.steps == (
        Delete("/a/b/c/d", b"{}", 3, 9),
        Hold("/a/b", "/a/b/c/h:1 lives below"),
        Hold("/a/b/c", "/a/b/c/h:1 lives below"),
    )


def test_ephemerals_are_not_left_over():
    current = seen("/a")
    current["/a/h:1"] = Seen(ephemeral=True)
    assert make_plan(parse("/a"), current).left_over == ()


def test_a_tree_can_be_put_below_a_node():
    current = {"/x/y": Seen(), "/x/y/a": Seen(), "/x/y/a/old": Seen(), "/x/y/b": Seen()}
    plan = make_plan(parse("/a\n  /new"), current, path="/x/y", trim=True)
    assert [step.path for step in plan.steps] == ["/x/y/a/new", "/x/y/a/old"]


def test_acls_of_existing_nodes_change_only_when_one_is_given():
    current = {"/": Seen(), "/a": Seen(aversion=4, czxid=9, acl=READ)}
    assert not make_plan(parse("/a"), current).changes
    other = (Acl("cdrwa", "auth", ""),)
    plan = make_plan(parse("/a\n  /b"), current, acl=other)
    assert plan.steps == (Create("/a/b", b"{}", other, 0), SetAcl("/a", READ, other, 4, 9))


def test_a_new_node_rests_on_its_parent_as_it_was_seen_unless_the_plan_writes_that():
    current = seen("/a\n  x = 1")
    assert make_plan(parse("/a\n  x = 1\n  /b\n    /c"), current).steps == (
        Create("/a/b", b"{}", OPEN, 3),
        Create("/a/b/c", b"{}", OPEN, None),
    )
    assert make_plan(parse("/a\n  x = 2\n  /b"), current).steps[0] == Create("/a/b", b"{}", OPEN, None)


def test_an_ephemeral_node_says_what_its_owner_says():
    current = seen("/a")
    current["/a/h:1"] = Seen(b'{"pid":1}', ephemeral=True)
    plan = make_plan(parse("/a\n  /h:1\n    pid = 2"), current)
    assert plan.steps == (Hold("/a/h:1", "it is ephemeral, and says what its owner says"),)
    assert not plan.changes


def test_a_plan_reads_as_people_read_a_change():
    current = seen("/a\n  x = 1\n  y = 2\n  /old\n    p = 'q'\n  /held")
    current["/a/held/h:1"] = Seen(ephemeral=True)
    plan = make_plan(parse("/a\n  y = 3\n  z -> /b\n  /new\n    n = 1"), current, trim=True)
    assert str(plan).splitlines() == [
        "+ /a/new",
        "    + n = 1",
        "~ /a",
        "    - x = 1",
        "    - y = 2",
        "    + y = 3",
        "    + z -> /b",
        "- /a/old",
        "    - p = 'q'",
        "! /a/held is kept: /a/held/h:1 lives below",
        "1 to create, 1 to update, 1 to delete, 1 to hold",
    ]
    assert plan.counts() == {"create": 1, "update": 1, "set-acl": 0, "delete": 1, "hold": 1}


def test_a_plan_without_changes_says_so():
    assert str(make_plan(parse("/a"), seen("/a"))) == "nothing to change"


@settings(max_examples=60)
@given(TREES, TREES)
def test_applying_a_plan_gives_the_wanted_tree_and_its_inverse_the_one_before(before, wanted):
    current = {path: Seen(encode(properties)) for path, properties in flatten(before)}
    plan = make_plan(wanted, current, trim=True)
    after = apply(plan, current)
    assert not make_plan(wanted, after, trim=True).changes
    assert {path: node.data for path, node in apply(plan.inverse(), after).items()} == {
        path: node.data for path, node in current.items()
    }


@settings(max_examples=60)
@given(TREES, TREES, st.sampled_from([None, READ]))
def test_a_plan_survives_being_saved(before, wanted, acl):
    current = {path: Seen(encode(properties), acl=READ[:0] or READ) for path, properties in flatten(before)}
    plan = make_plan(wanted, current, trim=True, acl=acl)
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"format": "zkfleet plan 9"}', '{"format": "zkfleet plan 1"}']
)
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(BadInput):
        Plan.from_json(text)


@given(NAMES, NODES)
def test_planning_never_fails_on_a_tree_that_was_parsed(name, node):
    text = render(Node({}, {name: node}))
    assert make_plan(parse(text), {"/": Seen()}).counts()["create"] >= 1


def test_a_value_that_json_cannot_hold_is_named():
    with pytest.raises(BadProperties, match="'x'"):
        make_plan(Node({}, {"a": Node({"x": {1, 2}})}), {})
