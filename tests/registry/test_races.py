"""What happens in the middle of something else, each provoked on purpose."""

import itertools
import json
import threading
import time

import pytest
from kazoo.exceptions import QuotaExceededError, SessionExpiredError, ThrottledOpError
from kazoo.protocol import serialization as requests
from kazoo.security import make_acl

import zkfleet
from tests.conftest import wait_for
from zkfleet import Status
from zkfleet.errors import AccessDenied, Closed, OutcomeUnknown, WaitTimedOut
from zkfleet.registry import life, registrar
from zkfleet.registry.reads import GetData
from zkfleet.registry.registration import Registration
from zkfleet.registry.session import Replied
from zkfleet.registry.wire import Multi, MultiRead, RemoveWatches, rooted
from zkfleet.testing import Proxy

PROVIDERS = "/svc/providers"
TREE = "/svc\n  threads = 3\n  /providers\n/other\n  /providers\n/lb\n  providers -> /svc/providers\n"


@pytest.fixture
def tree(registry):
    registry.import_tree(TREE)
    return registry


def commit(kazoo, *operations):
    """Do several things in one transaction."""
    transaction = kazoo.transaction()
    for name, *arguments in operations:
        getattr(transaction, name)(*arguments)
    results = transaction.commit()
    assert not [result for result in results if isinstance(result, Exception)]


# -- views


@pytest.mark.parametrize("order", list(itertools.permutations(["children", "providers", "tree"], 2)))
def test_views_of_two_kinds_of_one_path_are_both_told(tree, kazoo, order):
    views = [getattr(tree, kind)(PROVIDERS) for kind in order]
    before = [len(view) for view in views]
    kazoo.create(f"{PROVIDERS}/h:1", b"{}")
    for view, size in zip(views, before, strict=True):
        view.wait_until(lambda v, size=size: len(v) == size + 1, timeout=3)
    kazoo.delete(f"{PROVIDERS}/h:1")
    for view, size in zip(views, before, strict=True):
        view.wait_until(lambda v, size=size: len(v) == size, timeout=3)


def test_what_went_in_one_transaction_is_gone_at_once(tree, kazoo):
    names = [f"{PROVIDERS}/h:{number}" for number in range(1, 51)]
    for name in names:
        kazoo.create(name, b"{}")
    view, seen = tree.providers(PROVIDERS), []
    view(lambda v: seen.append(len(v)))
    commit(kazoo, *(("delete", name) for name in names))
    view.wait_until(lambda v: not v)
    wait_for(lambda: seen[-1] == 0)
    assert seen == [50, 0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["providers", "tree"])
def test_what_was_changed_in_one_transaction_is_seen_whole(tree, kazoo, kind):
    first, second = f"{PROVIDERS}/h:1", f"{PROVIDERS}/h:2"
    commit(kazoo, ("create", first, b'{"weight":1}'), ("create", second, b'{"weight":2}'))
    view, seen = getattr(tree, kind)(PROVIDERS), []

    def weights(v):
        names = ("h:1", "h:2") if kind == "providers" else (first, second)
        return tuple(v[name]["weight"] for name in names)

    view(lambda v: seen.append(weights(v)))
    for number in range(100):
        one, two = (b'{"weight":2}', b'{"weight":1}') if number % 2 == 0 else (b'{"weight":1}', b'{"weight":2}')
        commit(kazoo, ("set_data", first, one), ("set_data", second, two))
    view.wait_until(lambda v: weights(v) == (1, 2) and v.stale_since is None)
    assert set(seen) <= {(1, 2), (2, 1)}


@pytest.mark.slow
def test_a_first_look_shows_one_moment(tree, kazoo):
    names = itertools.cycle([f"{PROVIDERS}/a:1", f"{PROVIDERS}/b:1"])
    there, stop, seen = next(names), threading.Event(), []
    kazoo.create(there, b"{}")

    def swap():
        old = there
        while not stop.is_set():
            new = next(names)
            commit(kazoo, ("delete", old), ("create", new, b"{}"))
            old = new

    swapping = threading.Thread(target=swap)
    swapping.start()
    for _ in range(100):
        view = tree.providers(PROVIDERS)
        seen.append(len(view))
        view.close()
    stop.set()
    swapping.join(10)
    assert seen == [1] * 100


