"""How does one get a registry?"""

import logging
import math
from collections.abc import Sequence
from typing import Any

from kazoo.client import KazooClient

from zkfleet.errors import BadInput
from zkfleet.registry import wire
from zkfleet.registry.hosts import TLS, Credential, choose_hosts, credentials
from zkfleet.registry.life import AfterFork
from zkfleet.registry.registry import Registry
from zkfleet.registry.session import RECONNECT
from zkfleet.spelling import get_logger

DEFAULT_PACKET_LIMIT = wire.PACKET_LIMIT
# ZooKeeper counts milliseconds in 31 bits.
LONGEST = 2_000_000
SHORTEST_WRITTEN = 1000
"""Milliseconds in a file: a smaller number was probably meant as seconds."""

# kazoo tells of every lost connection, twice a second while there is none; the
# hub tells of those that matter, once.
_kazoo = get_logger("zkfleet.kazoo")
_kazoo.setLevel(logging.CRITICAL)


def connect(
    hosts: str | None = None,
    *,
    session_timeout: float = 10.0,
    timeout: float = 15.0,
    wait: bool = False,
    auth: Sequence[Credential] = (),
    tls: TLS | None = None,
    client: KazooClient | None = None,
    after_fork: AfterFork = "error",
    jute_maxbuffer: int = DEFAULT_PACKET_LIMIT,
) -> Registry:
    """Open a session with a ZooKeeper ensemble.

    Args:
        hosts: `host:port,host:port/chroot`; else `$ZKFLEET_ZOOKEEPER`, else
            `$ZC_ZK_CONNECTION_STRING`, else `127.0.0.1:2181`.
        session_timeout: seconds without contact after which the ensemble takes
            us for dead; the server may grant another, see `statistics`.
        timeout: seconds that connecting, and any later request, may take.
        wait: keep trying to connect, with a warning now and then.
        auth: `[("digest", "user:password")]` or `[("sasl", "user:password")]`.
        tls: certificates, to encrypt the link.
        client: a kazoo client to use instead; it is not closed.
        after_fork: what a child process meets that uses this registry: an
            `"error"`, or `"reconnect"` for a session of its own.
        jute_maxbuffer: the packet limit of all members, in bytes: we send no larger
            packet.  If their limit is smaller, they close the connection.

    Raises:
        ConnectFailed: no ZooKeeper answered.
        BadHosts, BadAuth, BadInput: the arguments are wrong.
        NodeNotFound: the chroot is not there.
        UnsupportedServer: it is older than ZooKeeper 3.6.
    """
    if after_fork not in ("error", "reconnect"):
        raise BadInput(f"after_fork is 'error' or 'reconnect', not {after_fork!r}")
    _check_seconds("timeout", timeout)
    _check_packet_limit(jute_maxbuffer)
    options: dict[str, Any] = {"timeout": timeout, "after_fork": after_fork, "packet_limit": jute_maxbuffer}
    if client is None:
        reached = client_options(hosts, auth=auth, tls=tls)
        _check_seconds("session_timeout", session_timeout)

        def make_client() -> KazooClient:
            return KazooClient(timeout=session_timeout, connection_retry=dict(RECONNECT), logger=_kazoo, **reached)

        registry = Registry(make_client, owned=True, **options)
    else:
        if hosts is not None or auth or tls is not None:
            raise BadInput("a given client has its hosts and credentials already", hint="leave hosts, auth and tls out")
        if not isinstance(client, KazooClient):
            raise BadInput(f"client is a kazoo client, not {client!r}")
        given = client
        registry = Registry(lambda: given, owned=False, **options)
    registry.open(wait=wait)
    return registry


def client_options(hosts: str | None, *, auth: Sequence[Credential] = (), tls: TLS | None = None) -> dict[str, Any]:
    """Check how an ensemble is to be reached, and return that as kazoo's arguments; nothing is sent.

    Raises:
        BadHosts, BadAuth, BadInput, MissingDependency: an argument is wrong.
    """
    if tls is not None and not isinstance(tls, TLS):
        raise BadInput(f"tls is a zkfleet.TLS, not {tls!r}")
    added, sasl = credentials(auth)
    encryption = tls.options() if tls else {}
    return {"hosts": choose_hosts(hosts), "auth_data": added, "sasl_options": sasl, **encryption}


def check_options(
    hosts: str | None,
    *,
    auth: Sequence[Credential] = (),
    tls: TLS | None = None,
    jute_maxbuffer: int = DEFAULT_PACKET_LIMIT,
) -> None:
    """Raise what `connect` would raise for these arguments before it sends anything."""
    _check_packet_limit(jute_maxbuffer)
    client_options(hosts, auth=auth, tls=tls)


def milliseconds(text: str) -> float:
    """Return the seconds of a session timeout that a file gives in milliseconds.

    Raises:
        BadInput: it is no number, or it is too small or too large.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not SHORTEST_WRITTEN <= number <= LONGEST * 1000:
        raise BadInput(
            f"{text} ms is no session timeout: it counts milliseconds, 10000 are ten seconds",
            hint=f"write a number from {SHORTEST_WRITTEN} to {LONGEST * 1000}",
        )
    return number / 1000


def packet_limit(text: str) -> int:
    """Return the jute.maxbuffer that a file has; raises `BadInput`."""
    limit = int(text) if text.isascii() and text.isdecimal() else text
    _check_packet_limit(limit)
    return int(limit)


def _check_packet_limit(limit: object) -> None:
    """Raise `BadInput` for what no ensemble's jute.maxbuffer can be."""
    least, most = wire.SMALLEST_LIMIT, wire.LARGEST_LIMIT
    if not isinstance(limit, int) or isinstance(limit, bool) or not least <= limit <= most:
        raise BadInput(
            f"jute_maxbuffer is a number of bytes from {least:,} to {most:,}, not {limit!r}",
            hint=f"give the value with which the members were started; the default is {DEFAULT_PACKET_LIMIT:,}",
        )


def _check_seconds(name: str, seconds: object) -> None:
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not 0 < seconds <= LONGEST:  # type: ignore[operator]
        raise BadInput(f"{name} is a number of seconds above 0 and up to {LONGEST:,}, not {seconds!r}")
