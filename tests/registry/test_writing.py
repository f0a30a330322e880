"""Is every write made once, and its outcome told as it is, when a request or its reply is lost?

A relay loses what goes to the server, or what comes from it; somebody else may
write meanwhile; then the link is healed.
"""

import asyncio
import struct
import threading
from functools import partial

import pytest
from kazoo.exceptions import KazooException, NoAuthError
from kazoo.protocol.serialization import Create, Delete, SetData
from kazoo.security import make_acl

import zkfleet
from tests.conftest import wait_for
from zkfleet import Status
from zkfleet.errors import BadPath, NodeNotFound, NotConnected, OutcomeUnknown, StalePlan
from zkfleet.registry import aio
from zkfleet.registry.wire import Multi, NotSent, rooted
from zkfleet.testing import Proxy, expire_session

REQUEST, REPLY = "request", "reply"


@pytest.fixture
def relay(zookeeper):
    with Proxy(zookeeper.port) as relay:
        yield relay


@pytest.fixture
def other(hosts):
    """Somebody else, whose link holds."""
    with zkfleet.connect(hosts) as registry:
        yield registry


@pytest.fixture
def writer(hosts, relay, other):
    """A registry behind the relay, which has written before."""
    other.import_tree("/c\n  n = 0\n")
    with zkfleet.connect(relay.hosts + hosts[hosts.index("/") :], timeout=8) as registry:
        registry.make_node("/w")
        yield registry
        relay.heal()


def lose(registry, relay, what, *, after=0):
    """Have the next write of a registry, or its reply, be lost, or one after it: the link is well for what is read."""
    send_once, left = registry.session.send_once, [None] * after

    def losing(request, **options):
        if left:
            left.pop()
            return send_once(request, **options)
        del registry.session.send_once
        relay.swallow(requests=what == REQUEST, replies=what == REPLY)
        return send_once(request, **options)

    registry.session.send_once = losing


def in_a_break(relay, lost, write, meanwhile, happened):
    """Begin a write that loses its request or reply, do something meanwhile, heal; return or raise what it does."""
    outcome = []

    def run():
        try:
            outcome.append(write())
        except Exception as exc:
            outcome.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    wait_for(happened if lost == REPLY else lambda: relay.swallowed)
    meanwhile()
    relay.heal()
    thread.join(10)
    assert not thread.is_alive()
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def give_up(relay, seconds):
    """Have the link stay broken for longer than a write may take."""

    def wait():
        relay.refuse()
        threading.Event().wait(seconds + 0.2)

    return wait


def increase(registry):
    return partial(registry.change_properties, "/c", increment)


def increment(properties):
    return {**properties, "n": properties["n"] + 1}


@pytest.mark.parametrize("lost", [REQUEST, REPLY])
def test_no_increment_is_lost_or_doubled(writer, other, relay, lost):
    calls = []

    def change(properties):
        if not calls:
            lose(writer, relay, lost)
        calls.append(properties)
        return increment(properties)

    in_a_break(
        relay,
        lost,
        lambda: writer.change_properties("/c", change),
        lambda: other.change_properties("/c", increment),
        lambda: other.get_properties("/c")["n"] == 1,
    )
    assert other.get_properties("/c")["n"] == 2
    assert len(calls) == (1 if lost == REPLY else 2)


# -- one verb after another: lost request, lost reply, and somebody else's write in between


@pytest.mark.parametrize("lost", [REQUEST, REPLY])
def test_a_property_is_deleted_once(writer, other, relay, lost):
    other.properties("/c").update(x=1)
    view = writer.properties("/c")

    def delete():
        lose(writer, relay, lost)
        del view["x"]

    in_a_break(
        relay,
        lost,
        delete,
        lambda: other.properties("/c").update(y=2),
        lambda: "x" not in other.get_properties("/c"),
    )
    assert other.get_properties("/c") == {"n": 0, "y": 2}


def test_an_update_does_not_undo_a_newer_one(writer, other, relay):
    view = writer.properties("/c")

    def update():
        lose(writer, relay, REPLY)
        view.update(z="older")

    in_a_break(
        relay,
        REPLY,
        update,
        lambda: other.properties("/c").update(z="newer"),
        lambda: "z" in other.get_properties("/c"),
    )
    assert other.get_properties("/c")["z"] == "newer"


