import gc
import threading

import pytest

import zkfleet
from tests.conftest import wait_for
from zkfleet.errors import BadProperties, Closed, LinkLoop, NodeNotFound, WaitTimedOut
from zkfleet.registry import InvalidProvider

TREE = """
/lb
  providers -> /svc/providers
  threads => /svc
/svc
  threads = 3
  /providers
/other
  /providers
"""


@pytest.fixture
def tree(registry):
    registry.import_tree(TREE)
    return registry


def test_children_are_followed_over_links(tree, kazoo):
    view = tree.children("/lb/providers")
    assert (list(view), view.path, view.real_path) == ([], "/lb/providers", "/svc/providers")
    kazoo.create("/svc/providers/b")
    kazoo.create("/svc/providers/a")
    view.wait_until(lambda v: len(v) == 2)
    assert list(view) == ["a", "b"]
    assert "a" in view
    assert view[0] == "a"


def test_providers_map_endpoints_to_their_properties(tree, kazoo):
    kazoo.create("/svc/providers/h:1", b'{"pid":1}')
    view = tree.providers("/svc/providers")
    assert dict(view) == {"h:1": {"pid": 1}}
    kazoo.set("/svc/providers/h:1", b'{"pid":2}')
    view.wait_until(lambda v: v["h:1"]["pid"] == 2)
    kazoo.delete("/svc/providers/h:1")
    view.wait_until(lambda v: not v)


def test_an_unreadable_provider_does_not_break_the_others(tree, kazoo):
    kazoo.create("/svc/providers/h:1", b"\xff not JSON")
    kazoo.create("/svc/providers/h:2", b'{"state":"draining"}')
    kazoo.create("/svc/providers/h:3", b"{}")
    view = tree.providers("/svc/providers")
    assert isinstance(view["h:1"], InvalidProvider)
    assert view["h:1"].raw == b"\xff not JSON"
    for data in (b'{"a":NaN}', b'{"a":"\\ud800"}', b"[1]", b"text"):
        kazoo.set("/svc/providers/h:1", data)
        view.wait_until(lambda v, data=data: isinstance(v["h:1"], InvalidProvider) and v["h:1"].raw == data)
    assert [str(endpoint) for endpoint in view.endpoints] == ["h:3"]


def test_a_provider_that_was_made_anew_is_a_change_even_if_it_says_the_same(tree, kazoo):
    kazoo.create("/svc/providers/h:1", b"{}")
    view, calls = tree.providers("/svc/providers"), []
    view(lambda v: calls.append(dict(v)))
    with kazoo.transaction() as both:
        both.delete("/svc/providers/h:1")
        both.create("/svc/providers/h:1", b"{}")
    wait_for(lambda: len(calls) == 2)
    assert calls == [{"h:1": {}}] * 2


def test_properties_follow_property_links(tree):
    view = tree.properties("/lb")
    assert view["threads"] == 3
    assert view["threads =>"] == "/svc"
    assert view.explain("threads").chain == (("/lb", "threads"), ("/svc", "threads"))
    tree.properties("/svc")["threads"] = 4
    view.wait_until(lambda v: v["threads"] == 4)
    with pytest.raises(KeyError):
        view.explain("nothing")


def test_a_writer_reads_what_it_wrote(tree):
    view = tree.properties("/svc")
    view.update({"a": 1, "b": 1}, b=2)
    assert dict(view) == {"threads": 3, "a": 1, "b": 2}
    view.set(c=1)
    assert dict(view) == {"c": 1}
    view["d"] = 2
    del view["c"]
    assert dict(view) == {"d": 2}


def test_a_linked_property_is_not_written_where_the_link_is(tree):
    with pytest.raises(BadProperties, match="property link"):
        tree.properties("/lb")["threads"] = 5


def test_properties_that_are_not_watched_can_be_written_and_not_followed(tree):
    view = tree.properties("/svc", watch=False)
    with pytest.raises(TypeError, match="without watching"):
        view(print)
    view["threads"] = 9
    assert view["threads"] == 9


