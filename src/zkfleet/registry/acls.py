"""Who may do what with a znode: our form, kazoo's form and text.

The pure part (`Acl`, text) is in `zkfleet.tree`; here it meets kazoo.
"""

from collections.abc import Iterable, Sequence
from typing import cast

from kazoo.security import ACL, Id
from kazoo.security import Permissions as Bits

from zkfleet.errors import BadAcl
from zkfleet.tree import OPEN, Acl, parse_acl

_BITS = {"c": Bits.CREATE, "d": Bits.DELETE, "r": Bits.READ, "w": Bits.WRITE, "a": Bits.ADMIN}
Wanted = str | Iterable[Acl | ACL]

# Of our own znodes.  Everybody who may write beside them uses them, whoever made them.
_EVERYBODY = Id("world", "anyone")
HOME_OF_MARKS = [ACL(Bits.CREATE | Bits.DELETE | Bits.READ, _EVERYBODY)]
OF_GUARDS = [ACL(Bits.CREATE | Bits.DELETE | Bits.READ | Bits.WRITE, _EVERYBODY)]


def read_acl(acl: Wanted | None, default: Sequence[Acl] = OPEN) -> tuple[Acl, ...]:
    """Return an ACL in our form.

    Args:
        acl: text such as `world:anyone:r`, our entries, or kazoo's; None for
            the default.
        default: what None means.

    Raises:
        BadAcl: it cannot be read, or is empty.
    """
    if acl is None:
        return tuple(default)
    if isinstance(acl, str):
        return tuple(parse_acl(acl))
    try:
        entries: tuple[Acl, ...] = tuple(
            from_kazoo([entry])[0] if isinstance(entry, ACL) else cast(Acl, entry) for entry in acl
        )
    except TypeError:
        raise BadAcl(f"an ACL is text or a sequence of entries, not {acl!r}") from None
    wrong = [entry for entry in entries if not isinstance(entry, Acl)]
    if wrong or not entries:
        what = f"{wrong[0]!r} is no entry of an ACL" if wrong else "an ACL without an entry"
        raise BadAcl(what, hint="write it as text: world:anyone:r,digest:user:hash:cdrwa")
    return entries


def from_kazoo(entries: Iterable[ACL]) -> tuple[Acl, ...]:
    """Return kazoo's entries in our form."""
    return tuple(
        Acl("".join(letter for letter, bit in _BITS.items() if entry.perms & bit), entry.id.scheme, entry.id.id)
        for entry in entries
    )


def to_kazoo(entries: Iterable[Acl]) -> list[ACL]:
    """Return our entries in kazoo's form."""
    return [
        ACL(sum(_BITS[letter] for letter in set(entry.permissions)), Id(entry.scheme, entry.id)) for entry in entries
    ]


def for_registrations(authenticated: bool) -> tuple[Acl, ...]:
    """Return the ACL of a provider's znode when the caller gave none.

    With credentials it is ours to change and everybody's to read; without,
    nobody can be told apart, and a znode that we could not write would take
    `Registration.update` away.
    """
    return (Acl("cdrwa", "auth", ""), Acl("r", "world", "anyone")) if authenticated else tuple(OPEN)
