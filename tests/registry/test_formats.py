"""Who is registered by others: what Curator and ServerSets write, read as it is."""

import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from zkfleet.cli import main
from zkfleet.endpoints import Endpoint
from zkfleet.registry.formats import CURATOR, SERVER_SET, UNKNOWN, ZKFLEET, read_instance
from zkfleet.tree import decode

ID = "0c9c4c8e-7b0e-4f4a-9d0c-3c1a0d2b5e11"
# Written by Curator 5.4: JsonInstanceSerializer, with and without its compatible mode.
COMPATIBLE = (
    '{"name":"search","id":"0c9c4c8e-7b0e-4f4a-9d0c-3c1a0d2b5e11","address":"10.0.0.7","port":8080,"sslPort":null,'
    '"payload":{"@class":"Instances$Details","zone":"a","weight":3},"registrationTimeUTC":1700000000000,'
    '"serviceType":"DYNAMIC","uriSpec":{"parts":[{"value":"scheme","variable":true},{"value":"://","variable":false},'
    '{"value":"address","variable":true},{"value":":","variable":false},{"value":"port","variable":true},'
    '{"value":"/api","variable":false}]}}'
)
ENABLED = COMPATIBLE[:-1] + ',"enabled":true}'
STATIC_DISABLED = (
    '{"name":"search","id":"0c9c4c8e-7b0e-4f4a-9d0c-3c1a0d2b5e11","address":"10.0.0.7","port":8080,"sslPort":8443,'
    '"payload":null,"registrationTimeUTC":1700000000000,"serviceType":"STATIC","uriSpec":null,"enabled":false}'
)
TLS_ALONE = (
    '{"name":"search","id":"0c9c4c8e-7b0e-4f4a-9d0c-3c1a0d2b5e11","address":"10.0.0.7","port":null,"sslPort":8443,'
    '"payload":null,"registrationTimeUTC":1700000000000,"serviceType":"DYNAMIC","uriSpec":null}'
)
NO_PORT = (
    '{"name":"search","id":"0c9c4c8e-7b0e-4f4a-9d0c-3c1a0d2b5e11","address":"fd00:0:0:0:0:0:0:2%eth0","port":null,'
    '"sslPort":null,"payload":null,"registrationTimeUTC":1700000000000,"serviceType":"DYNAMIC","uriSpec":null}'
)
V6 = NO_PORT.replace('"port":null', '"port":80')
SPRING = (
    '{"name":"search","id":"0c9c4c8e-7b0e-4f4a-9d0c-3c1a0d2b5e11","address":"10.0.0.7","port":8080,"sslPort":null,'
    '"payload":{"@class":"org.springframework.cloud.zookeeper.discovery.ZookeeperInstance","id":"search",'
    '"name":"search","metadata":{"instance_status":"OUT_OF_SERVICE"}},"registrationTimeUTC":1700000000000,'
    '"serviceType":"DYNAMIC","uriSpec":null}'
)
MEMBER = (
    '{"status": "ALIVE", "additionalEndpoints": {"aurora": {"host": "10.0.0.9", "port": 31510}}, '
    '"serviceEndpoint": {"host": "10.0.0.9", "port": 31509}, "shard": 0}'
)


@pytest.mark.parametrize(
    ("name", "data", "whose", "endpoint", "reason"),
    [
        ("10.0.0.1:80", '{"pid":1}', ZKFLEET, "10.0.0.1:80", ""),
        ("10.0.0.1:80", '{"state":"draining"}', ZKFLEET, None, "it drains"),
        (ID, COMPATIBLE, CURATOR, "10.0.0.7:8080", ""),
        (ID, ENABLED, CURATOR, "10.0.0.7:8080", ""),
        (ID, TLS_ALONE, CURATOR, "10.0.0.7:8443", ""),
        (ID, V6, CURATOR, "[fd00::2]:80", ""),
        ("search:8080", COMPATIBLE, CURATOR, "10.0.0.7:8080", ""),
        (ID, STATIC_DISABLED, CURATOR, None, "it is disabled"),
        (ID, SPRING, CURATOR, None, "its status is 'OUT_OF_SERVICE'"),
        (ID, SPRING.replace("OUT_OF_SERVICE", "UP"), CURATOR, "10.0.0.7:8080", ""),
        (ID, NO_PORT, CURATOR, None, "no address that can be called"),
        (ID, COMPATIBLE.replace("10.0.0.7", "0.0.0.0"), CURATOR, None, "no address that can be called"),
        (ID, COMPATIBLE.replace("8080", "0"), CURATOR, None, "no address that can be called"),
        (ID, COMPATIBLE.replace("8080", '"x"'), CURATOR, None, "no address that can be called"),
        ("member_0000000012", MEMBER, SERVER_SET, "10.0.0.9:31509", ""),
        ("member_0000000012", MEMBER.replace("ALIVE", "DEAD"), SERVER_SET, None, "its status is 'DEAD'"),
        ("member_0000000012", '{"serviceEndpoint": {}}', SERVER_SET, None, "no address that can be called"),
        (ID, MEMBER, UNKNOWN, None, "no format that zkfleet reads"),
        (ID, "{}", UNKNOWN, None, "no format that zkfleet reads"),
        (ID, "", UNKNOWN, None, "no format that zkfleet reads"),
    ],
)
def test_each_is_read_by_its_own_format(name, data, whose, endpoint, reason):
    found = read_instance(name, decode(data.encode()))
    assert (found.format, found.endpoint and str(found.endpoint)) == (whose, endpoint)
    assert reason in found.reason
    assert bool(found.reason) == (found.endpoint is None)


