import json
import logging
import os
import socket
import subprocess
import sys
import threading
import uuid

import pytest

import zkfleet
from tests.conftest import wait_for
from tests.foreign import WORST, does_nothing
from zkfleet import Status
from zkfleet.errors import (
    AccessDenied,
    BadAcl,
    BadAddress,
    BadInput,
    BadPath,
    BadProperties,
    NodeNotFound,
    RegistrationConflict,
    TooLarge,
)
from zkfleet.registry import registering
from zkfleet.registry.identity import is_dead, new_instance
from zkfleet.testing import expire_session


@pytest.fixture
def service(registry):
    registry.import_tree("/svc\n  /providers\n/lb\n  providers -> /svc/providers\n")
    return registry


def read(kazoo, name="10.0.0.1:80"):
    data, stat = kazoo.get(f"/svc/providers/{name}")
    return json.loads(data), stat


def owned(kazoo, client, name="10.0.0.1:80"):
    stat = kazoo.exists(f"/svc/providers/{name}")
    return stat is not None and stat.ephemeralOwner == client.session.session_id


def test_a_server_registers_over_a_link_with_its_properties(service, kazoo):
    registration = service.register("/lb/providers", ("10.0.0.1", 80), weight=3)
    said, stat = read(kazoo)
    assert said["pid"] == os.getpid()
    assert said["host"] == socket.gethostname()
    assert said["weight"] == 3
    assert said["instance"]
    assert stat.ephemeralOwner == service.session.session_id
    assert (registration.status, registration.addresses) == (Status.REGISTERED, ("10.0.0.1:80",))


def test_closing_removes_it_before_it_returns(service, kazoo):
    with service.register("/svc/providers", "10.0.0.1:80") as registration:
        assert kazoo.get_children("/svc/providers") == ["10.0.0.1:80"]
    assert kazoo.get_children("/svc/providers") == []
    registration.close()
    assert registration.status is Status.CLOSED


def test_closing_after_the_link_was_retargeted_removes_it_where_it_is(service, kazoo):
    registration = service.register("/lb/providers", "10.0.0.1:80")
    service.ln("/", "/lb/providers")
    registration.close()
    assert kazoo.get_children("/svc/providers") == []


def test_properties_are_updated_in_place(service, kazoo):
    registration = service.register("/svc/providers", "10.0.0.1:80", weight=1)
    _, before = read(kazoo)
    registration.update(weight=2)
    registration.drain()
    said, after = read(kazoo)
    assert (said["weight"], said["state"]) == (2, "draining")
    assert after.czxid == before.czxid


def test_a_blank_host_registers_every_address_of_the_machine(service, kazoo):
    registration = service.register("/svc/providers", ":8080")
    assert sorted(registration.addresses) == sorted(kazoo.get_children("/svc/providers"))
    assert all(address.endswith(":8080") for address in registration.addresses)
    registration.close()
    assert kazoo.get_children("/svc/providers") == []


def test_something_else_can_be_published(service, monkeypatch):
    assert service.register("/svc/providers", ":80", advertise="lb.example.com").addresses == ("lb.example.com:80",)
    monkeypatch.setenv("ZKFLEET_ADVERTISE", "[fd00::1]")
    assert service.register("/svc/providers", ":80").addresses == ("[fd00::1]:80",)


def test_subscribers_may_add_properties_and_register_themselves(service, kazoo):
    @registering.subscribe
    def add(event):
        event.properties["rack"] = 7
        if event.addresses == ("10.0.0.1:80",):
            service.register("/svc/providers", "10.0.0.1:81")

    try:
        service.register("/svc/providers", "10.0.0.1:80")
    finally:
        registering.unsubscribe(add)
    assert read(kazoo)[0]["rack"] == 7
    assert len(kazoo.get_children("/svc/providers")) == 2


def test_an_operator_s_deletion_is_undone(service, kazoo):
    registration = service.register("/svc/providers", "10.0.0.1:80")
    kazoo.delete("/svc/providers/10.0.0.1:80")
    wait_for(lambda: owned(kazoo, service))
    wait_for(lambda: registration.status is Status.REGISTERED)


def test_a_registration_survives_the_expiry_of_its_session(service, kazoo, hosts):
    registration = service.register("/svc/providers", "10.0.0.1:80")
    former = service.session.session_id
    expire_session(hosts, service.session.client.client_id)
    wait_for(lambda: service.session.session_id not in (0, former) and owned(kazoo, service))
    wait_for(lambda: registration.status is Status.REGISTERED)
    assert service.statistics().expiries == 1


def test_a_living_owner_is_waited_for_and_named(service, hosts, kazoo, caplog):
    with zkfleet.connect(hosts) as other:
        first = other.register("/svc/providers", "10.0.0.1:80")
        second = service.register("/svc/providers", "10.0.0.1:80")
        assert second.status is Status.BLOCKED
        assert f"pid {os.getpid()}" in str(second.problem)
        assert f"pid {os.getpid()}" in caplog.text
        first.close()
        second.wait_until_registered(5)
        assert owned(kazoo, service)