@pytest.mark.parametrize("lost", [REQUEST, REPLY])
def test_unlink_says_whether_it_was_the_one(writer, other, relay, lost):
    other.ln("/c", "/l")

    def unlink():
        lose(writer, relay, lost)
        return writer.unlink("/l")

    # Of two who unlink, one did.
    unlinked = []
    mine = in_a_break(relay, lost, unlink, lambda: unlinked.append(other.unlink("/l")), lambda: not other.exists("/l"))
    assert [mine, *unlinked] == ([True, False] if lost == REPLY else [False, True])


@pytest.mark.parametrize("lost", [REQUEST, REPLY])
def test_make_node_says_whether_it_was_the_one(writer, other, relay, lost):
    made = []

    def make():
        lose(writer, relay, lost)
        return writer.make_node("/new")

    mine = in_a_break(relay, lost, make, lambda: made.append(other.make_node("/new")), lambda: other.exists("/new"))
    assert [mine, *made] == ([True, False] if lost == REPLY else [False, True])


@pytest.mark.parametrize("lost", [REQUEST, REPLY])
def test_an_import_is_stale_if_somebody_made_the_same_node_otherwise(writer, other, kazoo, relay, lost):
    """The same data, and another ACL: what somebody else made is not ours."""
    plan = writer.plan_tree("/secret\n  n = 1\n", acl="world:anyone:cdr")
    open_to_all = []

    def apply():
        lose(writer, relay, lost)
        writer.apply_plan(plan)

    def meanwhile():
        if lost == REQUEST:
            open_to_all.append(other.import_tree("/secret\n  n = 1\n"))

    if lost == REQUEST:
        with pytest.raises(StalePlan) as caught:
            in_a_break(relay, lost, apply, meanwhile, None)
        assert caught.value.applied == 0
    else:
        in_a_break(relay, lost, apply, meanwhile, lambda: other.exists("/secret"))
        assert kazoo.get_acls("/secret")[0][0].perms != 31


def test_a_plan_that_was_applied_is_not_called_stale_because_somebody_went_on(writer, other, relay):
    plan = writer.plan_tree("/c\n  n = 5\n")

    def apply():
        lose(writer, relay, REPLY)
        writer.apply_plan(plan)

    in_a_break(
        relay,
        REPLY,
        apply,
        lambda: other.change_properties("/c", increment),
        lambda: other.get_properties("/c")["n"] == 5,
    )
    assert other.get_properties("/c")["n"] == 6


@pytest.mark.parametrize("lost", [REQUEST, REPLY])
def test_a_stale_plan_says_what_was_applied_of_several_batches(writer, other, relay, lost):
    """Three batches; the second is lost, and then the third is stale."""
    large = "x" * 500_000
    other.import_tree("/t\n  /a\n  /b\n  /c\n")
    plan = writer.plan_tree(f"/t\n  /a\n    t = '{large}'\n  /b\n    t = '{large}'\n  /c\n    t = '{large}'\n")
    lose(writer, relay, lost, after=1)
    with pytest.raises(StalePlan) as caught:
        in_a_break(
            relay,
            lost,
            lambda: writer.apply_plan(plan),
            lambda: other.properties("/t/c").update(newer=1),
            lambda: other.get_properties("/t/b"),
        )
    assert caught.value.applied == 2
    assert other.get_properties("/t/c") == {"newer": 1}


def test_a_plan_whose_second_batch_is_not_sent_says_what_was_applied(hosts, relay, other):
    large = "x" * 500_000
    other.import_tree("/t\n  /a\n  /b\n")
    with zkfleet.connect(relay.hosts + hosts[hosts.index("/") :], timeout=1) as registry:
        registry.make_node("/w")
        plan = registry.plan_tree(f"/t\n  /a\n    t = '{large}'\n  /b\n    t = '{large}'\n")
        with pytest.raises(NotConnected, match="1 steps of the plan were applied before"):
            registry.apply_plan(plan, progress=lambda done, _all: done == 1 and relay.refuse())
        relay.heal()


