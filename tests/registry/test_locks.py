"""Locks, on a server of each kind: who has it, since when, and how soon the next one does."""

import contextlib
import json
import logging
import threading
import time

import pytest

import zkfleet
from tests.conftest import a_server, wait_for, with_own_chroot
from zkfleet import Status
from zkfleet.clocks import since_boot
from zkfleet.errors import BadPath, BadProperties, Closed, NodeNotFound, NotConnected, WaitTimedOut
from zkfleet.registry.identity import new_instance
from zkfleet.testing import Proxy, expire_session

# What a process of this machine says that is gone.
DEAD = {"pid": 4_000_000, "instance": new_instance()}


@pytest.fixture
def other(hosts):
    with zkfleet.connect(hosts, session_timeout=5) as registry:
        yield registry


@pytest.fixture
def here(registry):
    registry.make_node("/locks")
    return registry


def test_one_holds_it_and_the_others_wait(here, other, kazoo):
    mine = here.lock("/locks", "primary", note="me").wait_until_held()
    theirs = other.lock("/locks", "primary")
    wait_for(lambda: theirs.status is Status.BLOCKED)
    assert (mine.held, theirs.held, theirs.token) == (True, False, 0)
    assert kazoo.exists("/locks/primary").ephemeralOwner == here.session.session_id
    with pytest.raises(WaitTimedOut, match="belongs to session"):
        theirs.wait_until_held(0.01)


def test_waiting_for_a_lock_is_no_warning(here, other, caplog):
    here.lock("/locks", "primary").wait_until_held()
    waits = other.lock("/locks", "primary")
    wait_for(lambda: waits.status is Status.BLOCKED)
    assert [record.message for record in caplog.records if record.levelno > logging.INFO] == []


