"""Where does a provider listen, and may it be called, whatever library registered it?

Pure: reads the name and the data of a znode by the formats that are known.

    zkfleet     the name is the address; `state` may say that it drains
    Curator     the name is an id; the data are a `ServiceInstance` of x-discovery,
                as `JsonInstanceSerializer` writes it, with Spring Cloud's status in its payload
    ServerSet   the name is `member_NNN`; the data have a `serviceEndpoint` and a `status`

For another format add a function to `READERS`.  Each returns None for a znode of
another format, so the order matters only where two could read the same znode.
"""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zkfleet.endpoints import Endpoint, parse_endpoint
from zkfleet.errors import BadAddress

ZKFLEET, CURATOR, SERVER_SET, UNKNOWN = "zkfleet", "Curator", "ServerSet", ""
CURATORS = frozenset({"name", "id", "address", "port", "serviceType", "registrationTimeUTC"})
MEMBER = "member_"


@dataclass(frozen=True, slots=True)
class Instance:
    """One provider.

    Attributes:
        format: how it is registered; `UNKNOWN` if no format fits.
        endpoint: where it listens, if it may be called.
        reason: why it may not be called, or "".
        broken: whether the reason is a fault, and not what the provider asks for.
    """

    format: str
    endpoint: Endpoint | None = None
    reason: str = ""
    broken: bool = False


def read_instance(name: str, properties: Mapping[str, Any]) -> Instance:
    """Return the provider that a znode with this name and these properties describes."""
    found = (read(name, properties) for read in READERS)
    return next((instance for instance in found if instance is not None), _NOBODY)


_NOBODY = Instance(UNKNOWN, None, "its name is no address, and its data have no format that zkfleet reads", broken=True)


def _of_curator(name: str, properties: Mapping[str, Any]) -> Instance | None:
    if not properties.keys() >= CURATORS:
        return None
    if properties.get("enabled") is False:
        return Instance(CURATOR, None, "it is disabled")
    payload = properties.get("payload")
    metadata = payload.get("metadata") if isinstance(payload, Mapping) else None
    status = metadata.get("instance_status", "UP") if isinstance(metadata, Mapping) else "UP"
    if status != "UP":
        return Instance(CURATOR, None, f"its status is {status!r}")
    port = properties["port"] if properties["port"] is not None else properties.get("sslPort")
    return _at(CURATOR, properties["address"], port)


def _of_server_set(name: str, properties: Mapping[str, Any]) -> Instance | None:
    service = properties.get("serviceEndpoint")
    if not name.startswith(MEMBER) or not isinstance(service, Mapping):
        return None
    if properties.get("status", "ALIVE") != "ALIVE":
        return Instance(SERVER_SET, None, f"its status is {properties['status']!r}")
    return _at(SERVER_SET, service.get("host"), service.get("port"))


def _of_zkfleet(name: str, properties: Mapping[str, Any]) -> Instance | None:
    try:
        endpoint = parse_endpoint(name)
    except BadAddress:
        return None
    if properties.get("state") == "draining":
        return Instance(ZKFLEET, None, "it drains")
    return Instance(ZKFLEET, endpoint)


# A Curator instance may have an id that looks like an address.
READERS: tuple[Callable[[str, Mapping[str, Any]], Instance | None], ...] = (_of_curator, _of_server_set, _of_zkfleet)


def _at(whose: str, host: Any, port: Any) -> Instance:
    """Return an instance at an address that others can reach."""
    try:
        endpoint = parse_endpoint((_without_zone(host), port))
    except BadAddress as exc:
        return Instance(whose, None, f"it has no address that can be called: {exc}", broken=True)
    if not endpoint.host or not endpoint.port:
        return Instance(whose, None, f"it has no address that can be called: {host!r}, port {port!r}", broken=True)
    return Instance(whose, endpoint)


def _without_zone(host: Any) -> Any:
    """Return an IPv6 address without the name of a network interface, which means nothing on other machines."""
    if isinstance(host, str) and "%" in host:
        bare = host.partition("%")[0]
        try:
            return host if ipaddress.ip_address(bare).is_link_local else bare
        except ValueError:
            return host
    return host
