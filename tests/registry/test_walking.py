import pytest

from zkfleet.errors import BadPath, NodeNotFound


@pytest.fixture
def tree(registry, kazoo):
    registry.import_tree("/a\n  /b\n    /c\n  /d\n/l\n  a -> /a\n")
    kazoo.create("/a/d/e:1", ephemeral=True)
    return registry


def test_a_walk_goes_parents_first_and_in_order(tree):
    assert list(tree.walk()) == ["/", "/a", "/a/b", "/a/b/c", "/a/d", "/a/d/e:1", "/l"]
    assert list(tree.walk("/l/a", ephemeral=False)) == ["/a", "/a/b", "/a/b/c", "/a/d"]


def test_a_walk_can_be_pruned_at_every_node(tree):
    seen = []
    for path, children in tree.walk("/a", children=True):
        seen.append(path)
        if "c" in children:
            children.remove("c")
    assert seen == ["/a", "/a/b", "/a/d", "/a/d/e:1"]


def test_a_walk_sees_what_changes_on_the_way(tree):
    seen = []
    for path in tree.walk("/a"):
        seen.append(path)
        if path == "/a":
            tree.delete_recursive("/a/b")
    assert seen == ["/a", "/a/d", "/a/d/e:1"]


def test_ephemerals_are_told_apart(tree):
    assert tree.is_ephemeral("/l/a/d/e:1")
    assert not tree.is_ephemeral("/a")
    with pytest.raises(NodeNotFound):
        tree.is_ephemeral("/none")


def test_what_holds_ephemerals_is_held_with_the_reason(tree, kazoo):
    done = tree.delete_recursive("/a", dry_run=True)
    assert done == tree.delete_recursive("/a")
    assert done.deleted == ("/a/b/c", "/a/b")
    assert dict(done.held) == {
        "/a": "/a/d/e:1 below it is ephemeral",
        "/a/d": "/a/d/e:1 below it is ephemeral",
        "/a/d/e:1": "it is ephemeral",
    }
    assert kazoo.exists("/a/d/e:1")


def test_force_deletes_ephemerals_too(tree, kazoo):
    assert len(tree.delete_recursive("/a", force=True).deleted) == 5
    assert not kazoo.exists("/a")


@pytest.mark.parametrize("path", ["/", "/zookeeper", "/zookeeper/quota"])
def test_what_is_zookeeper_s_own_is_not_deleted(tree, path):
    with pytest.raises(BadPath):
        tree.delete_recursive(path)


def test_links_are_not_followed_when_deleting(tree):
    with pytest.raises(NodeNotFound):
        tree.delete_recursive("/l/a")