@pytest.mark.parametrize("lost", [REQUEST, REPLY])
def test_a_tree_that_somebody_made_anew_is_not_deleted(writer, other, relay, lost):
    other.import_tree("/t\n  /a\n  /b\n")

    def delete():
        lose(writer, relay, lost)
        return writer.delete_recursive("/t")

    def anew():
        if lost == REQUEST:
            other.delete_recursive("/t")
        other.import_tree("/t\n  /a\n  /b\n")

    if lost == REQUEST:
        with pytest.raises(StalePlan):
            in_a_break(relay, lost, delete, anew, None)
    else:
        assert in_a_break(relay, lost, delete, anew, lambda: not other.exists("/t")).deleted == ("/t/b", "/t/a", "/t")
    assert other.exists("/t/a")


@pytest.mark.parametrize("lost", [REQUEST, REPLY])
def test_an_acl_is_set_once_or_its_outcome_is_unknown(writer, other, kazoo, relay, lost):
    plan = writer.plan_tree("/c\n  n = 0\n", acl="world:anyone:cdra")

    def apply():
        lose(writer, relay, lost)
        writer.apply_plan(plan)

    def happened():
        return kazoo.get_acls("/c")[0][0].perms != 31

    if lost == REQUEST:
        in_a_break(relay, lost, apply, lambda: None, None)
    else:
        with pytest.raises(OutcomeUnknown):
            in_a_break(relay, lost, apply, lambda: None, happened)
    assert happened()


# -- when nobody can tell


@pytest.mark.parametrize("lost", [REQUEST, REPLY])
def test_the_next_session_of_a_client_knows_what_became_of_a_write(writer, other, relay, lost):
    session, calls = writer.session.session_id, []

    def change(properties):
        if not calls:
            lose(writer, relay, lost)
        calls.append(properties)
        return increment(properties)

    def expire():
        expire_session(other.session.hosts, writer.session.client.client_id)

    in_a_break(
        relay,
        lost,
        lambda: writer.change_properties("/c", change),
        expire,
        lambda: other.get_properties("/c")["n"] == 1,
    )
    assert writer.session.session_id != session
    assert other.get_properties("/c")["n"] == 1
    assert len(calls) == (1 if lost == REPLY else 2)


@pytest.mark.parametrize("lost", [REQUEST, REPLY])
def test_without_its_mark_and_its_session_a_write_stays_unknown(writer, other, kazoo, relay, lost):
    calls = []

    def change(properties):
        lose(writer, relay, lost)
        calls.append(properties)
        return increment(properties)

    def bury():
        other.change_properties("/c", increment)
        other.change_properties("/c", increment)
        kazoo.delete("/.zkfleet", recursive=True)

    with pytest.raises(OutcomeUnknown, match="may have"):
        in_a_break(
            relay,
            lost,
            lambda: writer.change_properties("/c", change),
            bury,
            lambda: other.get_properties("/c")["n"] == 1,
        )
    assert len(calls) == 1


def test_without_its_mark_what_somebody_else_wrote_refutes_a_write(writer, other, kazoo, relay):
    calls = []

    def change(properties):
        if not calls:
            lose(writer, relay, REQUEST)
        calls.append(properties)
        return increment(properties)

    def bury():
        other.properties("/c").set(n=7)
        kazoo.delete("/.zkfleet", recursive=True)

    in_a_break(relay, REQUEST, lambda: writer.change_properties("/c", change), bury, None)
    assert other.get_properties("/c")["n"] == 8


def test_a_write_that_was_interrupted_proves_nothing_of_the_next(writer, other, relay):
    """Its mark may have moved: the next write must not take that for its own doing."""
    send_once = writer.session.send_once

    def interrupted(request, **options):
        writer.session.send_once = send_once
        send_once(request, **options)
        raise KeyboardInterrupt

    writer.session.send_once = interrupted
    with pytest.raises(KeyboardInterrupt):
        writer.change_properties("/c", increment)
    del writer.session.send_once
    lose(writer, relay, REQUEST)
    in_a_break(relay, REQUEST, increase(writer), lambda: None, None)
    assert other.get_properties("/c")["n"] == 2


