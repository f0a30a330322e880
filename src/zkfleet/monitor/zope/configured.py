"""Where does zope.conf say that the monitor listens?

In the product-config `zkfleet.monitor`, else in that of zc.z3monitor: `bind`
is `host:port`, a port or a path, `port` a port.  Pure: from texts to an address.
"""

from collections.abc import Mapping

from zkfleet.errors import BadAddress, BadInput
from zkfleet.monitor.places import Address, place

NAMES = ["zkfleet.monitor", "zc.z3monitor"]
KNOWN = {"bind", "port"}


def address(sections: Mapping[str, Mapping[str, str]]) -> Address | None:
    """Return where to listen, or None if nothing is said.

    Raises:
        BadInput: it cannot be meant, with the section and the key.
    """
    name = next((name for name in NAMES if name in sections), None)
    return None if name is None else _address(name, sections[name])


def _address(name: str, section: Mapping[str, str]) -> Address | None:
    where = f"<product-config {name}>"
    if unknown := sorted(section.keys() - KNOWN):
        raise BadInput(f"{where}: there is no {unknown[0]!r}", hint="there are: bind, port")
    if len(section) > 1:
        raise BadInput(f"{where}: bind and port are both there", hint="give one of them")
    for key, value in section.items():
        if key == "port" and not (value.isascii() and value.isdigit()):
            raise BadInput(f"{where}: port: not a number: {value!r}", hint="say bind for anything but a port")
        try:
            place(value)
        except BadAddress as exc:
            raise BadInput(f"{where}: {key}: {exc}", hint=exc.hint) from None
        return value
    return None