@pytest.mark.slow
def test_a_configuration_over_links_is_never_torn(registry, kazoo):
    registry.import_tree("/a\n  x => /one n\n  y => /two n\n/one\n  n = 0\n/two\n  n = 0\n")
    view, seen = registry.properties("/a"), []
    view(lambda v: seen.append((v["x"], v["y"])))
    for number in range(1, 101):
        data = json.dumps({"n": number}).encode()
        commit(kazoo, ("set_data", "/one", data), ("set_data", "/two", data))
    view.wait_until(lambda v: v["x"] == 100)
    assert all(x == y for x, y in seen)


def test_a_view_that_moves_misses_nothing_of_its_new_place(tree, kazoo, monkeypatch):
    kazoo.create("/other/providers/a:1", b"{}")
    view, ask, done = tree.providers("/lb/providers"), tree.session.ask, []

    def late(batch, then):
        if not done and GetData("/other/providers/a:1") in batch.reads:
            # Somebody joins while the new place is read.
            done.append(
                threading.Thread(target=lambda: (kazoo.create("/other/providers/b:1", b"{}"), ask(batch, then)))
            )
            done[0].start()
        else:
            ask(batch, then)

    monkeypatch.setattr(tree.session, "ask", late)
    tree.ln("/other/providers", "/lb/providers")
    view.wait_until(lambda v: list(v) == ["a:1", "b:1"], timeout=3)
    done[0].join(5)


@pytest.mark.slow
@pytest.mark.faults
def test_a_reply_that_a_former_connection_brought_is_not_believed(hosts, proxy, kazoo, monkeypatch):
    with zkfleet.connect(proxy.hosts + hosts[hosts.index("/") :], session_timeout=5) as registry:
        registry.import_tree(TREE)
        view = registry.providers(PROVIDERS)
        registration = registry.register(PROVIDERS, "h:9", wait=True)
        ask, held = registry.session.ask, []
        monkeypatch.setattr(registry.session, "ask", lambda batch, then: held.append((batch, then)))
        kazoo.create(f"{PROVIDERS}/h:1", b'{"old":1}')
        kazoo.set(f"{PROVIDERS}/h:9", b"{}")
        wait_for(lambda: len(held) >= 2)
        answers = []
        for batch, then in held:
            got = threading.Event()
            ask(batch, lambda answer, error, then=then, got=got: (answers.append((then, answer, error)), got.set()))
            assert got.wait(5)
        monkeypatch.setattr(registry.session, "ask", ask)
        proxy.cut()
        kazoo.delete(f"{PROVIDERS}/h:1")
        view.wait_until(lambda v: list(v) == ["h:9"] and v.stale_since is None)
        for then, answer, error in answers:
            then(answer, error)
        assert registry.get_properties("/svc")["threads"] == 3  # the hub has gone on meanwhile
        kazoo.create(f"{PROVIDERS}/h:2", b"{}")
        view.wait_until(lambda v: "h:2" in v)
        assert list(view) == ["h:2", "h:9"]
        wait_for(lambda: registration.status is Status.REGISTERED)
        assert "pid" in view["h:9"]


# -- callbacks and waits


def test_a_slow_callback_whose_view_goes_on_changing_delays_no_other(tree, kazoo):
    release, calls, steps = threading.Event(), [], []
    slow, quick = tree.children(PROVIDERS), tree.children("/other/providers")
    slow(lambda v: (steps.append(len(v)), len(v) > 1 and release.wait(20)))
    quick(lambda v: calls.append(list(v)))
    for number in range(8):
        kazoo.create(f"{PROVIDERS}/x{number}")
        slow.wait_until(lambda v, number=number: len(v) > number)
    kazoo.create("/other/providers/q")
    wait_for(lambda: ["q"] in calls, timeout=5)
    release.set()
    wait_for(lambda: steps[-1] == 8)


def test_callbacks_that_subscribe_to_each_other_s_views_do_not_wait_for_each_other(tree, kazoo):
    first, second, done, both = tree.children(PROVIDERS), tree.children("/other/providers"), [], threading.Barrier(2)

    def subscribe(to, name):
        def callback(view):
            if view:
                both.wait(5)
                to(lambda v: done.append(name))

        return callback

    first(subscribe(second, "second"))
    second(subscribe(first, "first"))
    kazoo.create(f"{PROVIDERS}/x")
    kazoo.create("/other/providers/x")
    wait_for(lambda: set(done) == {"first", "second"}, timeout=8)


