"""A registration says what its owner says: nobody else writes it, and nothing that is refused is done in silence."""

import json

import pytest
from click.testing import CliRunner
from kazoo.client import KazooClient

import zkfleet
from tests.conftest import wait_for
from zkfleet import Status
from zkfleet.cli import main
from zkfleet.errors import BadInput, RegistrationConflict
from zkfleet.tree.plan import Hold

AT = "/svc/providers/h:1"


@pytest.fixture
def service(registry):
    registry.import_tree("/svc\n  /providers\n/lb\n  main -> /svc/providers/h:1\n")
    return registry


@pytest.fixture
def registration(service):
    return service.register("/svc/providers", "h:1", weight=1)


@pytest.fixture
def operator(hosts):
    with zkfleet.connect(hosts, session_timeout=5) as operator:
        yield operator


@pytest.fixture
def command(hosts):
    def run(*arguments, text=None):
        return CliRunner(env={"ZKFLEET_ZOOKEEPER": hosts}).invoke(main, list(arguments), input=text)

    return run


WRITES = {
    "update": lambda registry: registry.properties(AT).update(weight=2),
    "set an item": lambda registry: registry.properties(AT).__setitem__("weight", 2),
    "delete an item": lambda registry: registry.properties(AT).__delitem__("weight"),
    "set all": lambda registry: registry.properties(AT).set({}),
    "without watching": lambda registry: registry.properties(AT, watch=False).update(weight=2),
    "over a link": lambda registry: registry.properties("/lb/main").update(weight=2),
    "change_properties": lambda registry: registry.change_properties(AT, lambda found: {**found, "weight": 2}),
    "ln": lambda registry: registry.ln("/svc", f"{AT}/x"),
    "unlink": lambda registry: registry.unlink(f"{AT}/x"),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("by", ["its own registry", "another session"])
def test_nobody_writes_a_registration_past_its_owner(service, registration, operator, kazoo, write, by):
    before = kazoo.get(AT)
    with pytest.raises(RegistrationConflict, match="registered by a live session") as refused:
        WRITES[write](service if by == "its own registry" else operator)
    assert "update()" in refused.value.hint
    assert "/svc/providers" in refused.value.hint
    assert kazoo.get(AT) == before


def test_its_owner_writes_it_and_everybody_the_service(registration, operator, kazoo):
    registration.update(weight=2)
    operator.properties("/svc/providers").update(weight=3)
    assert json.loads(kazoo.get(AT)[0])["weight"] == 2
    assert operator.get_properties("/svc/providers") == {"weight": 3}


def test_a_lock_is_not_written_either(service, operator):
    service.lock("/svc", "leader").wait_until_held(5)
    for registry in (service, operator):
        with pytest.raises(RegistrationConflict):
            registry.properties("/svc/leader").update(x=1)


def test_an_ephemeral_node_of_one_s_own_client_is_one_s_own(hosts):
    client = KazooClient(hosts)
    client.start()
    with zkfleet.connect(client=client) as registry:
        client.create("/mine", b"{}", ephemeral=True)
        registry.properties("/mine").update(x=1)
        assert registry.get_properties("/mine") == {"x": 1}
    client.stop()
    client.close()


def test_an_import_leaves_it_as_it_is_and_says_so(registration, operator, kazoo):
    before = kazoo.get(AT)
    plan = operator.import_tree("/svc\n  /providers\n    /h:1\n      weight = 2\n")
    assert [(step.path, type(step)) for step in plan.steps] == [(AT, Hold)]
    assert "says what its owner says" in str(plan)
    assert kazoo.get(AT) == before


def test_there_is_no_node_below_it(registration, operator):
    with pytest.raises(BadInput, match="ephemeral nodes have no children"):
        operator.make_node(f"{AT}/x")
    with pytest.raises(BadInput, match="ephemeral nodes have no children"):
        operator.import_tree("/svc\n  /providers\n    /h:1\n      /x\n")
    with pytest.raises(BadInput, match="ephemeral nodes have no children"):
        operator.register(AT, "h:2")


def test_the_command_that_sets_a_property_of_it_is_refused_with_what_to_do(registration, command, kazoo):
    done = command("set", AT, "weight=2")
    assert done.exit_code == 1
    assert f"error: {AT} is registered by a live session" in done.stderr
    assert "hint: change it where it is registered" in done.stderr
    assert json.loads(kazoo.get(AT)[0])["weight"] == 1


def test_a_removal_says_that_a_registration_comes_back(registration, command, kazoo):
    kept = command("rm", AT)
    assert (kept.exit_code, kept.stderr.count("hint: ")) == (1, 1)
    assert f"! {AT} is kept: it is ephemeral" in kept.stderr
    before = kazoo.exists(AT).czxid
    for options in (["-f", "-n"], ["-f"]):
        done = command("rm", AT, *options)
        assert done.exit_code == 0
        assert f"warning: {AT} belongs to a live session: a server that is registered registers again" in done.stderr
    wait_for(lambda: kazoo.exists(AT) and kazoo.exists(AT).czxid != before)
    wait_for(lambda: registration.status is Status.REGISTERED)