def test_the_next_one_has_it_within_a_tenth_of_a_second_of_its_release(here, other):
    locks = [here.lock("/locks", "primary").wait_until_held(), other.lock("/locks", "primary")]
    took = []
    for registry in [here, other] * 5:
        wait_for(lambda: locks[1].status is Status.BLOCKED)
        began = time.monotonic()
        locks.pop(0).close()
        locks[0].wait_until_held(5)
        took.append(time.monotonic() - began)
        locks.append(registry.lock("/locks", "primary"))
    assert sorted(took)[len(took) // 2] < 0.1, took


def test_of_many_who_wait_one_gets_it(here, other):
    holder = here.lock("/locks", "primary").wait_until_held()
    waiting = [registry.lock("/locks", "primary") for registry in [here, other] * 10]
    for lock in waiting:
        wait_for(lambda lock=lock: lock.status is Status.BLOCKED)
    holder.close()
    wait_for(lambda: any(lock.held for lock in waiting))
    assert [lock.held for lock in waiting].count(True) == 1


def test_the_token_is_the_transaction_that_made_the_znode(here, other, kazoo):
    first = here.lock("/locks", "primary").wait_until_held()
    assert first.token == kazoo.exists("/locks/primary").czxid
    second = other.lock("/locks", "primary")
    former = first.token
    first.close()
    assert second.wait_until_held().token == kazoo.exists("/locks/primary").czxid > former


def test_a_lock_that_somebody_deleted_comes_back_with_another_token(here, kazoo):
    lock = here.lock("/locks", "primary").wait_until_held()
    former = lock.token
    kazoo.delete("/locks/primary")
    wait_for(lambda: lock.held and lock.token > former)


def test_after_an_expiry_the_token_is_another_one(here, hosts, kazoo):
    lock = here.lock("/locks", "primary").wait_until_held()
    former = lock.token
    expire_session(hosts, here.session.client.client_id)
    wait_for(lambda: lock.held and lock.token != former)
    assert lock.token == kazoo.exists("/locks/primary").czxid


def test_an_own_znode_of_a_former_session_is_replaced_with_another_token(here, kazoo, hosts):
    # A session that its client was made to forget lives on until its time is over.
    lock = here.lock("/locks", "primary").wait_until_held()
    former = lock.token
    here.session.tap.forget_session(here.session.tap.grants)
    here.session.client._connection._socket.shutdown(2)
    wait_for(lambda: lock.held and lock.token != former)
    stat = kazoo.exists("/locks/primary")
    assert (lock.token, here.session.session_id) == (stat.czxid, stat.ephemeralOwner)


def test_while_the_link_is_down_it_is_not_held_and_the_token_stays(zookeeper, hosts, here):
    chroot = hosts.partition("/")[2]
    with Proxy(zookeeper.port) as proxy, zkfleet.connect(f"{proxy.hosts}/{chroot}", session_timeout=5) as registry:
        lock = registry.lock("/locks", "primary").wait_until_held()
        token, broken = lock.token, since_boot()
        proxy.refuse()
        wait_for(lambda: not lock.held)
        assert lock.token == token
        with pytest.raises(NotConnected):
            lock.confirm(0.05)
        proxy.heal()
        wait_for(lambda: lock.held)
        assert lock.token == token
        assert broken < lock.confirm(5).linked_at < since_boot()


def test_the_ensemble_confirms_who_has_it_and_nothing_changes_by_that(here, other, kazoo):
    mine = here.lock("/locks", "primary").wait_until_held()
    theirs = other.lock("/locks", "primary")
    wait_for(lambda: theirs.status is Status.BLOCKED)
    before = kazoo.exists("/locks/primary")
    assert mine.confirm(5)[:2] == (here.session.session_id, mine.token)
    assert theirs.confirm(5)[:2] == (other.session.session_id, 0)
    assert kazoo.exists("/locks/primary") == before


def test_a_lock_that_is_gone_is_not_confirmed(here, kazoo):
    lock = here.lock("/locks", "primary").wait_until_held()
    token = lock.token
    for _ in range(20):
        kazoo.delete("/locks/primary")
        assert lock.confirm(5).token != token
        wait_for(lambda token=token: lock.held and lock.token != token, what="the lock's return")
        token = lock.token


def test_subscribers_hear_of_every_change(here, other):
    mine = here.lock("/locks", "primary").wait_until_held()
    theirs = other.lock("/locks", "primary")
    heard = threading.Event()
    theirs.subscribe(lambda _lock: 1 / 0)
    theirs.subscribe(lambda lock: heard.set() if lock.held else None)
    assert not heard.is_set()
    mine.close()
    assert heard.wait(5)


def test_it_waits_for_the_node_that_it_belongs_below(registry):
    lock = registry.lock("/locks", "primary")
    wait_for(lambda: isinstance(lock.problem, NodeNotFound))
    assert registry.make_node("/locks")
    lock.wait_until_held(5)
    assert not registry.make_node("/locks")


def test_a_node_is_not_made_without_its_parent(registry):
    with pytest.raises(NodeNotFound):
        registry.make_node("/no/where")


def test_a_path_with_a_link_is_refused_for_its_target_may_change(here, kazoo):
    here.ln("/locks", "/here")
    lock = here.lock("/here", "primary")
    with pytest.raises(BadPath, match="/here leads over a link to /locks") as caught:
        lock.wait_until_held()
    assert "/locks" in caught.value.hint
    assert not kazoo.exists("/locks/primary")
    lock.close()


def test_a_node_in_the_place_of_the_link_makes_the_lock_come(here):
    here.ln("/locks", "/here")
    lock = here.lock("/here", "primary")
    wait_for(lambda: lock.status is Status.FAILED)
    here.make_node("/here")
    wait_for(lambda: lock.held)


def test_one_of_many_who_look_at_once_replaces_a_dead_holder_s_lock(hosts, here, kazoo):
    # Each looks before any of them has replaced it, and all but one delete the version that they saw.
    holder = kazoo.create("/locks/primary", b"{}", ephemeral=True)
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(zkfleet.connect(hosts, session_timeout=5)) for _ in range(3)]
        locks = [registry.lock("/locks", "primary") for registry in [here, *others]]
        tokens = set()
        for lock in locks:
            wait_for(lambda lock=lock: lock.status is Status.BLOCKED)
            lock.subscribe(lambda lock: tokens.add(lock.token))
        first = kazoo.exists(holder).czxid
        transaction = kazoo.transaction()
        transaction.delete("/locks/primary")
        transaction.create("/locks/primary", json.dumps(DEAD).encode(), ephemeral=True)
        assert not [result for result in transaction.commit() if isinstance(result, Exception)]
        wait_for(lambda: any(lock.held for lock in locks))
        for lock in locks:
            lock.look_again()
        wait_for(lambda: sorted(lock.status.value for lock in locks) == ["blocked"] * 3 + ["registered"])
        [held] = [lock for lock in locks if lock.held]
        assert first < held.token == kazoo.exists("/locks/primary").czxid
        assert tokens <= {0, held.token}
        for lock in locks:
            lock.close()


