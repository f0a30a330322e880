import pytest
from hypothesis import given
from hypothesis import strategies as st
from kazoo.security import make_acl, make_digest_acl

import zkfleet
from zkfleet.errors import AccessDenied, BadAcl, BadInput, BadPath, NodeNotFound, StalePlan, TooLarge, TreeErrors
from zkfleet.registry.applying import pack
from zkfleet.tree import Plan, make_plan, parse, render
from zkfleet.tree.plan import Create, Hold

TREE = "/a : x\n  n = 1\n  l -> /b\n  p => /b q\n  /c\n    /d\n/b\n  q = 'é'\n"


def test_what_is_imported_is_exported(registry):
    registry.import_tree(TREE)
    assert registry.export_tree() == render(parse(TREE))
    assert registry.export_tree("/a/c") == "/c\n  /d\n"
    assert registry.export_tree("/a/c", name="copy") == "/copy\n  /d\n"
    assert registry.export_tree("/a/l") == "/l\n  q = 'é'\n"


# Generated trees are printed and read back in tests/tree; a generator here would
# share its random numbers with kazoo's threads.
@pytest.mark.parametrize(
    "text",
    [
        "/t\n",
        "/t\n  'odd name' = 'x'\n  'x ->' = 5\n",
        "/t : a type\n  type2 = {'a': [1, None, {'b': 1.5}]}\n",
        "/t\n  string_value = 'bare'\n  /'a # b'\n    bytes_value = b'\\xff'\n",
        "/t\n  l -> '/a b'\n  /'é x'\n    text = 'long " + "x" * 5000 + "'\n",
        "/t\n  string_value = '{}'\n",
    ],
)
def test_odd_trees_survive_import_and_export(registry, text):
    registry.import_tree(text)
    assert parse(registry.export_tree()) == parse(text)


def test_a_reimport_without_changes_writes_nothing(registry, kazoo):
    registry.import_tree(TREE)
    before = kazoo.get("/a")[1].mzxid
    assert not registry.import_tree(TREE).changes
    assert kazoo.get("/a")[1].mzxid == before


def test_ephemerals_are_left_out_unless_asked_for(registry, kazoo):
    kazoo.create("/a")
    kazoo.create("/a/e:1", b'{"pid":1}', ephemeral=True)
    assert registry.export_tree() == "/a\n"
    assert registry.export_tree(ephemeral=True) == "/a\n  /e:1\n    pid = 1\n"


def test_raw_data_are_exported_and_come_back_unharmed(registry, kazoo):
    for name, data in {"text": b"plain", "bytes": b"\xff\x00", "number": b"5", "list": b"[1]"}.items():
        kazoo.create(f"/{name}", data)
    text = registry.export_tree()
    before = {name: kazoo.get(f"/{name}")[0] for name in kazoo.get_children("/")}
    for name in before:
        kazoo.delete(f"/{name}")
    registry.import_tree(text)
    assert {name: kazoo.get(f"/{name}")[0] for name in before} == before


@pytest.mark.parametrize(
    ("text", "path", "options", "error"),
    [
        ("/a\n\tx = 1", "/", {}, TreeErrors),
        ("/a\n  x = __import__('os').getpid()", "/", {"dry_run": True}, TreeErrors),
        ("/a\n  x = {1}", "/", {}, TreeErrors),
        ("/a", "/none", {}, NodeNotFound),
        ("/a", "relative", {}, BadInput),
        ("/a", "/", {"acl": "nonsense"}, BadAcl),
        ("/a", "/", {"acl": "auth::cdrwa"}, BadAcl),
        ("/zookeeper", "/", {}, BadPath),
        (None, "/", {}, BadInput),
        (b"/a", "/", {}, BadInput),
        ("/a", "/", {"trim": "None"}, BadInput),
        (f"/a\n  /b\n    x = '{'y' * 1_100_000}'", "/", {}, TooLarge),
    ],
)
def test_bad_input_is_refused_and_nothing_is_changed(registry, kazoo, text, path, options, error):
    with pytest.raises(error):
        registry.import_tree(text, path, **options)
    assert set(kazoo.get_children("/")) <= {".zkfleet"}


