"""Sessions that end in the middle of something, on one server of each kind and on an ensemble of three."""

import threading

import pytest

import zkfleet
from tests.conftest import a_server, wait_for, with_own_chroot
from zkfleet import Status
from zkfleet.registry import registering
from zkfleet.testing import Ensemble, expire_session

pytestmark = [pytest.mark.slow, pytest.mark.faults]
TIMEOUT = 4.0
BACK_WITHIN = TIMEOUT + 2


@pytest.fixture(scope="module", params=["dev", "real", "three"])
def server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("expiry")
    with Ensemble(folder) if request.param == "three" else a_server(request.param, folder) as server:
        yield server


@pytest.fixture
def hosts(server):
    return with_own_chroot(server.hosts)


@pytest.fixture
def registry(hosts):
    with zkfleet.connect(hosts, session_timeout=TIMEOUT) as registry:
        registry.import_tree("/svc\n  /providers\n")
        yield registry


def expire(registry, hosts):
    expire_session(hosts, registry.session.client.client_id)


def check_present_once(registry, kazoo, names):
    """Every name is registered by the session of now, and nothing else is there."""
    session = registry.session

    def all_there():
        owners = {name: stat and stat.ephemeralOwner for name, stat in stats(kazoo)}
        return owners == dict.fromkeys(names, session.session_id)

    wait_for(all_there, timeout=BACK_WITHIN)


def stats(kazoo):
    return [(name, kazoo.exists(f"/svc/providers/{name}")) for name in kazoo.get_children("/svc/providers")]


def test_while_idle(registry, hosts, kazoo):
    registration = registry.register("/svc/providers", "h:1")
    view, seen = registry.providers("/svc/providers"), []
    view(lambda v: seen.append(sorted(v)))
    expire(registry, hosts)
    wait_for(lambda: registry.statistics().expiries == 1, timeout=BACK_WITHIN)
    check_present_once(registry, kazoo, ["h:1"])
    wait_for(lambda: registration.status is Status.REGISTERED)
    view.wait_until(lambda v: list(v) == ["h:1"] and v.stale_since is None)
    assert all(state in ([], ["h:1"]) for state in seen)


def test_while_importing(registry, hosts, kazoo):
    text = "/big\n" + "".join(f"  /n{number:05}\n    filling = {'x' * 200!r}\n" for number in range(12_000))
    told = []

    def end_the_session(done, total):
        told.append((done, total))
        expire(registry, hosts)

    plan = registry.import_tree(text, progress=end_the_session)
    assert len(told) > 1, "an import of one multi is not interrupted"
    assert told[-1] == (12_001, 12_001) == (plan.counts()["create"],) * 2
    assert registry.export_tree("/big") == text
    wait_for(lambda: registry.statistics().expiries >= len(told) - 1)


def test_while_an_import_is_under_way_on_another_thread(registry, hosts):
    text = "/big\n" + "".join(f"  /n{number:05}\n    filling = {'x' * 200!r}\n" for number in range(12_000))
    done = threading.Event()

    def import_it():
        try:
            registry.import_tree(text)
        finally:
            done.set()

    importing = threading.Thread(target=import_it)
    importing.start()
    for _ in range(20):
        if done.wait(0.05):
            break
        expire(registry, hosts)
    importing.join(60)
    assert registry.export_tree("/big") == text


def test_while_registering(registry, hosts, kazoo):
    @registering.subscribe
    def end_the_session(_event):
        expire(registry, hosts)

    try:
        registry.register("/svc/providers", "h:1")
    finally:
        registering.unsubscribe(end_the_session)
    check_present_once(registry, kazoo, ["h:1"])


def test_while_many_register(registry, hosts, kazoo):
    names = [f"h:{port}" for port in range(1, 201)]
    made = [registry.register("/svc/providers", name, wait=False) for name in names[:100]]
    expire(registry, hosts)
    made += [registry.register("/svc/providers", name, wait=False) for name in names[100:]]
    check_present_once(registry, kazoo, names)
    wait_for(lambda: all(registration.status is Status.REGISTERED for registration in made))


def test_while_a_burst_of_registrations_is_on_its_way(registry, hosts, kazoo):
    # More requests than the pipe has room for by which kazoo's thread is woken.
    made = [registry.register("/svc/providers", f"h:{port}", wait=False) for port in range(1, 2001)]
    expire(registry, hosts)
    wait_for(lambda: all(registration.status is Status.REGISTERED for registration in made), timeout=300)
    session = registry.session.session_id
    assert len(kazoo.get_children("/svc/providers")) == 2000
    assert kazoo.exists("/svc/providers/h:2000").ephemeralOwner == session


def test_while_properties_are_updated(registry, hosts, kazoo):
    registration = registry.register("/svc/providers", "h:1", weight=0)
    settings = registry.properties("/svc")
    for number in range(1, 4):
        expire(registry, hosts)
        registration.update(weight=number)
        settings.update(number=number)
    check_present_once(registry, kazoo, ["h:1"])
    view = registry.providers("/svc/providers")
    view.wait_until(lambda v: v["h:1"]["weight"] == 3)
    assert registry.get_properties("/svc") == {"number": 3}


def test_while_closing(registry, hosts, kazoo):
    made = [registry.register("/svc/providers", f"h:{port}") for port in range(1, 51)]
    ending = threading.Thread(target=expire, args=(registry, hosts))
    ending.start()
    for registration in made[:25]:
        registration.close()
    ending.join(10)
    check_present_once(registry, kazoo, [f"h:{port}" for port in range(26, 51)])
    expire(registry, hosts)
    registry.close()
    wait_for(lambda: kazoo.get_children("/svc/providers") == [], timeout=BACK_WITHIN)
    assert all(registration.status is Status.CLOSED for registration in made)
    left = {thread.name for thread in threading.enumerate()}
    assert not left & {"zkfleet-registry", "zkfleet-callbacks"}
