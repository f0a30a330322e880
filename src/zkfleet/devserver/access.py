"""Who may do what with a znode?

Identities are pairs of a scheme and an id, such as `("digest", "ann:hash")`.
Every connection has one of the scheme `ip`, and one more for each credential
that it showed.  Pure: passwords come in, hashes go out.

Source: `DigestAuthenticationProvider`, `IPAuthenticationProvider` and
`PrepRequestProcessor.fixupACL` of ZooKeeper 3.8.
"""

import base64
import hashlib
import ipaddress
import re
from collections.abc import Iterable, Sequence, Set
from functools import lru_cache
from typing import NamedTuple

from zkfleet.devserver.codes import Code, Refused
from zkfleet.devserver.jute import AclEntry, decoded

READ, WRITE, CREATE, DELETE, ADMIN = 1, 2, 4, 8, 16
ALL = READ | WRITE | CREATE | DELETE | ADMIN
_NUMBER = re.compile(r"[+-]?\d{1,100}")
Acl = tuple[AclEntry, ...]
OPEN: Acl = (AclEntry(ALL, "world", "anyone"),)
READABLE: Acl = (AclEntry(READ, "world", "anyone"),)


class Identity(NamedTuple):
    """Who somebody has shown to be."""

    scheme: str
    id: str

    @property
    def user(self) -> str:
        """The name without its secret."""
        return self.id.partition(":")[0] if self.scheme == "digest" else self.id


def authenticate(scheme: str, credential: bytes | None, address: str) -> Identity:
    """Return the identity that a credential proves.

    Raises:
        Refused: nobody here knows that scheme, or there is no credential.
    """
    if scheme == "digest" and credential is not None:
        text = decoded(credential)
        hashed = base64.b64encode(hashlib.sha1(text.encode(), usedforsecurity=False).digest()).decode()
        return Identity("digest", f"{text.partition(':')[0]}:{hashed}")
    if scheme == "ip":
        return Identity("ip", address)
    raise Refused(Code.AUTH_FAILED)


def settled(acl: Sequence[AclEntry], identities: Iterable[Identity]) -> Acl:
    """Return the entries that a client's wish comes to: `auth` means whoever it has shown to be.

    Raises:
        Refused: an entry names nobody, or there is none.
    """
    found: list[AclEntry] = []
    for entry in dict.fromkeys(acl):
        if entry.scheme == "auth":
            shown = [AclEntry(entry.bits, *identity) for identity in identities if identity.scheme == "digest"]
            if not shown:
                raise Refused(Code.INVALID_ACL)
            found += shown
        elif _is_well_formed(entry):
            found.append(entry)
        else:
            raise Refused(Code.INVALID_ACL)
    if not found:
        raise Refused(Code.INVALID_ACL)
    return tuple(found)


def _is_well_formed(entry: AclEntry) -> bool:
    match entry.scheme:
        case "world":
            return entry.id == "anyone"
        case "digest":
            # Java's split drops what is empty at the end.
            return len(entry.id.rstrip(":").split(":")) == 2
        case "ip":
            return _network(entry.id) is not None
    return False


@lru_cache(maxsize=1 << 16)
def _network(text: str) -> tuple[int, int] | None:
    """Return the first bits that addresses in a network have, and how many bits come behind them."""
    address, slash, bits = text.partition("/")
    octets = [octet for part in address.split(".") if (octet := _number(part, 255)) is not None]
    prefix = _number(bits, 32) if slash else 32
    if len(octets) != 4 or address.count(".") != 3 or prefix is None:
        return None
    behind = 32 - prefix
    return int.from_bytes(octets) >> behind, behind


def _number(text: str, most: int) -> int | None:
    """Return what Java reads from a text: a sign and zeros in front are fine, and so are any alphabet's digits."""
    if not _NUMBER.fullmatch(text):
        return None
    number = int(text)
    return number if 0 <= number <= most else None


def check(acl: Acl, bits: int, identities: Iterable[Identity]) -> None:
    """See that one of the identities has one of the permissions.

    Raises:
        Refused: none has.
    """
    if acl is OPEN:
        return
    known = set(identities)
    addresses = [address for who in known if who.scheme == "ip" and (address := _address(who.id)) is not None]
    if not any(entry.bits & bits and _matches(entry, known, addresses) for entry in acl):
        raise Refused(Code.NO_AUTH)


def _matches(entry: AclEntry, known: Set[tuple[str, str]], addresses: Sequence[int]) -> bool:
    if entry.scheme == "world":
        return True
    if entry.scheme == "ip":
        network = _network(entry.id)
        return network is not None and any(address >> network[1] == network[0] for address in addresses)
    return (entry.scheme, entry.id) in known


def _address(text: str) -> int | None:
    try:
        return int(ipaddress.IPv4Address(text))
    except ValueError:
        return None  # an IPv6 one, which no entry names


def without_secrets(acl: Acl) -> Acl:
    """Return entries as those may see them who may not administer."""
    return tuple(
        entry._replace(id=f"{entry.id.partition(':')[0]}:x") if entry.scheme == "digest" else entry for entry in acl
    )