def test_who_gives_up_leaves_a_dead_holder_s_lock_alone(here, kazoo):
    kazoo.create("/locks/primary", b"{}", ephemeral=True)
    waits = here.lock("/locks", "primary")
    wait_for(lambda: waits.status is Status.BLOCKED)
    kazoo.set("/locks/primary", json.dumps(DEAD).encode())
    waits.close()
    assert kazoo.get("/locks/primary")[0] == json.dumps(DEAD).encode()


def test_what_guards_a_lock_is_beside_it_hidden_and_leaves_the_node_deletable(here, kazoo):
    lock = here.lock("/locks", "primary").wait_until_held()
    version = kazoo.exists("/locks").version
    assert list(here.children("/locks")) == ["primary"]
    [witness] = kazoo.get_children("/locks/.zkfleet/lock.primary")
    assert kazoo.exists(f"/locks/.zkfleet/lock.primary/{witness}").ephemeralOwner == here.session.session_id
    lock.close()
    assert kazoo.get_children("/locks/.zkfleet/lock.primary") == []
    assert kazoo.exists("/locks").version == version
    assert here.delete_recursive("/locks").deleted == ("/locks",)
    assert not kazoo.exists("/locks")


def test_a_guard_that_somebody_deleted_is_made_again(here, other, kazoo):
    mine = here.lock("/locks", "primary").wait_until_held()
    kazoo.delete("/locks/.zkfleet", recursive=True)
    theirs = other.lock("/locks", "primary")
    wait_for(lambda: theirs.status is Status.BLOCKED)
    mine.update(note="still ours")
    assert json.loads(kazoo.get("/locks/primary")[0])["note"] == "still ours"
    mine.close()
    theirs.wait_until_held(5)


@pytest.mark.parametrize("name", ["", "a/b", ".."])
def test_names_that_cannot_be_are_refused(registry, name):
    with pytest.raises(BadPath):
        registry.lock("/", name)


def test_what_says_who_we_are_is_ours_to_say(registry):
    with pytest.raises(BadProperties):
        registry.lock("/", "primary", pid=1)
    with pytest.raises(BadPath):
        registry.lock("/zookeeper", "primary")


def test_closing_the_registry_gives_it_back(hosts, here, other):
    theirs = None
    with zkfleet.connect(hosts, session_timeout=5) as registry:
        mine = registry.lock("/locks", "primary").wait_until_held()
        theirs = other.lock("/locks", "primary")
        wait_for(lambda: theirs.status is Status.BLOCKED)
    theirs.wait_until_held(1)
    assert mine.status is Status.CLOSED
    with pytest.raises(Closed):
        mine.confirm(1)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("kind", ["dev", "real"])
def test_a_holder_that_vanished_is_followed_when_its_session_is_over(kind, tmp_path):
    with a_server(kind, tmp_path) as server, Proxy(server.port) as proxy:
        hosts = with_own_chroot(server.hosts)
        chroot = hosts.partition("/")[2]
        with (
            zkfleet.connect(f"{proxy.hosts}/{chroot}", session_timeout=1) as holder,
            zkfleet.connect(hosts, session_timeout=1) as other,
        ):
            other.make_node("/locks")
            holder.lock("/locks", "primary").wait_until_held()
            theirs = other.lock("/locks", "primary")
            wait_for(lambda: theirs.status is Status.BLOCKED)
            began = time.monotonic()
            proxy.refuse()
            theirs.wait_until_held(5)
            assert 0.4 < time.monotonic() - began < holder.statistics().negotiated_timeout + 1
            proxy.heal()
