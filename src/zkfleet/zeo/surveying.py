"""Who is registered under a path, and what does each of them say?

The shell for those that look at a fleet: `status` and `checking` decide what
to make of a survey, and do not ask anybody.
"""

import contextlib
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zkfleet.endpoints import check_servers
from zkfleet.errors import NodeNotFound, ZkfleetError
from zkfleet.zeo.asking import Answer, ask_all
from zkfleet.zeo.described import Described, Standing, described_by, is_server, standing_of
from zkfleet.zeo.standby import PRIMARY, SUFFIX

if TYPE_CHECKING:
    from zkfleet.registry import Registry


@dataclass(frozen=True, slots=True)
class Asking:
    """How servers are asked.

    Attributes:
        timeout: seconds, for all of them together.
        tls: to speak TLS with them, or None.
        server_name: that their certificates must be for, if not the host.
    """

    timeout: float = 5.0
    tls: ssl.SSLContext | None = None
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class Survey:
    """What some servers said at one time.

    Attributes:
        answers: by address; an error for those that gave none.
        described: what their nodes say, of those that have one.
        at: when they were asked, seconds since 1970.
        standing: those of which one serves and the others wait, as their own nodes say.
    """

    answers: Mapping[str, Answer | ZkfleetError]
    described: Mapping[str, Described] = field(default_factory=dict)
    at: float = 0.0
    standing: Sequence[Standing] = ()


def registered(registry: "Registry", path: str) -> dict[str, Described]:
    """Return what the servers that are registered under a path say in their nodes; monitors there are no servers.

    Raises:
        NodeNotFound, LinkLoop, AccessDenied: the path leads nowhere, or we may not know.
        BadInput: what is below the path is no server, but other nodes.
    """
    found = {name: said for name, said in _children(registry, path).items() if is_server(said)}
    check_servers(path, found)
    return {name: described_by(said) if isinstance(said, Mapping) else Described() for name, said in found.items()}


def standing(registry: "Registry", path: str) -> list[Standing]:
    """Return what the servers of a path say of which one serves and which ones wait; nothing without standbys.

    Raises:
        NodeNotFound, LinkLoop, AccessDenied: the path leads nowhere, or we may not know.
    """
    home = registry.resolve(path) + SUFFIX
    try:
        found = _children(registry, home)
    except NodeNotFound:
        return []
    found.pop(PRIMARY, None)
    return [standing_of(name, said if isinstance(said, Mapping) else {}) for name, said in found.items()]


def _children(registry: "Registry", path: str) -> dict[str, object]:
    with contextlib.closing(registry.providers(path)) as view:
        return dict(view)


def survey(servers: Mapping[str, Described], how: Asking, standing: Sequence[Standing] = ()) -> Survey:
    """Ask servers, all at once; blocks for the timeout at most."""
    at = time.time()
    answers = ask_all(list(servers), timeout=how.timeout, tls=how.tls, server_name=how.server_name)
    return Survey(answers, servers, at, standing)