def test_a_predicate_that_takes_its_time_holds_nothing_up(tree, kazoo):
    view, other, release = tree.children(PROVIDERS), tree.children("/other/providers"), threading.Event()
    waiting = threading.Thread(target=lambda: view.wait_until(lambda v: v and release.wait(20), timeout=20))
    waiting.start()
    kazoo.create(f"{PROVIDERS}/a")
    kazoo.create(f"{PROVIDERS}/b")
    kazoo.create("/other/providers/z")
    other.wait_until(lambda v: v, timeout=5)
    release.set()
    waiting.join(10)
    assert not waiting.is_alive()


@pytest.mark.slow
@pytest.mark.faults
def test_a_wait_hears_of_a_link_that_is_lost(proxy):
    with zkfleet.connect(proxy.hosts, session_timeout=5) as registry:
        view = registry.children("/")
        threading.Timer(0.1, proxy.refuse).start()
        assert view.wait_until(lambda v: v.stale_since, 5).stale_since
        since = view.stale_since
        proxy.heal()
        view.wait_until(lambda v: v.stale_since is None, 10)
        assert since is not None


def test_what_only_a_subscriber_could_be_is_asked_of_it(tree):
    with pytest.raises(TypeError, match="function to subscribe"):
        tree.children(PROVIDERS)(None)


# -- permissions that come and go


def test_a_property_stands_before_a_broken_link_of_its_name(registry, kazoo):
    kazoo.create("/own", b'{"x":1,"x =>":"/nowhere","y =>":"/nowhere"}')
    view = registry.properties("/own", watch=False)
    assert (dict(view)["x"], list(view.broken)) == (1, ["x", "y"])
    with pytest.raises(KeyError):
        view["y"]


def test_a_link_to_what_may_not_be_read_is_broken_and_the_rest_is_read(registry, kazoo):
    registry.import_tree("/a\n  x => /secret\n  y = 1\n/secret\n  x = 1\n")
    kazoo.set_acls("/secret", [make_acl("world", "anyone", write=True, admin=True)])
    view = registry.properties("/a")
    assert view["y"] == 1
    assert isinstance(view.broken["x"], AccessDenied)


@pytest.mark.slow
def test_a_view_that_was_refused_comes_back_when_it_may(hosts, kazoo, caplog, monkeypatch):
    monkeypatch.setattr(life, "AUDIT_SECONDS", 0.5)  # of what it may not read, a session is told nothing
    with zkfleet.connect(hosts) as registry:
        registry.import_tree(TREE)
        view = registry.properties("/svc")
        kazoo.set_acls("/svc", [make_acl("world", "anyone", write=True, admin=True)])
        kazoo.set("/svc", b'{"threads":4}')
        wait_for(lambda: view.stale_since)
        assert view["threads"] == 3
        kazoo.set_acls("/svc", [make_acl("world", "anyone", all=True)])
        view.wait_until(lambda v: v["threads"] == 4 and v.stale_since is None)
    assert caplog.text.count("view_unreadable") == 1


@pytest.mark.slow
def test_a_registration_that_was_refused_is_made_when_it_may_be(tree, kazoo, monkeypatch):
    monkeypatch.setattr(registrar, "RETRY_AFTER", 0.2)
    kazoo.set_acls(PROVIDERS, [make_acl("world", "anyone", read=True, admin=True)])
    registration = tree.register(PROVIDERS, "h:1", wait=False)
    wait_for(lambda: registration.status is Status.FAILED)
    kazoo.set_acls(PROVIDERS, [make_acl("world", "anyone", all=True)])
    wait_for(lambda: registration.status is Status.REGISTERED)


# -- registrations


def test_updates_at_the_same_time_all_end_and_all_count(tree, kazoo):
    registration = tree.register(PROVIDERS, "h:1")
    threads = [threading.Thread(target=lambda n=n: registration.update({f"p{n}": n})) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)
    assert {f"p{n}" for n in range(8)} <= json.loads(kazoo.get(f"{PROVIDERS}/h:1")[0]).keys()


