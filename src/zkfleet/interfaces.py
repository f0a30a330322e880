"""At which of its addresses do others reach this machine?

`find_interfaces` asks the machine; `choose_reachable` chooses, and is pure.  An
address counts by what it is, and by the name of its interface: bridges of
containers and virtual machines have addresses that mean something else, or
nothing, on other machines.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
# Docker, Podman, libvirt, LXC, Kubernetes and its networks, VMware, VirtualBox.
_BRIDGE = re.compile(
    r"docker|br-[0-9a-f]{12}$|podman|veth|virbr|vnet\d|lxc|lxdbr|incusbr|cni|cali|cilium|flannel|weave|kube-|nodelocaldns"
    r"|vmnet|vboxnet"
)
# Flags of IPv6 addresses in Linux, see rtnetlink(7): temporary, a duplicate of another's, deprecated.
_FLEETING = 0x01 | 0x08 | 0x20


class LocalAddress(NamedTuple):
    """An address of this machine.

    Attributes:
        address: without a zone.
        is_up: whether its interface is.
        is_fleeting: whether it is one of IPv6's that will not last.
    """

    address: IPAddress
    is_up: bool = True
    is_fleeting: bool = False


Interfaces = Mapping[str, Sequence[LocalAddress]]


class Reach(IntEnum):
    """From where an address may be reached, best first."""

    ANYWHERE = 0
    WHEN_UP = 1
    BRIDGE = 2
    LINK = 3
    LOOPBACK = 4


def find_interfaces() -> dict[str, list[LocalAddress]]:
    """Return this machine's interfaces, by their names and in their order, with their addresses."""
    import psutil

    states, fleeting = psutil.net_if_stats(), _fleeting_addresses()
    found: dict[str, list[LocalAddress]] = {}
    for name, entries in psutil.net_if_addrs().items():
        is_up = name not in states or states[name].isup
        found[name] = [
            LocalAddress(address, is_up, address in fleeting)
            for entry in entries
            if entry.family in (socket.AF_INET, socket.AF_INET6)
            for address in [ipaddress.ip_address(entry.address.partition("%")[0])]
        ]
    return found


def _fleeting_addresses() -> set[IPAddress]:
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:  # it is no Linux, or has no IPv6
        return set()
    rows = [line.split() for line in lines]
    return {ipaddress.IPv6Address(int(row[0], 16)) for row in rows if int(row[4], 16) & _FLEETING}


def choose_reachable(interfaces: Interfaces, *, only_ipv4: bool = False) -> list[IPAddress]:
    """Return the addresses by which others reach what listens at all of them; pure.

    The best there are, of IPv4 and IPv6, IPv4 first; loopback addresses, addresses of a link, and
    those of bridges and of interfaces that are down only if there are no better ones. An IPv6 address of a
    link is never among them: it means nothing without the name of an interface of whoever uses it.

    Args:
        interfaces: by name.
        only_ipv4: whether it listens to IPv4 alone: IPv6 comes out only if there is no IPv4 that is as good.
    """
    reaches = [(reach_of(name, one), one) for name, local in interfaces.items() for one in local]
    for wanted in Reach:
        found = [one for reach, one in reaches if reach is wanted]
        ipv4 = [one.address for one in found if one.address.version == 4]
        ipv6 = [one for one in found if one.address.version == 6]
        lasting = [one.address for one in ipv6 if not one.is_fleeting] or [one.address for one in ipv6]
        if ipv4 and (only_ipv4 or wanted is Reach.LOOPBACK):
            lasting = []
        if ipv4 or lasting:
            return list(dict.fromkeys(ipv4 + lasting))
    return []


def reach_of(interface: str, local: LocalAddress) -> Reach | None:
    """Return from where an address may be reached, or None if it cannot be told to others; pure."""
    address = local.address
    if address.is_unspecified or address.is_multicast or (address.version == 6 and address.is_link_local):
        return None
    if address.is_loopback:
        return Reach.LOOPBACK
    if address.is_link_local:
        return Reach.LINK
    if _BRIDGE.match(interface):
        return Reach.BRIDGE
    return Reach.ANYWHERE if local.is_up else Reach.WHEN_UP


def spell_addresses(interfaces: Interfaces) -> str:
    """List all addresses with their interfaces, for people."""
    return ", ".join(_spelled(interfaces)) or "none"


def _spelled(interfaces: Interfaces) -> Iterable[str]:
    for name, local in interfaces.items():
        for one in local:
            yield f"{one.address} ({name})"