def test_a_refusal_that_kazoo_has_no_name_for_is_one():
    part = struct.pack(">i?ii", -1, False, -999, -999)
    [refusal] = Multi((Delete("/a", -1),)).deserialize(part, 0)
    assert isinstance(refusal, KazooException)
    assert "-999" in str(refusal)


@pytest.mark.parametrize("what", ["change", "plan"])
def test_a_write_that_was_sent_is_never_called_not_sent(hosts, relay, other, what):
    other.import_tree("/c\n  n = 0\n")
    with zkfleet.connect(relay.hosts + hosts[hosts.index("/") :], timeout=1) as registry:
        registry.make_node("/w")
        plan = registry.plan_tree("/c\n  n = 1\n")

        lose(registry, relay, REPLY)
        write = partial(registry.apply_plan, plan) if what == "plan" else increase(registry)
        with pytest.raises(OutcomeUnknown):
            in_a_break(relay, REPLY, write, give_up(relay, 1), lambda: other.get_properties("/c")["n"] == 1)


def test_what_was_not_sent_is_never_sent_later(hosts, relay, other):
    other.import_tree("/c\n  n = 0\n")
    with zkfleet.connect(relay.hosts + hosts[hosts.index("/") :], timeout=1) as registry:
        registry.make_node("/w")
        relay.refuse()
        wait_for(lambda: not registry.hub.connected)
        answers = []
        request = SetData(rooted(registry.session.client.chroot, "/c"), b"{}", -1)
        registry.session.send(request, lambda value, error, zxid: answers.append(error))
        with pytest.raises(NotConnected):
            registry.change_properties("/c", increment)
        relay.heal()
        wait_for(lambda: registry.hub.connected)
        assert registry.get_properties("/c") == {"n": 0}
        assert isinstance(answers[0], NotSent)


# -- other doors


def test_the_asyncio_door_tells_the_same(hosts, relay, other):
    other.import_tree("/c\n  n = 0\n")

    async def work():
        async with await aio.connect(relay.hosts + hosts[hosts.index("/") :]) as registry:
            assert await registry.make_node("/w")
            lose(registry.registry, relay, REPLY)
            change = asyncio.ensure_future(registry.change_properties("/c", increment))
            await asyncio.to_thread(wait_for, lambda: other.get_properties("/c")["n"] == 1)
            other.change_properties("/c", increment)
            relay.heal()
            await change
            assert await registry.get_properties("/c") == {"n": 2}

    asyncio.run(work())


def test_a_client_that_was_given_is_left_without_marks(hosts, kazoo, other):
    with zkfleet.connect(client=kazoo) as registry:
        registry.make_node("/x")
        assert kazoo.get_children("/.zkfleet")
    wait_for(lambda: not kazoo.exists("/.zkfleet"))
    assert kazoo.connected


# -- registrations and locks: their proof is the session that owns the znode


def lose_when(registry, relay, what, kind):
    """Have the next request of a kind that the hub sends, or its reply, be lost."""
    send = registry.session.send

    def losing(request, then, **options):
        kinds = [request, *getattr(request, "operations", ())]
        if any(isinstance(one, kind) for one in kinds):
            del registry.session.send
            relay.swallow(requests=what == REQUEST, replies=what == REPLY)
        send(request, then, **options)

    registry.session.send = losing


@pytest.fixture
def service(other):
    other.make_node("/svc")
    return "/svc"


@pytest.mark.parametrize("lost", [REQUEST, REPLY])
def test_a_registration_is_made_once(writer, other, kazoo, relay, service, lost):
    seen = []
    lose_when(writer, relay, lost, Create)
    registration = in_a_break(
        relay,
        lost,
        lambda: writer.register(service, "h:1"),
        lambda: seen.append(kazoo.exists("/svc/h:1")),
        lambda: kazoo.exists("/svc/h:1"),
    )
    registration.wait_until_registered()
    stat = kazoo.exists("/svc/h:1")
    assert stat.ephemeralOwner == writer.session.session_id
    if lost == REPLY:
        assert stat.czxid == seen[0].czxid