def test_the_log_says_what_to_do_about_a_missing_node_and_gives_no_reason_without_one(service, caplog):
    with caplog.at_level(logging.INFO, "zkfleet.registry"):
        service.register("/svc/providers", "10.0.0.1:80", wait=True)
        with pytest.raises(NodeNotFound):
            service.register("/svc/missing", "10.0.0.1:80")
        wait_for(lambda: "reason=no such znode: /svc/missing" in caplog.text)
    assert "`zkfleet tree import` makes the nodes" in caplog.text
    assert "reason=None" not in caplog.text


def test_what_somebody_else_says_begins_no_line_of_the_log(service, kazoo, caplog):
    said = json.dumps({"pid": WORST, "host": WORST}).encode()
    kazoo.create("/svc/providers/10.0.0.1:80", said, ephemeral=True)
    blocked = service.register("/svc/providers", "10.0.0.1:80", wait=False)
    wait_for(lambda: "registration_blocked" in caplog.text)
    assert does_nothing(f"{blocked.problem}\n", lines=1)
    records = [record for record in caplog.records if record.name.startswith("zkfleet")]
    assert all(does_nothing(caplog.handler.format(record) + "\n", lines=1) for record in records)
    assert r"(pid a\x1b[2J\r\nCRITICAL zkfleet: all is lost\n" in caplog.text


def test_a_conflict_can_be_an_error_or_a_takeover(service, hosts, kazoo):
    with zkfleet.connect(hosts) as other:
        other.register("/svc/providers", "10.0.0.1:80", wait=True)
        with pytest.raises(RegistrationConflict):
            service.register("/svc/providers", "10.0.0.1:80", on_conflict="fail")
        taken = service.register("/svc/providers", "10.0.0.1:80", on_conflict="takeover")
        assert taken.status is Status.REGISTERED
        assert owned(kazoo, service)


def test_the_znode_of_a_dead_process_of_this_machine_is_replaced_without_a_gap(service, hosts, kazoo):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    dead = {"pid": int(gone.stdout), "instance": new_instance()}
    kazoo.create("/svc/providers/10.0.0.1:80", json.dumps(dead).encode(), ephemeral=True)
    absent, stop = [], threading.Event()

    def watch():
        while not stop.is_set():
            if not kazoo.exists("/svc/providers/10.0.0.1:80"):
                absent.append(True)

    reader = threading.Thread(target=watch)
    reader.start()
    registration = service.register("/svc/providers", "10.0.0.1:80")
    stop.set()
    reader.join(5)
    assert registration.status is Status.REGISTERED
    assert owned(kazoo, service)
    assert not absent


def test_only_a_process_of_this_machine_can_be_known_to_be_dead():
    assert not is_dead({"pid": os.getpid(), "instance": new_instance()})
    assert not is_dead({"pid": 4_000_000, "instance": "00000000-1"})
    assert not is_dead({"pid": 4_000_000})
    assert not is_dead({"pid": True, "instance": new_instance()})
    assert is_dead({"pid": 4_000_000, "instance": new_instance()})


def test_a_persistent_znode_in_the_way_is_an_error_and_stays(service, kazoo):
    kazoo.create("/svc/providers/10.0.0.1:80", b"kept")
    with pytest.raises(RegistrationConflict, match="persistent"):
        service.register("/svc/providers", "10.0.0.1:80", on_conflict="takeover")
    assert kazoo.get("/svc/providers/10.0.0.1:80")[0] == b"kept"


@pytest.mark.parametrize("path", ["/svc/providers", "/lb/providers"])
def test_the_same_endpoint_twice_in_one_session_waits_for_the_first(service, kazoo, path):
    first = service.register("/svc/providers", "10.0.0.1:80", weight=1)
    second = service.register(path, "10.0.0.1:80", weight=2)
    assert (first.status, second.status) == (Status.REGISTERED, Status.BLOCKED)
    first.update(weight=3)
    assert read(kazoo)[0]["weight"] == 3
    assert read(kazoo)[1].version == 1
    first.close()
    second.wait_until_registered(5)
    assert read(kazoo)[0]["weight"] == 2
    second.close()
    assert kazoo.get_children("/svc/providers") == []


def test_the_same_endpoint_twice_survives_the_end_of_the_session(service, kazoo, hosts):
    first = service.register("/svc/providers", "10.0.0.1:80")
    second = service.register("/svc/providers", "10.0.0.1:80")
    expire_session(hosts, service.session.client.client_id)
    wait_for(lambda: service.statistics().expiries == 1 and owned(kazoo, service))
    statuses = {Status.REGISTERED, Status.BLOCKED}
    wait_for(lambda: {first.status, second.status} == statuses)
    version = read(kazoo)[1].version
    first.close()
    second.close()
    assert version == 0
    assert kazoo.get_children("/svc/providers") == []


def test_two_that_take_over_do_not_fight(service, hosts, kazoo):
    with zkfleet.connect(hosts) as other:
        first = service.register("/svc/providers", "10.0.0.1:80", on_conflict="takeover")
        second = other.register("/svc/providers", "10.0.0.1:80", on_conflict="takeover")
        assert second.status is Status.REGISTERED
        wait_for(lambda: first.status is Status.BLOCKED)
        assert owned(kazoo, other)
        second.close()
        first.wait_until_registered(5)


