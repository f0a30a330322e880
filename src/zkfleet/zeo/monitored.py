"""Where does a ZEO server's monitor listen, and who may ask it?

What `monitor-server` and the keys beside it say, and the monitor that is
started by it.  One that other machines reach asks who they are, or the server
is refused before anything of it is open.
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from zkfleet.endpoints import Endpoint, addresses_to_advertise, is_loopback, parse_endpoint
from zkfleet.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkfleet.monitor import Monitor

LOOPBACK = "127.0.0.1"
KEYS = ("monitor_token_file", "monitor_certificate", "monitor_key", "monitor_authorities")
ACTIONS = "monitor_actions"


@dataclass(frozen=True, slots=True)
class Monitored:
    """How a server is asked.

    Attributes:
        address: where the monitor listens, `(host, port)` or a Unix path.
        token_file: a file with the token that clients begin with; None for no need of one.
        certificate: a PEM file, for TLS; None for none.
        key: that of its key, if it is in another one.
        authorities: that of whose certificates clients need; None for none.
        actions: whether clients may change something.
    """

    address: tuple[str, int | None] | str
    token_file: str | None = None
    certificate: str | None = None
    key: str | None = None
    authorities: str | None = None
    actions: bool = False

    @classmethod
    def of_section(cls, section: Any) -> "Monitored | None":
        """Return what a parsed `<zookeeper>` section says; None for no monitor."""
        given = {name: said for name in (*KEYS, ACTIONS) if (said := getattr(section, name))}
        if section.monitor_server is None:
            if given:
                raise ValueError(f"{_key(min(given))} is of no use without monitor-server")
            return None
        for name in ("monitor_key", "monitor_authorities"):
            if name in given and "monitor_certificate" not in given:
                raise ValueError(f"{_key(name)} is of no use without monitor-certificate")
        token_file, certificate, key, authorities = (given.get(name) for name in KEYS)
        return cls(
            section.monitor_server.address, token_file, certificate, key, authorities, actions=section.monitor_actions
        )

    def starter(self) -> "Callable[[], Monitor | Literal[False]]":
        """Return what starts the monitor.

        Raises:
            BadInput: a file cannot be used, or others reach it and nobody would ask who they are.
        """
        from zkfleet.monitor import Certificates, start
        from zkfleet.monitor.places import check_guarded, place
        from zkfleet.monitor.tokens import token_in

        # A port alone is one of this machine's, as it is for all monitors.
        address = self.address if isinstance(self.address, str) else (self.address[0] or LOOPBACK, self.address[1])
        token = token_in(self.token_file) if self.token_file else ""
        tls = Certificates(self.certificate, self.key, self.authorities).context() if self.certificate else None
        try:
            check_guarded(
                place(address), token=token, has_client_certificates=self.authorities is not None, insecure=False
            )
        except BadInput as exc:
            hint = "give it monitor-token-file, or monitor-certificate and monitor-authorities; or a port of 127.0.0.1"
            raise BadInput(f"monitor-server: {exc}", hint=hint) from exc
        return partial(start, address, token=token or None, tls=tls, actions=self.actions)


def published(monitor: "Monitor", address: tuple[str, int | None] | str, advertise: str | None) -> str:
    """Return where others find a monitor that listens at an address; "" for nowhere."""
    if isinstance(address, str):
        return ""
    listens = parse_endpoint(monitor.address)
    if is_loopback(listens.host):
        return monitor.address
    # What is advertised may have the server's port with it.
    return str(Endpoint(addresses_to_advertise(listens, advertise=advertise)[0].host, listens.port))


def _key(name: str) -> str:
    return name.replace("_", "-")