def test_an_update_that_is_refused_says_so(tree):
    registration = tree.register(PROVIDERS, "h:1", acl="world:anyone:r")
    with pytest.raises(AccessDenied):
        registration.update(weight=2)


def test_after_an_update_that_was_refused_others_work_and_the_endpoint_stays_ours(tree, kazoo):
    registration = tree.register(PROVIDERS, "h:1", weight=1)
    kazoo.set_acls(f"{PROVIDERS}/h:1", [make_acl("world", "anyone", read=True, admin=True)])
    with pytest.raises(AccessDenied):
        registration.update(weight=2)
    assert registration.status is Status.REGISTERED
    assert registration.properties["weight"] == 1
    assert tree.register(PROVIDERS, "h:1").status is Status.BLOCKED
    kazoo.set_acls(f"{PROVIDERS}/h:1", [make_acl("world", "anyone", all=True)])
    registration.update(note="x")
    assert json.loads(kazoo.get(f"{PROVIDERS}/h:1")[0])["weight"] == 1


def test_a_registration_that_may_not_wait_does_not_come_by_itself(tree, hosts, monkeypatch):
    monkeypatch.setattr(registrar, "RETRY_AFTER", 0.05)
    with zkfleet.connect(hosts) as other:
        first = other.register(PROVIDERS, "h:1")
        second = tree.register(PROVIDERS, "h:1", on_conflict="fail", wait=False)
        wait_for(lambda: second.status is Status.FAILED)
        audited = []
        tree.hub.post(tree.hub.later, 0.3, lambda: audited.append(True))
        wait_for(lambda: audited)
        assert second.status is Status.FAILED
        first.close()


def test_a_closed_registration_takes_no_update(tree):
    registration = tree.register(PROVIDERS, "h:1")
    registration.close()
    with pytest.raises(Closed):
        registration.update(weight=2)
    with pytest.raises(Closed):
        registration.wait_until_registered(1)


def test_what_is_opened_while_the_registry_closes_is_told_so_at_once(hosts, tree):
    registry = zkfleet.connect(hosts, timeout=30)
    registry.hub.post(registry.hub.close_members)
    with pytest.raises(Closed):
        registry.children("/")
    registry.close()


def test_subscribing_to_a_view_that_was_closed_meanwhile_says_so_at_once(tree):
    view = tree.children(PROVIDERS)

    def subscribe_again_and_again():
        for _ in range(1000):
            view(lambda v: None)

    tree._callbacks.submit(view.close)
    with pytest.raises(Closed):
        subscribe_again_and_again()


@pytest.mark.slow
@pytest.mark.faults
def test_an_update_that_is_not_answered_says_so(hosts, proxy):
    through = proxy.hosts + hosts[hosts.index("/") :]
    with zkfleet.connect(through, session_timeout=10, timeout=1) as registry:
        registry.import_tree(TREE)
        registration = registry.register(PROVIDERS, "h:1")
        proxy.black_hole()
        with pytest.raises(WaitTimedOut, match="no answer to the new properties"):
            registration.update(weight=2)
        proxy.heal()


def test_a_deletion_right_after_the_create_is_undone(tree, kazoo, monkeypatch):
    send, done = tree.session.send, []

    def slow(request, then, **options):
        send(request, then, **options)
        if isinstance(request, requests.Create) and not done:
            done.append(wait_for(lambda: kazoo.exists(f"{PROVIDERS}/h:1")))
            kazoo.delete(f"{PROVIDERS}/h:1")

    monkeypatch.setattr(tree.session, "send", slow)
    registration = tree.register(PROVIDERS, "h:1")
    wait_for(lambda: kazoo.exists(f"{PROVIDERS}/h:1"), timeout=3)
    wait_for(lambda: registration.status is Status.REGISTERED)


@pytest.mark.slow
def test_a_registration_whose_watch_was_lost_is_found_by_the_audit(hosts, kazoo, monkeypatch):
    monkeypatch.setattr(life, "AUDIT_SECONDS", 0.5)
    with zkfleet.connect(hosts) as registry:
        registry.import_tree(TREE)
        registry.register(PROVIDERS, "h:1")
        gone = threading.Event()
        request = RemoveWatches(rooted(registry.session.client.chroot, f"{PROVIDERS}/h:1"))
        registry.session.send(request, lambda value, error, zxid: gone.set())
        assert gone.wait(5)
        kazoo.delete(f"{PROVIDERS}/h:1")
        wait_for(lambda: kazoo.exists(f"{PROVIDERS}/h:1"), timeout=10)