@pytest.mark.slow
def test_two_writers_lose_nothing(hosts, tree):
    with zkfleet.connect(hosts) as other:
        views = [tree.properties("/svc"), other.properties("/svc")]

        def write(view, prefix):
            for number in range(50):
                view.update({f"{prefix}{number}": number})

        threads = [threading.Thread(target=write, args=pair) for pair in zip(views, "ab", strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(tree.get_properties("/svc")) == 101


def test_a_subscriber_is_called_at_once_and_on_every_change_off_kazoo_s_threads(tree, kazoo):
    calls = []

    @tree.children("/svc/providers")
    def changed(view):
        calls.append((list(view), threading.current_thread().name))

    assert calls == [([], "zkfleet-callbacks")]
    kazoo.create("/svc/providers/a")
    wait_for(lambda: len(calls) == 2)
    assert calls[1] == (["a"], "zkfleet-callbacks")
    assert list(changed) == ["a"]


def test_a_callback_that_raises_is_logged_and_the_rest_go_on(tree, kazoo, caplog):
    calls, view = [], tree.children("/svc/providers")
    view(lambda v: 1 / 0)
    view(lambda v: calls.append(list(v)))
    kazoo.create("/svc/providers/a")
    wait_for(lambda: calls == [[], ["a"]])
    assert "callback_failed" in caplog.text


def test_a_callback_that_blocks_delays_no_other_view(tree, kazoo):
    release, calls = threading.Event(), []
    slow, quick = tree.children("/svc/providers"), tree.children("/other/providers")
    slow(lambda v: v and release.wait(20))
    quick(lambda v: calls.append(list(v)))
    kazoo.create("/svc/providers/a")
    kazoo.create("/other/providers/b")
    wait_for(lambda: ["b"] in calls, timeout=5)
    release.set()


def test_a_callback_may_call_the_registry_and_close_it(hosts, tree, kazoo):
    closed = threading.Event()
    registry = zkfleet.connect(hosts)

    @registry.children("/svc/providers")
    def changed(view):
        if view:
            assert registry.get_properties("/svc") == {"threads": 3}
            registry.close()
            closed.set()

    kazoo.create("/svc/providers/a")
    assert closed.wait(10)


def test_a_link_that_is_retargeted_moves_its_views(tree, kazoo):
    view = tree.providers("/lb/providers")
    kazoo.create("/other/providers/x:1", b"{}")
    tree.ln("/other/providers", "/lb/providers")
    view.wait_until(lambda v: "x:1" in v)
    assert view.real_path == "/other/providers"


def test_a_node_that_is_moved_behind_a_link_keeps_its_views(tree, kazoo):
    view = tree.children("/svc/providers")
    tree.ln("/other/providers", "/svc/")
    kazoo.create("/other/providers/x")
    kazoo.delete("/svc/providers")
    view.wait_until(lambda v: list(v) == ["x"])
    assert view.real_path == "/other/providers"


def test_a_path_that_leads_nowhere_any_more_empties_the_view_and_says_so(tree, kazoo):
    kazoo.create("/svc/providers/a")
    view, calls = tree.children("/svc/providers"), []
    view(lambda v: calls.append((list(v), type(v.problem))))
    kazoo.delete("/svc/providers", recursive=True)
    view.wait_until(lambda v: v.problem)
    assert isinstance(view.problem, NodeNotFound)
    assert view.real_path is None
    kazoo.create("/svc/providers")
    kazoo.create("/svc/providers/b")
    view.wait_until(lambda v: list(v) == ["b"])
    wait_for(lambda: calls[-1] == (["b"], type(None)))
    assert ([], NodeNotFound) in calls


@pytest.mark.parametrize("verb", ["children", "providers", "properties", "resolve", "get_properties"])
def test_a_path_that_leads_nowhere_is_an_error(registry, verb):
    with pytest.raises(NodeNotFound) as caught:
        getattr(registry, verb)("/none/such")
    assert caught.value.missing == "/none"
    assert caught.value.hint


def test_links_in_a_loop_are_an_error_with_the_chain(registry):
    registry.import_tree("/a\n  x -> y\n  y -> x\n")
    with pytest.raises(LinkLoop) as caught:
        registry.children("/a/x")
    assert caught.value.chain == ("/a/x", "/a/y", "/a/x")


def test_a_wait_ends_with_its_deadline(tree):
    with pytest.raises(WaitTimedOut, match=r"/svc/providers.*0\.05 s"):
        tree.children("/svc/providers").wait_until(lambda v: v, timeout=0.05)


def test_closing_the_registry_shows_no_view_that_its_own_registrations_go(hosts, tree):
    names = [f"h:{port}" for port in range(1, 6)]
    with zkfleet.connect(hosts, session_timeout=5) as registry:
        for name in names:
            registry.register("/svc/providers", name)
        views = [registry.children("/svc/providers"), registry.providers("/lb/providers"), registry.tree("/svc")]
        shown, calls = [list(view) for view in views], []
        for view in views:
            view(lambda view: calls.append(list(view)))
        registered = registry.properties("/svc/providers/h:1")
        said = dict(registered)
    assert sorted(calls) == sorted(shown)
    assert [list(view) for view in views] == shown
    assert dict(registered) == said
    assert tree.children("/svc/providers").snapshot.content == ()


def test_a_callback_that_closes_the_registry_is_the_last_one(hosts, tree, kazoo):
    calls, closed = [], threading.Event()
    with zkfleet.connect(hosts, session_timeout=5) as registry:
        registry.register("/svc/providers", "h:1")
        view = registry.children("/svc/providers")

        @view
        def close_when_it_grew(view):
            calls.append(list(view))
            if len(view) > 1:
                registry.close()
                closed.set()

        view(lambda view: calls.append(list(view)))
        kazoo.create("/svc/providers/x")
        assert closed.wait(10)
    assert calls == [["h:1"], ["h:1"], ["h:1", "x"]]
    assert list(view) == ["h:1", "x"]


def test_a_closed_view_keeps_its_last_state_and_takes_no_subscriber(tree):
    view = tree.properties("/svc")
    view.close()
    view.close()
    assert view["threads"] == 3
    with pytest.raises(Closed):
        view(print)


def test_views_that_are_dropped_stop_watching(tree):
    views = [tree.children("/svc/providers") for _ in range(20)] + [tree.properties("/svc")]
    assert tree.statistics().watches == 2
    assert tree.statistics().views == 21
    views.clear()
    gc.collect()
    wait_for(lambda: tree.statistics().watches == 0)
    assert tree.statistics().views == 0


def test_a_view_with_a_subscriber_lives_on_without_a_reference(tree, kazoo):
    calls = []
    tree.children("/svc/providers")(lambda v: calls.append(list(v)))
    gc.collect()
    kazoo.create("/svc/providers/a")
    wait_for(lambda: calls == [[], ["a"]])


def test_a_plain_path_costs_one_watch_and_a_link_those_it_rests_on(tree):
    plain = tree.children("/svc/providers")
    assert tree.statistics().watches == 1
    linked = tree.children("/lb/providers")
    assert tree.statistics().watches == 3
    assert (len(plain), len(linked)) == (0, 0)


def test_a_whole_tree_is_followed_with_one_watch(tree, kazoo):
    view, texts = tree.tree("/lb/providers"), []
    view(lambda v: texts.append(v.text))
    watches = tree.statistics().watches
    kazoo.create("/svc/providers/h:1", b'{"pid":1}', ephemeral=True)
    kazoo.create("/svc/providers/h:1x", b"")
    kazoo.create("/svc/providers/h:1x/deep", b"")
    view.wait_until(lambda v: len(v) == 4)
    kazoo.set("/svc/providers/h:1x/deep", b'{"x":1}')
    view.wait_until(lambda v: v["/svc/providers/h:1x/deep"] == {"x": 1})
    assert view.root.children["h:1"].properties == {"pid": 1}
    wait_for(lambda: texts[-1] == "/providers\n  /h:1\n    pid = 1\n  /h:1x\n    /deep\n      x = 1\n")
    assert texts[0] == "/providers\n"
    assert tree.statistics().watches == watches
    kazoo.delete("/svc", recursive=True)
    view.wait_until(lambda v: v.problem)
    assert (len(view), view.text) == (0, "")


def test_many_views_add_no_threads(tree):
    tree.children("/svc/providers")(lambda v: None)
    before = threading.active_count()
    views = [tree.providers("/svc/providers") for _ in range(50)]
    assert threading.active_count() == before
    assert len(views) == 50
