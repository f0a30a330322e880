"""Which `host:port` is meant, and which one should be published?

Pure text and choice; what the machine has is asked by `interfaces`.  An endpoint
is written `host:port`, IPv6 addresses in brackets.
"""

import ipaddress
import os
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from zkfleet.errors import BadAddress, BadInput
from zkfleet.interfaces import Interfaces, IPAddress, choose_reachable, find_interfaces, spell_addresses

Address = str | tuple[str, int]
VARIABLE = "ZKFLEET_ADVERTISE"
WILDCARDS = ("", "*", "0.0.0.0", "::")  # noqa: S104  not bound: these are what is never published
_HINT = "write host:port, [v6]:port, :port, or a pair of host and port"
_EVERYWHERE_IPV4 = ipaddress.IPv4Address(0)
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?\.?\Z")

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """Where something listens.

    Attributes:
        host: a name or an address without brackets; "" for all of this machine's.
        port: 0 to 65535; 0 if it is not known yet.
        only_ipv4: whether a blank host was written as IPv4's, 0.0.0.0.
    """

    host: str
    port: int
    only_ipv4: bool = field(default=False, compare=False, repr=False)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_endpoint(address: Address | Endpoint) -> Endpoint:
    """Return the endpoint that an address means; a wildcard host becomes "".

    Raises:
        BadAddress: it is none; nothing is looked up.
    """
    match address:
        case Endpoint():
            return address
        case str():
            host, port = _split(address)
        case (str() as host, int() | str() as port) if not isinstance(port, bool):
            host = host.removeprefix("[").removesuffix("]")
        case _:
            raise BadAddress(f"not an address: {address!r}", hint=_HINT)
    return _endpoint(host, _port(port, address), address)


def _endpoint(host: str, port: int, address: object) -> Endpoint:
    blank = is_wildcard(host)
    return Endpoint("" if blank else _host(host, address), port, blank and _numeric(host) == _EVERYWHERE_IPV4)


def _split(text: str) -> tuple[str, str]:
    host, colon, port = text.strip().rpartition(":")
    if not colon:
        raise BadAddress(f"no port in the address {text!r}", hint=_HINT)
    if host.startswith("[") and host.endswith("]"):
        if ":" not in host:
            raise BadAddress(f"no IPv6 address in the brackets: {text!r}", hint=_HINT)
        return host[1:-1], port
    if ":" in host:
        raise BadAddress(f"an IPv6 address without brackets: {text!r}", hint=_HINT)
    return host, port


def _host(host: str, address: object) -> str:
    if ":" in host:
        try:
            return str(ipaddress.IPv6Address(host.partition("%")[0])) + "".join(host.partition("%")[1:])
        except ValueError as exc:
            raise BadAddress(f"no IPv6 address in {address!r}: {exc}", hint=_HINT) from exc
    if not _HOST_NAME.match(host):
        raise BadAddress(f"no host name in {address!r}", hint=_HINT)
    return host


def _port(port: int | str, address: object) -> int:
    text = str(port)
    if not (text.isascii() and text.isdigit()) or int(text) > 65535:
        raise BadAddress(f"no port from 0 to 65535 in {address!r}", hint=_HINT)
    return int(text)


def addresses_to_advertise(
    endpoint: Endpoint,
    *,
    advertise: str | None = None,
    interfaces: Interfaces | None = None,
    environment: Mapping[str, str] = os.environ,
) -> list[Endpoint]:
    """Return what to publish for a server that listens at `endpoint`.

    Args:
        endpoint: where it listens; a blank host means on every interface.
        advertise: what to publish instead of the host: a name, an address, an interface of this machine, any
            of them with a port, or a network such as `10.0.0.0/8` that chooses
            among this machine's addresses; None for `$ZKFLEET_ADVERTISE`.
        interfaces: this machine's, by name; None to ask it.
        environment: where the variable is looked up.

    Returns:
        At least one endpoint.  For a blank host, every address by which others can
        reach this machine, IPv4 first; its loopback address if there is none.

    Raises:
        BadAddress: the port is 0, or `advertise` matches nothing.
    """
    wanted = (advertise if advertise is not None else environment.get(VARIABLE, "")).strip()
    if "/" in wanted:
        return _at(_matching(wanted, _machine(interfaces)), endpoint)
    if wanted:
        return _published(wanted, endpoint, interfaces)
    if endpoint.host:
        return [Endpoint(endpoint.host, _known_port(endpoint))]
    found = choose_reachable(_machine(interfaces), only_ipv4=endpoint.only_ipv4)
    return _at(found or [ipaddress.IPv4Address("127.0.0.1")], endpoint)