def test_data_that_are_too_large_are_refused_with_the_node_s_name(registry):
    with pytest.raises(TooLarge) as caught:
        registry.import_tree(f"/ok\n/a\n  /b\n    x = '{'y' * 1_100_000}'")
    assert caught.value.path == "/a/b"


def test_trimming_keeps_what_holds_ephemerals(registry, kazoo):
    registry.import_tree("/a\n  /b\n    /c\n  /d\n")
    kazoo.create("/a/b/e:1", ephemeral=True)
    plan = registry.import_tree("/a\n", trim=True)
    assert [step.path for step in plan.steps if isinstance(step, Hold)] == ["/a/b"]
    assert registry.export_tree() == "/a\n  /b\n"


def test_a_tree_that_moved_is_left_alone(registry, kazoo):
    registry.import_tree(TREE)
    plan = registry.plan_tree("/a : x\n  n = 2\n/new\n")
    kazoo.set("/a", b'{"other":1}')
    with pytest.raises(StalePlan) as caught:
        registry.apply_plan(plan)
    assert caught.value.paths == ("/a",)
    assert not kazoo.exists("/new")


def test_a_node_made_anew_with_the_same_version_is_noticed(registry, kazoo):
    registry.import_tree("/a\n  n = 1\n")
    plan = registry.plan_tree("/a\n  n = 2\n")
    kazoo.delete("/a")
    kazoo.create("/a", b'{"n":1}')
    with pytest.raises(StalePlan):
        registry.apply_plan(plan)


def test_a_node_that_somebody_made_meanwhile_is_noticed_and_nothing_is_half_done(registry, kazoo):
    plan = registry.plan_tree("/a\n/b\n")
    kazoo.create("/b")
    with pytest.raises(StalePlan, match="/b"):
        registry.apply_plan(plan)
    assert not kazoo.exists("/a")


def test_a_saved_plan_is_applied_and_its_inverse_undoes_it(registry):
    registry.import_tree(TREE)
    before = registry.export_tree()
    plan = Plan.from_json(registry.plan_tree("/a\n  n = 5\n  /new\n", trim=True).to_json())
    registry.apply_plan(plan)
    assert registry.export_tree("/a") == "/a\n  n = 5\n  /new\n"
    registry.apply_plan(plan.inverse())
    assert registry.export_tree() == before


def test_acls_are_set_on_new_nodes_and_changed_only_when_given(registry, kazoo):
    registry.import_tree("/a\n")
    registry.import_tree("/a\n  /b\n", acl="world:anyone:cdrwa")
    kazoo.set_acls("/a", [make_acl("world", "anyone", read=True, create=True, admin=True)])
    registry.import_tree("/a\n  /b\n  /c\n")
    assert kazoo.get_acls("/a")[0][0].perms != 31
    plan = registry.import_tree("/a\n  /b\n  /c\n", acl="world:anyone:cdrwa")
    assert plan.counts()["set-acl"] == 1
    assert kazoo.get_acls("/a")[0][0].perms == 31


@pytest.mark.parametrize(
    ("perms", "permission", "text"),
    [("cdwa", "read", "/a\n  /b"), ("dra", "create", "/a\n  /b"), ("cdra", "write", "/a\n  x = 1")],
)
def test_a_missing_permission_is_named(registry, kazoo, perms, permission, text):
    names = {"c": "create", "d": "delete", "r": "read", "w": "write", "a": "admin"}
    kazoo.create("/a", acl=[make_acl("world", "anyone", **{names[letter]: True for letter in perms})])
    with pytest.raises(AccessDenied) as caught:
        registry.import_tree(text)
    assert permission in str(caught.value)
    assert "/a" in str(caught.value)


def test_credentials_open_what_is_closed(registry, hosts, kazoo):
    kazoo.create("/secret", b'{"x":1}', acl=[make_digest_acl("ann", "pw", all=True)])
    with pytest.raises(AccessDenied):
        registry.get_properties("/secret")
    with zkfleet.connect(hosts, auth=[("digest", "ann:pw")]) as ann:
        assert ann.get_properties("/secret") == {"x": 1}