@pytest.mark.parametrize("lost", [REQUEST, REPLY])
def test_an_update_of_a_registration_stands_whatever_others_wrote(writer, kazoo, relay, service, lost):
    registration = writer.register(service, "h:1", n=0)
    czxid = kazoo.exists("/svc/h:1").czxid
    lose_when(writer, relay, lost, SetData)
    in_a_break(
        relay,
        lost,
        lambda: registration.update(n=1),
        lambda: kazoo.set("/svc/h:1", b"{}"),
        lambda: b'"n":1' in kazoo.get("/svc/h:1")[0],
    )
    wait_for(lambda: b'"n":1' in kazoo.get("/svc/h:1")[0])
    registration.wait_until_registered().update(n=2)
    assert b'"n":2' in kazoo.get("/svc/h:1")[0]
    assert kazoo.exists("/svc/h:1").czxid == czxid


@pytest.mark.parametrize("kind", ["registration", "lock"])
@pytest.mark.parametrize("lost", [REQUEST, REPLY])
def test_what_is_closed_makes_room_once_and_takes_nothing_of_the_next(writer, other, kazoo, relay, service, lost, kind):
    def claim(registry):
        return registry.lock(service, "h:1") if kind == "lock" else registry.register(service, "h:1")

    mine = claim(writer).wait_until_registered()
    theirs = claim(other)
    lose_when(writer, relay, lost, Delete)

    def next_has_it():
        return theirs.status is Status.REGISTERED

    in_a_break(relay, lost, mine.close, lambda: None, next_has_it)
    wait_for(next_has_it)
    assert mine.status is Status.CLOSED
    assert kazoo.exists("/svc/h:1").ephemeralOwner == other.session.session_id
    wait_for(lambda: writer.hub.connected)
    assert theirs.status is Status.REGISTERED


@pytest.mark.parametrize("lost", [REQUEST, REPLY])
def test_a_takeover_happens_once(writer, other, kazoo, relay, service, lost):
    theirs = other.register(service, "h:1")
    lose_when(writer, relay, lost, Delete)
    session = writer.session.session_id
    mine = in_a_break(
        relay,
        lost,
        lambda: writer.register(service, "h:1", on_conflict="takeover"),
        lambda: None,
        lambda: kazoo.exists("/svc/h:1").ephemeralOwner == session,
    )
    wait_for(lambda: mine.status is Status.REGISTERED)
    wait_for(lambda: theirs.status is Status.BLOCKED)
    assert kazoo.exists("/svc/h:1").ephemeralOwner == session


def test_a_request_that_rests_on_a_look_before_the_break_is_not_sent_after_it(writer, other, kazoo, relay, service):
    """The hub is late: when it sends, the link was lost and is back, in another session."""
    mine = writer.register(service, "h:1")
    late, send, blocked = threading.Event(), writer.session.send, threading.Event()

    def slow(request, then, **options):
        if isinstance(request, Delete):
            del writer.session.send
            blocked.set()
            late.wait(10)
        send(request, then, **options)

    writer.session.send = slow
    mine.begin_close()
    blocked.wait(10)
    before = writer.session.tap.grants
    expire_session(other.session.hosts, writer.session.client.client_id)
    relay.cut()
    wait_for(lambda: not kazoo.exists("/svc/h:1"))
    other.register(service, "h:1")
    czxid = kazoo.exists("/svc/h:1").czxid
    wait_for(lambda: writer.session.tap.grants > before)
    late.set()
    wait_for(lambda: mine.status is Status.CLOSED)
    assert kazoo.exists("/svc/h:1").czxid == czxid


# -- the marks, which nobody sees


@pytest.fixture
def nested(zookeeper, hosts, other):
    """A registry with a chroot of its own below this test's, in which it has written."""
    other.import_tree("/app\n  /sub\n    n = 1\n")
    with zkfleet.connect(f"{hosts}/app") as registry:
        registry.change_properties("/sub", increment)
        yield registry