def test_what_is_replaced_is_deleted_in_the_version_that_was_seen(tree, kazoo, monkeypatch):
    dead = json.dumps({"pid": 4_000_000, "instance": zkfleet.registry.identity.new_instance()}).encode()
    kazoo.create(f"{PROVIDERS}/h:1", b"", ephemeral=True)
    kazoo.set(f"{PROVIDERS}/h:1", dead)
    sent, send = [], tree.session.send
    monkeypatch.setattr(
        tree.session, "send", lambda request, then, **options: (sent.append(request), send(request, then, **options))
    )
    tree.register(PROVIDERS, "h:1")
    [transaction] = [request for request in sent if isinstance(request, requests.Transaction)]
    assert transaction.operations[0].version == 1


def test_closing_ends_the_session_even_if_removing_is_refused(hosts, tree, kazoo):
    registry = zkfleet.connect(hosts, timeout=5)
    registry.register(PROVIDERS, "h:1")
    kazoo.set_acls(PROVIDERS, [make_acl("world", "anyone", read=True, create=True, admin=True)])
    registry.close()
    wait_for(lambda: kazoo.get_children(PROVIDERS) == [])


@pytest.mark.slow
@pytest.mark.faults
def test_closing_many_takes_one_timeout_and_not_many(zookeeper, hosts):
    with Proxy(zookeeper.port) as relay:
        registry = zkfleet.connect(relay.hosts + hosts[hosts.index("/") :], session_timeout=8, timeout=2)
        registry.import_tree(TREE)
        for port in range(1, 7):
            registry.register(PROVIDERS, f"h:{port}")
        relay.black_hole()
        begun = time.monotonic()
        registry.close()
        assert time.monotonic() - begun < 6
        assert not [thread for thread in threading.enumerate() if thread.name == "zkfleet-registry"]
        relay.heal()


def test_a_batch_that_the_end_of_the_session_refused_is_tried_again(tree, monkeypatch):
    # An ensemble says so in the places of the results; nothing was changed.
    send_once, refused = tree.session.send_once, []

    def refusing(request, **options):
        if not refused:
            refused.append([SessionExpiredError()] * len(request.operations))
            return Replied(refused[0], 1)
        return send_once(request, **options)

    tree.make_node("/so-that-there-is-a-mark")
    monkeypatch.setattr(tree.session, "send_once", refusing)
    tree.import_tree("/new\n  /a\n")
    assert refused
    assert tree.export_tree("/new") == "/new\n  /a\n"


def test_a_lost_reply_to_a_write_of_properties_is_no_second_write(tree, kazoo, monkeypatch):
    send_once, calls = tree.session.send_once, []

    def lossy(request, **options):
        reply = send_once(request, **options)
        calls.append(request)
        if len(calls) == 1:
            raise OutcomeUnknown("the reply was lost")
        return reply

    monkeypatch.setattr(tree.session, "send_once", lossy)
    tree.properties("/svc")["threads"] = 4
    assert (json.loads(kazoo.get("/svc")[0])["threads"], kazoo.get("/svc")[1].version) == (4, 1)
    assert len(calls) == 2  # the write and the fence


@pytest.mark.slow
def test_watches_are_taken_back_though_an_audit_came_between(tree):
    tree.import_tree("".join(f"/n{number}\n" for number in range(20)))
    views = [tree.children(f"/n{number}") for number in range(20)]
    sent, send, done = [], tree.session.send, threading.Event()

    def audit_and_close():
        tree.session.send = lambda request, then, **options: (sent.append(request), send(request, then, **options))
        tree.hub._audit()
        for view in views:
            tree.hub.leave(view._following)
        done.set()

    tree.hub.post(audit_and_close)
    assert done.wait(5)
    assert sum(isinstance(request, RemoveWatches) for request in sent) == 20
    tree.session.send = send


# -- refusals that pass