def test_a_large_import_is_split_and_tells_how_far_it_is(registry, kazoo):
    value = "y" * 100_000
    text = "/big\n" + "".join(f"  /n{number}\n    x = '{value}'\n" for number in range(25))
    calls = []
    registry.import_tree(text, progress=lambda done, total: calls.append((done, total)))
    assert len(calls) == 4
    assert calls[-1] == (26, 26)
    assert len(kazoo.get_children("/big")) == 25


@given(st.lists(st.integers(0, 5000), max_size=40), st.integers(5000, 20000))
def test_packing_keeps_the_order_and_the_limit(sizes, limit):
    steps = [Create(f"/n{number}", b"x" * size) for number, size in enumerate(sizes)]
    runs = list(pack(steps, "/", limit))
    assert [step for run in runs for step in run] == steps
    assert all(sum(len(step.data) for step in run) <= limit for run in runs)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4000)), max_size=30), st.integers(5000, 20000))
def test_a_subtree_is_cut_only_if_no_packet_holds_it(nodes, limit):
    steps = [Create(f"/top/{name}/n{number}", b"x" * size) for number, (name, size) in enumerate(nodes)]
    runs = list(pack(steps, "/top", limit))
    assert sorted(step.path for run in runs for step in run) == sorted(step.path for step in steps)
    for name in "abc":
        of_one = [step for step in steps if step.path.startswith(f"/top/{name}/")]
        if sum(len(step.data) + 100 for step in of_one) <= limit:
            assert sum(any(step in run for step in of_one) for run in runs) <= 1


def test_a_session_that_ends_between_plan_and_apply_does_no_harm(registry, hosts):
    from zkfleet.testing import expire_session

    plan = registry.plan_tree(TREE)
    expire_session(hosts, registry.session.client.client_id)
    registry.apply_plan(plan)
    assert not make_plan(parse(TREE), {}).left_over
    assert not registry.plan_tree(TREE).changes


@pytest.mark.parametrize("name", ["..", "a/b", "a\nb", ""])
def test_a_tree_is_not_exported_under_a_name_that_none_can_have(registry, name):
    with pytest.raises(BadPath):
        registry.export_tree("/", name=name)


def test_the_inverse_of_a_plan_does_not_open_what_was_closed(registry, kazoo):
    registry.import_tree("/a\n")
    acl = [make_digest_acl("ann", "pw", all=True), make_acl("world", "anyone", read=True)]
    kazoo.create("/a/secret", b'{"x":1}', acl=acl)
    plan = registry.import_tree("/a\n", trim=True)
    assert not kazoo.exists("/a/secret")
    registry.apply_plan(plan.inverse())
    assert sorted((entry.id.scheme, entry.perms) for entry in kazoo.get_acls("/a/secret")[0]) == [
        ("digest", 31),
        ("world", 1),
    ]


def test_ephemeral_nodes_have_no_children_and_say_what_their_owners_say(registry, kazoo):
    registry.import_tree("/a\n")
    kazoo.create("/a/h:1", b'{"pid":1}', ephemeral=True)
    with pytest.raises(BadInput, match="/a/h:1/x: the node above it is ephemeral"):
        registry.import_tree("/a\n  /h:1\n    /x\n")
    plan = registry.import_tree("/a\n  /h:1\n    pid = 2\n")
    assert (plan.changes, kazoo.get("/a/h:1")[0]) == (False, b'{"pid":1}')


def test_a_parent_that_changed_is_no_place_to_put_nodes_under(registry, kazoo):
    registry.import_tree("/a\n  n = 1\n")
    plan = registry.plan_tree("/a\n  n = 1\n  /b\n  /c\n")
    kazoo.set("/a", b'{"n":2}')
    with pytest.raises(StalePlan) as caught:
        registry.apply_plan(plan)
    assert caught.value.paths == ("/a",)
    assert kazoo.get_children("/a") == []