def test_marks_are_seen_nowhere(nested, other, kazoo):
    assert kazoo.get_children("/app/.zkfleet")
    tree = "/sub\n  n = 2\n"
    assert nested.export_tree() == tree
    assert other.export_tree("/app") == "/app\n  /sub\n    n = 2\n"
    assert list(nested.walk("/")) == ["/", "/sub"]
    assert list(nested.children("/")) == ["sub"]
    assert sorted(nested.tree("/")) == ["/", "/sub"]
    assert nested.plan_tree("/sub\n  n = 2\n", trim=True).steps == ()
    assert nested.doctor() == []


def test_a_write_does_not_wake_whoever_follows_the_root(nested, other):
    calls = []
    nested.children("/")(lambda view: calls.append(list(view)))
    tree = nested.tree("/")
    other.change_properties("/app/sub", increment)
    tree.wait_until(lambda view: view["/sub"]["n"] == 3)
    with zkfleet.connect(nested.session.hosts) as third:
        third.change_properties("/sub", increment)
    tree.wait_until(lambda view: view["/sub"]["n"] == 4)
    assert calls == [["sub"]]


@pytest.mark.parametrize("path", ["/.zkfleet", "/app/.zkfleet/x", "/app/.zkfleet"])
def test_marks_are_nobodys_to_change(nested, other, path):
    with pytest.raises(BadPath, match="belongs to zkfleet"):
        other.make_node(path)
    with pytest.raises(BadPath, match="belongs to zkfleet"):
        other.delete_recursive(path)
    with pytest.raises(BadPath, match="belongs to zkfleet"):
        other.import_tree("/a\n  /b\n    /.zkfleet\n")


def test_a_chroot_is_deleted_with_its_marks_though_a_client_lives_there(nested, other, kazoo):
    assert other.delete_recursive("/app").deleted == ("/app/sub", "/app")
    assert not kazoo.exists("/app")
    with pytest.raises(NodeNotFound):
        nested.change_properties("/sub", increment)
    other.import_tree("/app\n  /sub\n    n = 1\n")
    nested.change_properties("/sub", increment)


def test_a_trim_takes_a_chroot_with_its_marks(nested, other, kazoo):
    other.import_tree("/top\n  /inner\n    /sub\n      n = 1\n")
    with zkfleet.connect(f"{other.session.hosts}/top/inner") as third:
        third.change_properties("/sub", increment)
        other.import_tree("/top\n", trim=True)
    assert kazoo.get_children("/top") == []


def test_a_registry_that_closes_leaves_no_mark(hosts, other, kazoo):
    with zkfleet.connect(hosts) as registry:
        registry.make_node("/x")
        assert kazoo.get_children("/.zkfleet")
    assert not kazoo.exists("/.zkfleet")


def test_a_mark_that_somebody_deleted_is_made_anew(other, kazoo):
    other.make_node("/x")
    kazoo.delete("/.zkfleet", recursive=True)
    assert other.make_node("/y")


def test_without_permission_for_marks_writes_go_on_without(hosts, kazoo, caplog):
    kazoo.create("/sub", b'{"n":1}')
    kazoo.set_acls("/", [make_acl("world", "anyone", read=True, admin=True)])
    with zkfleet.connect(hosts) as registry:
        for _ in range(3):
            registry.change_properties("/sub", increment)
        assert registry.get_properties("/sub")["n"] == 4
    assert [record.levelname for record in caplog.records if "marks_refused" in record.message] == ["WARNING"]


def test_marks_of_a_client_with_credentials_are_its_own(hosts, kazoo, caplog):
    kazoo.create("/app")
    kazoo.create("/app/sub", b'{"n":1}')
    with zkfleet.connect(f"{hosts}/app", auth=[("digest", "me:secret")]) as registry, zkfleet.connect(hosts) as other:
        registry.change_properties("/sub", increment)
        [mark] = kazoo.get_children("/app/.zkfleet")
        with pytest.raises(NoAuthError):
            kazoo.set(f"/app/.zkfleet/{mark}", b"spoilt")
        with zkfleet.connect(f"{hosts}/app") as third:
            third.change_properties("/sub", increment)
        assert registry.get_properties("/sub") == {"n": 3}
        other.delete_recursive("/app")
    assert not kazoo.exists("/app")
    assert not [record for record in caplog.records if "marks_refused" in record.message]
