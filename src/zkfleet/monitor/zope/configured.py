"""What does zope.conf say of the monitor?

In the product-config `zkfleet.monitor`, else in that of zc.z3monitor: where it
listens and who may ask it, in the words of `zkfleet.monitor.settings`, and where it
is registered.  Pure: from texts to values; files are looked at by whoever starts
the monitor.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from zkfleet.errors import BadInput
from zkfleet.monitor.places import UnixPath, place
from zkfleet.monitor.settings import WORDS, MonitorSettings, Spelling, naming

NAMES = ["zkfleet.monitor", "zc.z3monitor"]
ZOOKEEPER = {
    "zookeeper": "hosts",
    "path": "path",
    "session-timeout": "session_timeout",
    "advertise": "advertise",
    "zookeeper-ca": "ca",
    "zookeeper-certificate": "certificate",
    "zookeeper-key": "key",
    "zookeeper-auth-file": "auth_file",
    "zookeeper-sasl-file": "sasl_file",
}
KNOWN = ("bind", "port", *WORDS, *ZOOKEEPER)
SWITCH = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}
SPELLING = Spelling("bind")


@dataclass(frozen=True, slots=True)
class Fleet:
    """Where the monitor is registered.

    Attributes:
        path: the node, which must exist.
        hosts: the ensemble; None for the default.
        session_timeout: milliseconds, as text; None for the default.
        advertise: what to register instead of the host, or None.
        ca: PEM file with the certificates of ZooKeeper to trust; this and the next two mean TLS.
        certificate: PEM file with our certificate.
        key: PEM file with its key.
        auth_file: file with `user:password`, digest credentials.
        sasl_file: the same for SASL.
    """

    path: str
    hosts: str | None = None
    session_timeout: str | None = None
    advertise: str | None = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    auth_file: str | None = None
    sasl_file: str | None = None


@dataclass(frozen=True, slots=True)
class Configured:
    """What a section says.

    Attributes:
        section: how it begins in the file.
        monitor: where it listens, and who may ask it.
        fleet: where it is registered; None for nowhere.
    """

    section: str
    monitor: MonitorSettings
    fleet: Fleet | None


def configured(sections: Mapping[str, Mapping[str, str]]) -> Configured | None:
    """Return what the product-configs say; None if none is about the monitor, or nothing is in it.

    Raises:
        BadInput: it cannot be meant, with the section and the key.
    """
    name = next((name for name in NAMES if name in sections), None)
    if name is None or not sections[name]:
        return None
    where = f"<product-config {name}>"
    with naming(where):
        section = {key: value.strip() for key, value in sections[name].items()}
        _check_keys(section)
        monitor = _monitor(section)
        return Configured(where, monitor, _fleet(section, monitor))


def line_of(section: str, text: str) -> int:
    """Return the number of the line at which a section begins in a file's text; 0 if it is not there."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return lines.index(section) + 1 if section in lines else 0


def _check_keys(section: Mapping[str, str]) -> None:
    if unknown := sorted(section.keys() - set(KNOWN)):
        raise BadInput(f"there is no {unknown[0]!r}", hint=f"there are: {', '.join(KNOWN)}")
    if blank := sorted(key for key, value in section.items() if not value and key not in ("bind", "http")):
        raise BadInput(f"{blank[0]}: there is no value", hint=f"give one, or leave {blank[0]} out")
    if "bind" in section and "port" in section:
        raise BadInput("bind and port are both there", hint="give one of them")


def _monitor(section: Mapping[str, str]) -> MonitorSettings:
    port = section.get("port", "0")
    if not (port.isascii() and port.isdigit()):
        raise BadInput(f"port: not a number: {port!r}", hint="say bind for anything but a port")
    for key in ("bind", "port", "http"):
        if key in section:
            with naming(key):
                place(section[key])
    said: dict[str, object] = {word: section[word] for word in WORDS if word in section}
    if "actions" in section:
        said["actions"] = _switch("actions", section["actions"])
    return MonitorSettings.of(section.get("bind", section.get("port")), said, SPELLING)


def _switch(key: str, text: str) -> bool:
    if text.lower() not in SWITCH:
        raise BadInput(f"{key}: {text!r} is neither on nor off", hint="write on or off")
    return SWITCH[text.lower()]


def _fleet(section: Mapping[str, str], monitor: MonitorSettings) -> Fleet | None:
    said = {attribute: section[key] for key, attribute in ZOOKEEPER.items() if key in section}
    if not said:
        return None
    if "path" not in said:
        key = next(key for key in ZOOKEEPER if key in section)
        raise BadInput(f"{key} is of no use without path", hint="path is the node to be registered at")
    if "key" in said and "certificate" not in said:
        raise BadInput("zookeeper-key is of no use without zookeeper-certificate", hint="add zookeeper-certificate")
    if monitor.address is None or isinstance(place(monitor.address), UnixPath):
        raise BadInput(
            f"path: nobody finds a Unix socket through ZooKeeper{'' if monitor.address else ', and there is no bind'}",
            hint="bind a TCP port: 127.0.0.1:0 for this machine, or HOST:0 and a token-file for others",
        )
    return Fleet(**said)
