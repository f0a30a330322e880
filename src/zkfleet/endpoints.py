"""Which `host:port` is meant, and which one should be published?

Pure text and choice; `local_interfaces` alone asks the machine.  An endpoint
is written `host:port`, IPv6 addresses in brackets.
"""

import ipaddress
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from zkfleet.errors import BadAddress

Address = str | tuple[str, int]
VARIABLE = "ZKFLEET_ADVERTISE"
WILDCARDS = ("", "*", "0.0.0.0", "::")  # noqa: S104  not bound: these are what is never published
_HINT = "write host:port, [v6]:port, :port, or a pair of host and port"
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?\.?\Z")

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """Where something listens.

    Attributes:
        host: a name or an address without brackets; "" for all of this machine's.
        port: 0 to 65535; 0 if it is not known yet.
    """

    host: str
    port: int

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
    return Endpoint(_host(host, address), _port(port, address))


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
    if host in WILDCARDS:
        return ""
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


def local_interfaces() -> list[IPAddress]:
    """Return this machine's addresses, in the order of its interfaces."""
    import psutil

    return [
        ipaddress.ip_address(entry.address.partition("%")[0])
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
    ]


def addresses_to_advertise(
    endpoint: Endpoint,
    *,
    advertise: str | None = None,
    interfaces: Sequence[IPAddress] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> list[Endpoint]:
    """Return what to publish for a server that listens at `endpoint`.

    Args:
        endpoint: where it listens; a blank host means on every interface.
        advertise: what to publish instead of the host: a name, an address, any
            of them with a port, or a network such as `10.0.0.0/8` that chooses
            among this machine's addresses; None for `$ZKFLEET_ADVERTISE`.
        interfaces: this machine's addresses; None to ask it.
        environment: where the variable is looked up.

    Returns:
        At least one endpoint.  For a blank host, every IPv4 address but the
        loopback ones, or those if there are no others.

    Raises:
        BadAddress: the port is 0, or `advertise` matches nothing.
    """
    wanted = (advertise if advertise is not None else environment.get(VARIABLE, "")).strip()
    if "/" in wanted:
        hosts = list(_matching(wanted, interfaces))
        return [Endpoint(host, _known_port(endpoint)) for host in hosts]
    if wanted:
        return [_published(wanted, endpoint)]
    if endpoint.host:
        return [Endpoint(endpoint.host, _known_port(endpoint))]
    found = [a for a in _machine(interfaces) if a.version == 4]
    chosen = [a for a in found if not a.is_loopback] or found or [ipaddress.IPv4Address("127.0.0.1")]
    return [Endpoint(str(a), _known_port(endpoint)) for a in dict.fromkeys(chosen)]


def _machine(interfaces: Sequence[IPAddress] | None) -> Sequence[IPAddress]:
    return local_interfaces() if interfaces is None else interfaces


def _published(wanted: str, endpoint: Endpoint) -> Endpoint:
    bare = wanted.count(":") > 1 and not wanted.startswith("[")
    has_port = not bare and ":" in wanted and not wanted.endswith("]")
    if has_port:
        published = parse_endpoint(wanted)
    else:
        published = Endpoint(_host(wanted.removeprefix("[").removesuffix("]"), wanted), _known_port(endpoint))
    if not published.host:
        raise BadAddress(f"{wanted!r} cannot be advertised: it names no host", hint="a client must be able to reach it")
    return Endpoint(published.host, _known_port(published))


def _matching(network: str, interfaces: Sequence[IPAddress] | None) -> Iterator[str]:
    try:
        wanted: IPNetwork = ipaddress.ip_network(network, strict=False)
    except ValueError as exc:
        raise BadAddress(f"not a network: {network!r} ({exc})", hint="write it as 10.0.0.0/8 or fd00::/8") from exc
    machine = _machine(interfaces)
    found = list(dict.fromkeys(str(address) for address in machine if address in wanted))
    if not found:
        here = ", ".join(map(str, machine)) or "none"
        raise BadAddress(f"no address of this machine is in {network}", hint=f"it has {here}")
    yield from found


def _known_port(endpoint: Endpoint) -> int:
    if not endpoint.port:
        raise BadAddress(f"{endpoint}: port 0 cannot be published", hint="bind first, and give the port you got")
    return endpoint.port


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches what listens at a host."""
    address = _numeric(host)
    return host == "localhost" if address is None else address.is_loopback


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
