"""How is a Zope process's monitor registered in ZooKeeper?

`announcer` looks at all that can be looked at before ZooKeeper has answered; what
comes later, such as a ZooKeeper that is away, is logged and keeps no Zope from
starting.  Who is registered nowhere loads no kazoo.
"""

from typing import TYPE_CHECKING

from zkfleet.endpoints import Endpoint, addresses_to_advertise
from zkfleet.monitor.places import place
from zkfleet.monitor.settings import MonitorSettings, naming
from zkfleet.monitor.tokens import token_in
from zkfleet.monitor.zope.configured import Fleet

if TYPE_CHECKING:
    from zkfleet.registry import TLS, Registry
    from zkfleet.registry.announcer import Announcer

SESSION_TIMEOUT = 10.0


def announcer(fleet: Fleet, monitor: MonitorSettings) -> "Announcer":
    """Return what registers a monitor, to be started.

    Raises:
        BadInput: what the file says cannot be meant, or a file that it names cannot be used.
        MissingDependency: SASL needs a library.
    """
    from zkfleet.registry import connect
    from zkfleet.registry.announcer import Announcer
    from zkfleet.registry.connecting import check_options, milliseconds

    session_timeout = SESSION_TIMEOUT
    if fleet.session_timeout is not None:
        with naming("session-timeout"):
            session_timeout = milliseconds(fleet.session_timeout)
    auth, tls = _credentials(fleet), _tls(fleet)
    with naming("zookeeper"):
        check_options(fleet.hosts, auth=auth, tls=tls)
    _check_advertised(fleet, monitor)

    def connected_within(seconds: float) -> "Registry":
        return connect(fleet.hosts, session_timeout=session_timeout, timeout=seconds, auth=auth, tls=tls)

    with naming("path"):
        return Announcer(connected_within, fleet.path, advertise=fleet.advertise)


def _credentials(fleet: Fleet) -> list[tuple[str, str]]:
    found = []
    for scheme, key, file in (
        ("digest", "zookeeper-auth-file", fleet.auth_file),
        ("sasl", "zookeeper-sasl-file", fleet.sasl_file),
    ):
        if file is not None:
            with naming(key):
                found.append((scheme, token_in(file, "user:password")))
    return found


def _tls(fleet: Fleet) -> "TLS | None":
    from zkfleet.registry import TLS

    return TLS(fleet.ca, fleet.certificate, fleet.key) if fleet.ca or fleet.certificate else None


def _check_advertised(fleet: Fleet, monitor: MonitorSettings) -> None:
    """See that what is to be registered can be had; a port that the system picks is not known yet."""
    where = place(monitor.address or 0)
    assert isinstance(where, Endpoint)
    with naming("advertise"):
        addresses_to_advertise(Endpoint(where.host, where.port or 1), advertise=fleet.advertise)
