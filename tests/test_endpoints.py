import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkfleet.endpoints import (
    Endpoint,
    addresses_to_advertise,
    from_here,
    is_loopback,
    is_wildcard,
    parse_endpoint,
)
from zkfleet.errors import BadAddress
from zkfleet.interfaces import LocalAddress, find_interfaces

MACHINE = [ipaddress.ip_address(a) for a in ("127.0.0.1", "10.1.2.3", "192.168.7.9", "::1", "fd00::5")]


def publish(address, advertise="", interfaces=MACHINE, environment=None):
    endpoint = parse_endpoint(address)
    machine = interfaces if isinstance(interfaces, dict) else {"eth0": [LocalAddress(each) for each in interfaces]}
    found = addresses_to_advertise(endpoint, advertise=advertise, interfaces=machine, environment=environment or {})
    return [str(each) for each in found]


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("10.0.0.1:80", "10.0.0.1", 80),
        (("10.0.0.1", 80), "10.0.0.1", 80),
        ("zeo.example.com:8100", "zeo.example.com", 8100),
        ("[::1]:80", "::1", 80),
        (("::1", 80), "::1", 80),
        (("[fd00::1]", 80), "fd00::1", 80),
        (":80", "", 80),
        (("", 80), "", 80),
        ("0.0.0.0:80", "", 80),
        ("[::]:80", "", 80),
        ("*:80", "", 80),
        ("[FD00:0::1]:1", "fd00::1", 1),
    ],
)
def test_addresses_are_read_in_every_form(address, host, port):
    assert parse_endpoint(address) == Endpoint(host, port)


@pytest.mark.parametrize(
    "address",
    ["", "host", "host:", "host:port", "host:-1", "host:65536", "::1:80", "[::1]", "a b:1", "[zz]:1", "a/b:1"],
)
def test_a_malformed_address_is_refused_with_the_forms_that_work(address):
    with pytest.raises(BadAddress) as caught:
        parse_endpoint(address)
    assert "host:port" in caught.value.hint


@pytest.mark.parametrize(
    "address",
    [None, 80, ("a",), ("a", 1, 2), ("a", None), ("a", True), ("a", 1.5), (None, 80), "-:1", ":\u0663"],
)
def test_what_is_no_address_at_all_is_refused(address):
    with pytest.raises(BadAddress):
        parse_endpoint(address)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_what_is_printed_is_read_back(address, port):
    endpoint = Endpoint(str(address), port)
    read = parse_endpoint(str(endpoint))
    assert read == endpoint or (address.is_unspecified and read.host == "")


@pytest.mark.parametrize("address", [":80", "*:80", "[::]:80", ("", 80), ("::", 80), "[0::0]:80"])
def test_a_blank_host_publishes_every_address_that_is_not_loopback(address):
    assert publish(address) == ["10.1.2.3:80", "192.168.7.9:80", "[fd00::5]:80"]


@pytest.mark.parametrize("address", ["0.0.0.0:80", ("0.0.0.0", 80), "0:80"])
def test_a_blank_host_of_ipv4_publishes_ipv4_alone_if_there_is_any(address):
    assert publish(address) == ["10.1.2.3:80", "192.168.7.9:80"]
    assert publish(address, interfaces=MACHINE[3:] + MACHINE[:1]) == ["[fd00::5]:80"]


INTERFACES = {
    "lo": [LocalAddress(ipaddress.ip_address("127.0.0.1"))],
    "eth0": [LocalAddress(ipaddress.ip_address(a)) for a in ("10.1.2.3", "fd00::5", "fe80::1")],
    "eth1": [LocalAddress(ipaddress.ip_address("fe80::2"))],
    "eth2": [],
}


@pytest.mark.parametrize(
    ("advertise", "published"),
    [
        ("eth0", ["10.1.2.3:80", "[fd00::5]:80"]),
        ("eth0:81", ["10.1.2.3:81", "[fd00::5]:81"]),
        ("lo", ["127.0.0.1:80"]),
        ("eth7", ["eth7:80"]),
    ],
)
def test_an_interface_publishes_its_addresses(advertise, published):
    assert publish(":80", advertise=advertise, interfaces=INTERFACES) == published
    assert publish("inside:80", advertise=advertise, interfaces=INTERFACES) == published


@pytest.mark.parametrize("advertise", ["eth1", "eth2", "eth2:81"])
def test_an_interface_that_nobody_can_reach_is_refused_with_the_others(advertise):
    with pytest.raises(BadAddress, match=f"'{advertise[:4]}'") as caught:
        publish(":80", advertise=advertise, interfaces=INTERFACES)
    assert "10.1.2.3 (eth0)" in caught.value.hint


def test_a_blank_host_publishes_loopback_if_there_is_nothing_else():
    assert publish(":80", interfaces=MACHINE[:1]) == ["127.0.0.1:80"]
    assert publish(":80", interfaces=[]) == ["127.0.0.1:80"]


def test_a_given_host_is_published_as_it_is():
    assert publish("zeo.example.com:80") == ["zeo.example.com:80"]


@pytest.mark.parametrize(
    ("advertise", "published"),
    [
        ("lb.example.com", ["lb.example.com:80"]),
        ("lb.example.com:8080", ["lb.example.com:8080"]),
        ("fd00::7", ["[fd00::7]:80"]),
        ("[fd00::7]", ["[fd00::7]:80"]),
        ("[fd00::7]:81", ["[fd00::7]:81"]),
        ("10.0.0.0/8", ["10.1.2.3:80"]),
        ("fd00::/8", ["[fd00::5]:80"]),
        ("0.0.0.0/0", ["127.0.0.1:80", "10.1.2.3:80", "192.168.7.9:80"]),
    ],
)
def test_something_else_is_published_when_asked(advertise, published):
    assert publish(":80", advertise=advertise) == published
    assert publish("inside:80", advertise=advertise) == published
    assert publish(":80", advertise=None, environment={"ZKFLEET_ADVERTISE": advertise}) == published


def test_a_network_that_matches_nothing_names_the_machine_s_addresses():
    with pytest.raises(BadAddress) as caught:
        publish(":80", advertise="172.16.0.0/12")
    assert "10.1.2.3" in caught.value.hint


@pytest.mark.parametrize("advertise", ["0.0.0.0", "::", "10.0.0.0/99", "host:0", "a b"])
def test_what_nobody_can_reach_is_not_published(advertise):
    with pytest.raises(BadAddress):
        publish(":80", advertise=advertise)


def test_port_0_is_not_published():
    with pytest.raises(BadAddress, match="port 0"):
        publish("host:0")


def test_this_machine_has_a_loopback_address():
    assert any(one.address.is_loopback for local in find_interfaces().values() for one in local)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "127.1", "0x7f.1", "2130706433"])
def test_loopback_is_known_in_every_spelling(host):
    assert is_loopback(host)
    assert not is_wildcard(host)
    assert from_here(host) == host


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "10.1", "fd00::1", "example.com", "127.1.example.com", "127.1 x", "127.1\n"]
)
def test_what_others_reach_is_not_taken_for_loopback(host):
    assert not is_loopback(host)
    assert not is_wildcard(host)
    assert from_here(host) == host


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("", "127.0.0.1"),
        ("*", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("0", "127.0.0.1"),
        ("::", "::1"),
        ("0::0", "::1"),
    ],
)
def test_what_listens_everywhere_is_reached_at_loopback_of_its_family(host, reached):
    assert is_wildcard(host)
    assert not is_loopback(host)
    assert from_here(host) == reached
