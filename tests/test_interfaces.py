import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkfleet.interfaces import LocalAddress, Reach, choose_reachable, reach_of


def local(*addresses, is_up=True, is_fleeting=False):
    return [LocalAddress(ipaddress.ip_address(each), is_up, is_fleeting) for each in addresses]


def chosen(interfaces, **how):
    return [str(address) for address in choose_reachable(interfaces, **how)]


LO = {"lo": local("127.0.0.1", "::1")}
DOCKER = {
    "docker0": local("172.17.0.1", "fd00:d0::1", "fe80::42"),
    "br-0123456789ab": local("172.18.0.1"),
    "veth12ab": local("fe80::7", "169.254.3.4"),
    "virbr0": local("192.168.122.1"),
    "cni0": local("10.244.0.1"),
    "kube-ipvs0": local("10.96.0.1"),
}


@pytest.mark.parametrize(
    ("interfaces", "published"),
    [
        ({}, []),
        (LO, ["127.0.0.1"]),
        ({"lo": local("::1")}, ["::1"]),
        ({"eth0": local("10.0.0.5", "fe80::1")}, ["10.0.0.5"]),
        ({"eth0": local("fe80::1", "2001:db8::5")}, ["2001:db8::5"]),
        ({"eth0": local("fd00::5", "10.0.0.5")}, ["10.0.0.5", "fd00::5"]),
        ({"eth0": local("10.0.0.5"), "eth1": local("10.1.0.5", "10.0.0.5")}, ["10.0.0.5", "10.1.0.5"]),
        ({"br-lan": local("192.168.1.1")}, ["192.168.1.1"]),
        ({"eth0": local("fe80::1")}, ["127.0.0.1"]),
        ({"eth0": local("169.254.7.7")}, ["169.254.7.7"]),
        (DOCKER, ["172.17.0.1", "172.18.0.1", "192.168.122.1", "10.244.0.1", "10.96.0.1", "fd00:d0::1"]),
        (DOCKER | {"eth0": local("10.0.0.5")}, ["10.0.0.5"]),
        (DOCKER | {"eth0": local("2001:db8::5")}, ["2001:db8::5"]),
        (DOCKER | {"eth0": local("10.0.0.5", is_up=False)}, ["10.0.0.5"]),
        ({"eth0": local("10.0.0.5", is_up=False), "wlan0": local("10.1.0.5")}, ["10.1.0.5"]),
    ],
)
def test_what_others_can_reach_is_chosen(interfaces, published):
    assert chosen(LO | interfaces if published != ["::1"] and interfaces else interfaces) == published


def test_addresses_that_will_not_last_are_chosen_only_if_there_are_no_others():
    fleeting = local("2001:db8::aaaa", is_fleeting=True)
    assert chosen({"eth0": fleeting + local("2001:db8::5")}) == ["2001:db8::5"]
    assert chosen({"eth0": fleeting}) == ["2001:db8::aaaa"]


def test_who_listens_to_ipv4_alone_has_ipv6_only_if_there_is_nothing_as_good():
    assert chosen(LO | {"eth0": local("10.0.0.5", "fd00::5")}, only_ipv4=True) == ["10.0.0.5"]
    assert chosen(LO | {"eth0": local("fd00::5")}, only_ipv4=True) == ["fd00::5"]
    assert chosen(LO | DOCKER | {"eth0": local("fd00::5")}, only_ipv4=True) == ["fd00::5"]


IPV4 = ["127.0.0.1", "127.9.9.9", "169.254.1.1", "10.0.0.5", "10.0.0.6", "192.0.2.1", "0.0.0.0", "224.0.0.1"]
IPV6 = ["::1", "fe80::1", "fe80::2", "fd00::5", "2001:db8::5", "2001:db8::6", "::", "ff02::1"]
machines = st.dictionaries(
    st.sampled_from(["lo", "eth0", "eth1", "docker0", "virbr0"]),
    st.lists(
        st.builds(
            LocalAddress,
            st.sampled_from(IPV4 + IPV6).map(ipaddress.ip_address),
            st.booleans(),
            st.booleans(),
        ),
        max_size=4,
    ),
)


@given(machines, st.booleans())
def test_nothing_is_chosen_beside_something_better(machine, only_ipv4):
    found = choose_reachable(machine, only_ipv4=only_ipv4)
    reaches = {}
    for name, there in machine.items():
        for one in there:
            reaches.setdefault(one.address, set()).add(reach_of(name, one))
    possible = set().union(*reaches.values()) - {None}
    assert bool(found) == bool(possible)
    assert all(min(possible) in reaches[address] for address in found)
    assert not any(address.version == 6 and address.is_link_local for address in found)
    assert len(set(found)) == len(found)
    assert [address.version for address in found] == sorted(address.version for address in found)
    if found and min(possible) is Reach.ANYWHERE and not only_ipv4:
        best = {address for address in reaches if Reach.ANYWHERE in reaches[address]}
        assert {address.version for address in best} == {address.version for address in found}
        assert {address for address in best if address.version == 4} <= set(found)
