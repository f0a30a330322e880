"""Who is registered under a path, and what does each of them say?

The shell for those that look at a fleet: `status` and `checking` decide what
to make of a survey, and do not ask anybody.
"""

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zkfleet.errors import ZkfleetError
from zkfleet.zeo.asking import Answer, ask_all
from zkfleet.zeo.described import Described, described_by

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
    """

    answers: Mapping[str, Answer | ZkfleetError]
    described: Mapping[str, Described] = field(default_factory=dict)
    at: float = 0.0


def registered(registry: "Registry", path: str) -> dict[str, Described]:
    """Return what the servers that are registered under a path say in their nodes.

    Raises:
        NodeNotFound, LinkLoop, AccessDenied: the path leads nowhere, or we may not know.
    """
    view = registry.providers(path)
    try:
        found = dict(view)
    finally:
        view.close()
    return {name: described_by(said) if isinstance(said, Mapping) else Described() for name, said in found.items()}


def survey(servers: Mapping[str, Described], how: Asking) -> Survey:
    """Ask servers, all at once; blocks for the timeout at most."""
    at = time.time()
    answers = ask_all(list(servers), timeout=how.timeout, tls=how.tls, server_name=how.server_name)
    return Survey(answers, servers, at)