def test_a_missing_service_is_an_error_and_nothing_is_left(service):
    with pytest.raises(NodeNotFound) as caught:
        service.register("/none/providers", "10.0.0.1:80")
    assert caught.value.missing == "/none"
    wait_for(lambda: service.statistics().registrations == 0)


def test_a_service_that_comes_later_is_waited_for_if_asked(service, kazoo):
    registration = service.register("/late/providers", "10.0.0.1:80", wait=False)
    wait_for(lambda: isinstance(registration.problem, NodeNotFound))
    service.import_tree("/late\n  /providers\n")
    registration.wait_until_registered(5)
    assert kazoo.get_children("/late/providers") == ["10.0.0.1:80"]


@pytest.mark.parametrize(
    ("path", "address", "options", "error"),
    [
        ("svc", "10.0.0.1:80", {}, BadPath),
        ("/zookeeper", "10.0.0.1:80", {}, BadPath),
        ("/svc//providers", "10.0.0.1:80", {}, BadPath),
        ("/svc/providers", "10.0.0.1", {}, BadAddress),
        ("/svc/providers", ("a", "b"), {}, BadAddress),
        ("/svc/providers", "10.0.0.1:80", {"advertise": "x y"}, BadAddress),
        ("/svc/providers", "10.0.0.1:80", {"acl": "nonsense"}, BadAcl),
        ("/svc/providers", "10.0.0.1:80", {"acl": []}, BadAcl),
        ("/svc/providers", "10.0.0.1:80", {"acl": "auth::r"}, BadAcl),
        ("/svc/providers", "10.0.0.1:80", {"on_conflict": "maybe"}, BadInput),
        ("/svc/providers", "10.0.0.1:80", {"weight": {1, 2}}, BadProperties),
        ("/svc/providers", "10.0.0.1:80", {"pid": 1}, BadProperties),
        ("/svc/providers", "10.0.0.1:80", {"weight": float("nan")}, BadProperties),
        ("/svc/providers", "10.0.0.1:80", {"text": "x" * 1_000_000}, TooLarge),
    ],
)
def test_bad_input_is_refused_and_nothing_is_registered(service, kazoo, path, address, options, error):
    with pytest.raises(error):
        service.register(path, address, **options)
    assert kazoo.get_children("/svc/providers") == []


def test_a_missing_permission_is_named(service, kazoo):
    from kazoo.security import make_acl

    kazoo.set_acls("/svc/providers", [make_acl("world", "anyone", read=True)])
    with pytest.raises(AccessDenied) as caught:
        service.register("/svc/providers", "10.0.0.1:80")
    assert caught.value.path == "/svc/providers"
    assert "create" in caught.value.permission


def test_the_acl_of_the_leaf_is_not_put_on_its_parents(service, kazoo):
    before = kazoo.get_acls("/svc/providers")[0]
    service.register("/svc/providers", "10.0.0.1:80", acl="world:anyone:r")
    assert kazoo.get_acls("/svc/providers")[0] == before
    assert [acl.perms for acl in kazoo.get_acls("/svc/providers/10.0.0.1:80")[0]] == [1]


def test_closing_the_registry_removes_its_registrations(service, hosts, kazoo):
    other = zkfleet.connect(hosts)
    other.register("/svc/providers", "10.0.0.2:80")
    other.close()
    other.close()
    assert kazoo.get_children("/svc/providers") == []


def test_many_registrations_are_sent_without_waiting_for_each(service, kazoo):
    made = [service.register("/svc/providers", f"10.0.0.1:{port}", wait=False) for port in range(1000, 1200)]
    for registration in made:
        registration.wait_until_registered(10)
    assert len(kazoo.get_children("/svc/providers")) == 200


@pytest.mark.slow
def test_a_process_that_ends_without_closing_takes_its_address_out(service, hosts, kazoo):
    script = (
        "import sys, zkfleet; registry = zkfleet.connect(sys.argv[1])\n"
        "registry.register('/svc/providers', 'h:1'); print('there', flush=True); sys.stdin.readline()"
    )
    line = [sys.executable, "-c", script, hosts]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "there\n"
        assert kazoo.get_children("/svc/providers") == ["h:1"]
        process.communicate("\n", timeout=10)
    assert kazoo.get_children("/svc/providers") == []


def test_an_advertised_name_that_has_no_address_is_told_once(service, caplog):
    name = f"eth{uuid.uuid4().hex}.invalid"  # each name is looked up once a process
    for port in (80, 81):
        service.register("/svc/providers", f":{port}", advertise=name)
    service.register("/svc/providers", ":82", advertise="localhost")
    service.register("/svc/providers", "nobody.invalid:83")  # which the server could listen at
    wait_for(lambda: f"advertised_name_unknown name={name}" in caplog.text)
    assert caplog.text.count("advertised_name_unknown") == 1


def test_a_path_that_is_not_there_is_an_error_and_no_line_of_the_log(service, caplog):
    with pytest.raises(NodeNotFound):
        service.providers("/nope")
    assert "view_emptied" not in caplog.text