def _machine(interfaces: Interfaces | None) -> Interfaces:
    return find_interfaces() if interfaces is None else interfaces


def _at(hosts: list[IPAddress], endpoint: Endpoint) -> list[Endpoint]:
    return [Endpoint(str(host), _known_port(endpoint)) for host in hosts]


def _published(wanted: str, endpoint: Endpoint, interfaces: Interfaces | None) -> list[Endpoint]:
    machine = _machine(interfaces)
    if wanted in machine:
        return _at(_of_interface(wanted, machine, endpoint), endpoint)
    bare = wanted.count(":") > 1 and not wanted.startswith("[")
    has_port = not bare and ":" in wanted and not wanted.endswith("]")
    if has_port:
        published = parse_endpoint(wanted)
    else:
        published = _endpoint(wanted.removeprefix("[").removesuffix("]"), _known_port(endpoint), wanted)
    if not published.host:
        raise BadAddress(f"{wanted!r} cannot be advertised: it names no host", hint="a client must be able to reach it")
    if published.host in machine:
        at = replace(endpoint, port=published.port)
        return _at(_of_interface(published.host, machine, at), at)
    return [Endpoint(published.host, _known_port(published))]


def _of_interface(name: str, machine: Interfaces, endpoint: Endpoint) -> list[IPAddress]:
    found = choose_reachable({name: machine[name]}, only_ipv4=endpoint.only_ipv4)
    if not found:
        raise BadAddress(
            f"the interface {name!r} has no address that others can reach",
            hint=f"this machine has {spell_addresses(machine)}",
        )
    return found


def _matching(network: str, machine: Interfaces) -> list[IPAddress]:
    try:
        wanted: IPNetwork = ipaddress.ip_network(network, strict=False)
    except ValueError as exc:
        raise BadAddress(f"not a network: {network!r} ({exc})", hint="write it as 10.0.0.0/8 or fd00::/8") from exc
    found = [one.address for local in machine.values() for one in local if one.address in wanted]
    if not found:
        raise BadAddress(f"no address of this machine is in {network}", hint=f"it has {spell_addresses(machine)}")
    return list(dict.fromkeys(found))


def _known_port(endpoint: Endpoint) -> int:
    if not endpoint.port:
        raise BadAddress(f"{endpoint}: port 0 cannot be published", hint="bind first, and give the port you got")
    return endpoint.port


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches what listens at a host."""
    address = _numeric(host)
    return host == "localhost" if address is None else address.is_loopback


def is_name(host: str) -> bool:
    """Tell whether a host is written as a name, and not as an address."""
    return bool(host) and ":" not in host and _numeric(host) is None


def check_servers(path: str, names: Iterable[str]) -> None:
    """See that what is below a path are servers, if anything is.

    Raises:
        BadInput: there are other nodes alone.
    """
    others = sorted(names)
    if others and not any(map(_is_address, others)):
        raise BadInput(
            f"{path} has no servers below it, but {', '.join(others)}",
            hint=f"name the path of one service, such as {path.rstrip('/')}/{others[0]}",
        )


def _is_address(name: str) -> bool:
    try:
        return parse_endpoint(name).port > 0
    except BadAddress:
        return False


def is_wildcard(host: str) -> bool:
    """Tell whether what listens at a host does so at all of this machine's addresses."""
    address = _numeric(host)
    return host in WILDCARDS if address is None else address.is_unspecified


def from_here(host: str) -> str:
    """Return where this machine reaches what listens at a host: a loopback address for a wildcard."""
    if not is_wildcard(host):
        return host
    return "::1" if ":" in host else "127.0.0.1"


def _numeric(host: str) -> IPAddress | None:
    """Return the address that a host spells, in the old ways too that all resolvers know: 127.1 is 127.0.0.1."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        # It lets anything stand behind a blank.
        return ipaddress.IPv4Address(socket.inet_aton(host)) if host.split() == [host] else None
    except OSError:
        return None