# Spelled out where texts of any kind would take minutes to draw.
PLAIN = st.sampled_from(
    [None, True, False, 0, 1, 8080, -1, 70000, 1.5, float("nan"), "", "h", "h:1", "8080", "\0", "UP"]
)
PLAIN |= st.sampled_from(["10.0.0.7", "::1", "fe80::1%eth0", "2001:db8::5%1", "%", "[", "0.0.0.0"]) | st.text(
    max_size=3
)
INNER = ["host", "port", "metadata", "instance_status", "x"]
ANYTHING = PLAIN | st.lists(PLAIN, max_size=2)
for _ in range(2):
    ANYTHING |= st.dictionaries(st.sampled_from(INNER), ANYTHING, max_size=2)
KEYS = ["name", "id", "address", "port", "sslPort", "payload", "serviceType", "registrationTimeUTC", "enabled"]


@given(
    st.sampled_from([ID, "member_1", "h:1"]),
    st.dictionaries(st.sampled_from([*KEYS, "serviceEndpoint", "status"]), ANYTHING, max_size=4),
)
def test_whatever_stands_there_is_read_without_an_error(name, said):
    whole = dict.fromkeys(KEYS) | said
    for found in (read_instance(name, said), read_instance(name, whole)):
        assert (found.endpoint is None) == bool(found.reason)
        assert found.endpoint is None or (found.endpoint.host and found.endpoint.port)


@pytest.fixture
def mixed(registry, kazoo):
    """A service with providers of every format."""
    registry.import_tree("/services\n  /search\n  /odd\n    /providers\n")
    registry.register("/services/search", "10.0.0.1:80", weight=1)
    kazoo.create(f"/services/search/{ID}", COMPATIBLE.encode(), ephemeral=True)
    kazoo.create("/services/search/member_0000000001", MEMBER.encode(), ephemeral=True)
    kazoo.create("/services/search/static", STATIC_DISABLED.encode())
    return registry


def test_a_view_has_the_endpoints_of_all_formats_and_shows_what_stands_there(mixed, kazoo):
    view = mixed.providers("/services/search")
    assert view.endpoints == (Endpoint("10.0.0.7", 8080), Endpoint("10.0.0.1", 80), Endpoint("10.0.0.9", 31509))
    assert {name: one.format for name, one in view.instances.items()} == {
        ID: CURATOR,
        "10.0.0.1:80": ZKFLEET,
        "member_0000000001": SERVER_SET,
        "static": CURATOR,
    }
    assert view[ID] == json.loads(COMPATIBLE)
    kazoo.delete(f"/services/search/{ID}")
    view.wait_until(lambda view: Endpoint("10.0.0.7", 8080) not in view.endpoints)


def test_the_command_lists_them_and_says_who_is_left_out(mixed, hosts, kazoo):
    kazoo.create("/services/search/odd", b'{"x":1}', ephemeral=True)
    run = CliRunner(env={"ZKFLEET_ZOOKEEPER": hosts}).invoke
    done = run(main, ["addresses", "/services/search"])
    assert done.stdout == "10.0.0.7:8080\n10.0.0.1:80\n10.0.0.9:31509\n"
    assert "! static is left out: it is disabled\n" in done.stderr
    assert "! odd is left out: its name is no address" in done.stderr
    rows = json.loads(run(main, ["addresses", "/services/search", "--format", "json"]).stdout)
    assert rows["10.0.0.7:8080"]["payload"]["zone"] == "a"
    assert rows["10.0.0.1:80"]["weight"] == 1


def test_the_doctor_takes_them_for_what_they_are(mixed, kazoo):
    assert mixed.doctor() == []
    kazoo.create("/services/odd/providers/worker", b'{"x":1}', ephemeral=True)
    kazoo.create(f"/services/search/{ID[:-1]}2", NO_PORT.encode(), ephemeral=True)
    kazoo.create("/services/odd/providers/10.0.0.7:8080", b"{}", ephemeral=True)
    mixed.lock("/services/odd/providers", "leader").wait_until_held(5)
    assert sorted((finding.path.rpartition("/")[2], finding.kind) for finding in mixed.doctor()) == [
        (ID, "same endpoint twice"),
        (f"{ID[:-1]}2", "unknown provider"),
        ("10.0.0.7:8080", "same endpoint twice"),
        ("worker", "unknown provider"),
    ]
