"""Where does a ZEO server's monitor listen, and who may ask it?

What `monitor-server` and the keys beside it say.  The words and the monitor that
is started by them are told in `zkfleet.monitor.settings`, which is not loaded by
a server that has no monitor.
"""

from typing import TYPE_CHECKING, Any, Literal

from zkfleet.endpoints import Endpoint, addresses_to_advertise, is_loopback, parse_endpoint
from zkfleet.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkfleet.monitor import Monitor
    from zkfleet.monitor.places import Address
    from zkfleet.monitor.settings import MonitorSettings, Spelling

LOOPBACK = "127.0.0.1"
PREFIX = "monitor-"
SERVER = "monitor-server"


def of_section(section: Any) -> "MonitorSettings | None":
    """Return what a parsed `<zookeeper>` section says of a monitor; None for no monitor.

    Raises:
        BadInput: a key is of no use without another one.
    """
    names = {name: value for name in section.getSectionAttributes() if (value := getattr(section, name))}
    given = {name.replace("_", "-"): value for name, value in names.items() if name.startswith("monitor_")}
    server = given.pop(SERVER, None)
    if server is None:
        if given:
            raise BadInput(f"{min(given)} is of no use without {SERVER}", hint=f"add {SERVER}")
        return None
    from zkfleet.monitor.settings import MonitorSettings

    said = {key.removeprefix(PREFIX): value for key, value in given.items()}
    if "http" in said:
        said["http"] = _here(said["http"].address)
    return MonitorSettings.of(_here(server.address), said, _spelling())


def starter(monitor: "MonitorSettings") -> "Callable[[], Monitor | Literal[False]]":
    """Return what starts a server's monitor; raises as `MonitorSettings.starter`."""
    return monitor.starter(_spelling())


def _spelling() -> "Spelling":
    from zkfleet.monitor.settings import Spelling

    return Spelling(SERVER, PREFIX)


def _here(address: "tuple[str, int | None] | str") -> "Address":
    # A port alone is one of this machine's, as it is for all monitors.
    return address if isinstance(address, str) else (address[0] or LOOPBACK, address[1])


def published(monitor: "Monitor", advertise: str | None) -> str:
    """Return where others find a monitor; "" for nowhere."""
    if "/" in monitor.address:
        return ""
    listens = parse_endpoint(monitor.address)
    if is_loopback(listens.host):
        return monitor.address
    # What is advertised may have the server's port with it.
    return str(Endpoint(addresses_to_advertise(listens, advertise=advertise)[0].host, listens.port))