@pytest.fixture
def refuse(monkeypatch):
    """Have the server's end refuse the next requests of a kind, so many of them."""
    monkeypatch.setattr(registrar, "RETRY_AFTER", 0.05)
    monkeypatch.setattr(registrar, "BUSY_FOR", 0.05)

    def refuse_next(registry, kinds, error, times=2):
        send, left = registry.session.send, [error] * times

        def refusing(request, then, **options):
            if left and isinstance(request, kinds):
                then(None, left.pop(), 0)
            else:
                send(request, then, **options)

        monkeypatch.setattr(registry.session, "send", refusing)
        return lambda: not left

    return refuse_next


WRITES = (requests.Create, requests.SetData, requests.Delete, requests.Transaction, Multi)


def test_a_registration_over_a_quota_comes_when_that_is_raised(tree, kazoo, refuse):
    is_over = refuse(tree, WRITES, QuotaExceededError())
    registration = tree.register(PROVIDERS, "h:1", wait=False)
    registration_fails = wait_for(lambda: registration.problem)
    assert "QuotaExceededError" in str(registration_fails)
    wait_for(lambda: registration.status is Status.REGISTERED)
    assert is_over()
    assert kazoo.exists(f"{PROVIDERS}/h:1")


@pytest.mark.parametrize("kinds", [WRITES, MultiRead], ids=["writes", "reads"])
def test_a_busy_server_is_asked_again_and_nothing_fails(tree, kazoo, refuse, kinds):
    lock = tree.lock("/other", "primary").wait_until_held()
    registration = tree.register(PROVIDERS, "h:1", weight=1)
    seen = []
    lock.subscribe(lambda lock: seen.append(lock.status))
    token = lock.token
    refuse(tree, kinds, ThrottledOpError(), times=4)
    registration.begin_update(weight=2)
    lock.look_again()
    wait_for(lambda: kazoo.exists(f"{PROVIDERS}/h:1").version == 1)
    lock.update(note="written")
    assert (lock.held, lock.token) == (True, token)
    assert set(seen) <= {Status.REGISTERED}
    registration.close()
    assert not kazoo.exists(f"{PROVIDERS}/h:1")


def test_what_a_busy_server_refuses_to_remove_is_removed_soon(tree, kazoo, refuse):
    registration = tree.register(PROVIDERS, "h:1")
    refuse(tree, requests.Delete, ThrottledOpError())
    registration.close()
    assert not kazoo.exists(f"{PROVIDERS}/h:1")


# -- claims that nothing wakes


def everything_below(kazoo, path):
    for name in kazoo.get_children(path):
        yield from everything_below(kazoo, f"{path.rstrip('/')}/{name}")
    yield path


def test_a_claim_at_the_root_of_a_chroot_comes_back_with_it(zookeeper, tree, kazoo, hosts):
    kazoo.create("/app")
    with zkfleet.connect(f"{hosts}/app", session_timeout=5) as registry:
        lock = registry.lock("/", "primary").wait_until_held()
        registration = registry.register("/", "h:1")
        commit(kazoo, *(("delete", path) for path in list(everything_below(kazoo, "/app"))))
        wait_for(lambda: lock.status is registration.status is Status.PENDING)
        kazoo.create("/app")
        lock.wait_until_held(5)
        registration.wait_until_registered(5)


def test_a_claim_named_like_its_parent_comes_with_it(tree, kazoo):
    lock = tree.lock("/other/primary", "primary")
    registration = tree.register("/other/h:1", "h:1", wait=False)
    wait_for(lambda: lock.problem and registration.problem)
    kazoo.create("/other/primary")
    kazoo.create("/other/h:1")
    lock.wait_until_held(5)
    registration.wait_until_registered(5)


# -- registering while the registry is closed


@pytest.mark.parametrize("moment", ["before it is taken in", "while it is decided"])
def test_who_registers_while_the_registry_is_closed_is_told_so(hosts, tree, kazoo, monkeypatch, moment):
    with zkfleet.connect(hosts, timeout=5) as registry:
        at = Registration.begin if moment == "before it is taken in" else Registration.wait_until_decided

        def close_first(registration, *arguments):
            closer = threading.Thread(target=registry.close)
            closer.start()
            closer.join()
            return at(registration, *arguments)

        monkeypatch.setattr(Registration, at.__name__, close_first)
        with pytest.raises(Closed, match="closed"):
            registry.register(PROVIDERS, "h:1")
    wait_for(lambda: kazoo.get_children(PROVIDERS) == [])
