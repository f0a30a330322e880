"""Random work and random faults on a real server, against a model of what must be there in the end."""

import itertools

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from kazoo.client import KazooClient

import zkfleet
from tests.conftest import wait_for
from zkfleet import Status
from zkfleet.testing import Proxy, ZooKeeperServer, expire_session

pytestmark = [pytest.mark.slow, pytest.mark.faults]
TIMEOUT = 2.0
BACK_WITHIN = TIMEOUT + 2
PORTS = st.integers(1, 6)
PROVIDERS = "/svc/providers"
_numbers = itertools.count(1)


class Fleet(RuleBasedStateMachine):
    """One process that registers and follows, over a link that breaks; an operator who does not care."""

    server: ZooKeeperServer

    @initialize()
    def begin(self):
        chroot = f"/random{next(_numbers)}"
        self.operator = KazooClient(self.server.hosts)
        self.operator.start()
        self.operator.create(chroot)
        self.operator.chroot = chroot
        self.hosts = self.server.hosts + chroot
        self.proxy = Proxy(self.server.port)
        self.registry = zkfleet.connect(self.proxy.hosts + chroot, session_timeout=TIMEOUT, timeout=20)
        self.registry.import_tree("/svc\n  /providers\n")
        self.made, self.weights, self.foreign = {}, {}, set()
        self.settings, self.said = {}, {None}
        self.view = self.registry.providers(PROVIDERS)
        self.properties = self.registry.properties("/svc")
        self.wrong = []
        self.view(self.check_seen)

    def check_seen(self, view):
        """No callback sees what never was."""
        for name, properties in view.items():
            if (name, properties.get("weight")) not in self.said and (name, None) not in self.said:
                self.wrong.append((name, dict(properties)))

    # -- work

    @rule(port=PORTS, weight=st.integers(0, 3))
    def register(self, port, weight):
        name = f"h:{port}"
        if name not in self.made and name not in self.foreign:
            self.said.add((name, weight))
            self.weights[name] = weight
            self.made[name] = self.registry.register(PROVIDERS, name, weight=weight, wait=False)

    @precondition(lambda self: self.made)
    @rule(data=st.data(), weight=st.integers(0, 3))
    def update(self, data, weight):
        name = data.draw(st.sampled_from(sorted(self.made)))
        self.said.add((name, weight))
        self.weights[name] = weight
        self.made[name].update(weight=weight)

    @precondition(lambda self: self.made)
    @rule(data=st.data())
    def close_one(self, data):
        name = data.draw(st.sampled_from(sorted(self.made)))
        self.made.pop(name).begin_close()
        del self.weights[name]
        # Its name is free for others once it is gone for sure.
        wait_for(lambda: not self.operator.exists(f"{PROVIDERS}/{name}"), timeout=2 * BACK_WITHIN)

    @rule(number=st.integers())
    def configure(self, number):
        self.settings = {"number": number}
        self.operator.set("/svc", b'{"number":%d}' % number)

    @rule(port=st.integers(7, 9))
    def somebody_else_comes_or_goes(self, port):
        name = f"h:{port}"
        if name in self.foreign:
            self.foreign.discard(name)
            self.operator.delete(f"{PROVIDERS}/{name}")
        else:
            self.foreign.add(name)
            self.said.add((name, 9))
            self.operator.create(f"{PROVIDERS}/{name}", b'{"weight":9}', ephemeral=True)

    # -- faults

    @precondition(lambda self: self.made)
    @rule(data=st.data())
    def an_operator_deletes_what_is_ours(self, data):
        name = data.draw(st.sampled_from(sorted(self.made)))
        if self.operator.exists(f"{PROVIDERS}/{name}"):
            self.operator.delete(f"{PROVIDERS}/{name}")

    @rule()
    def the_link_is_cut(self):
        self.proxy.cut()

    @rule()
    def the_link_is_down(self):
        self.proxy.refuse()

    @rule()
    def the_link_is_silent(self):
        self.proxy.black_hole()

    @rule()
    def the_link_is_up(self):
        self.proxy.heal()

    @rule()
    def the_session_ends(self):
        client = self.registry.session.client
        if client.client_id is not None:
            expire_session(self.server.hosts, client.client_id)

    # -- what must be true in the end

    @rule()
    def all_is_well(self):
        self.proxy.heal()
        names = set(self.made) | self.foreign
        wanted = {name: self.weights.get(name, 9) for name in names}
        wait_for(lambda: all(r.status is Status.REGISTERED for r in self.made.values()), timeout=2 * BACK_WITHIN)
        wait_for(lambda: set(self.operator.get_children(PROVIDERS)) == names, timeout=BACK_WITHIN)
        session = self.registry.session.session_id
        for name in self.made:
            assert self.operator.exists(f"{PROVIDERS}/{name}").ephemeralOwner == session
        self.view.wait_until(lambda v: {name: v[name]["weight"] for name in v} == wanted and not v.stale_since)
        self.properties.wait_until(lambda v: dict(v) == self.settings and not v.stale_since)
        assert self.wrong == []

    def teardown(self):
        if not hasattr(self, "registry"):
            return
        try:
            self.all_is_well()
        finally:
            self.registry.close()
            self.proxy.stop()
            self.operator.stop()
            self.operator.close()


def test_whatever_happens_all_is_well_in_the_end(zookeeper):
    Fleet.server = zookeeper
    run_state_machine_as_test(
        Fleet,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            phases=[Phase.generate],  # what fails takes its time to fail: the first case is told as it is
            deadline=None,
            derandomize=True,
            database=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
