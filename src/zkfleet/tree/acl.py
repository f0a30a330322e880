"""Who may do what with a znode, as text: `world:anyone:r,digest:user:hash:cdrwa`.

An entry is `scheme:id:permissions`; the permissions are letters of `cdrwa`:
create, delete, read, write, administer.
"""

from dataclasses import dataclass

from zkfleet.errors import BadAcl

LETTERS = "cdrwa"
_HINT = "write scheme:id:permissions, separated by commas, for example world:anyone:r"


@dataclass(frozen=True, slots=True)
class Acl:
    """One entry of an access control list.

    Attributes:
        permissions: letters of `cdrwa`.
        scheme: `world`, `auth`, `digest`, `ip`, `sasl` or `x509`.
        id: whom it names, in the form of its scheme.
    """

    permissions: str
    scheme: str
    id: str

    def __post_init__(self) -> None:
        letters = "".join(letter for letter in LETTERS if letter in self.permissions)
        if not letters or set(self.permissions) - set(LETTERS):
            raise BadAcl(f"permissions are letters of {LETTERS}, not {self.permissions!r}", hint=_HINT)
        object.__setattr__(self, "permissions", letters)

    def __str__(self) -> str:
        return f"{self.scheme}:{self.id}:{self.permissions}"


OPEN = (Acl("cdrwa", "world", "anyone"),)
READ_ONLY = (Acl("r", "world", "anyone"),)


def parse_acl(text: str) -> tuple[Acl, ...]:
    """Return the entries that a text names.

    Raises:
        BadAcl: it cannot be read.
    """
    return tuple(_entry(part.strip()) for part in text.split(","))


def _entry(text: str) -> Acl:
    scheme, _, rest = text.partition(":")
    identity, colon, permissions = rest.rpartition(":")
    if not scheme or not colon:
        raise BadAcl(f"no entry of an ACL: {text!r}", hint=_HINT)
    if not identity and scheme != "auth":
        raise BadAcl(f"the entry {text!r} names nobody", hint=_HINT)
    if scheme == "world" and identity != "anyone":
        raise BadAcl(f"the world is 'anyone', not {identity!r}", hint=_HINT)
    return Acl(permissions, scheme, identity)
