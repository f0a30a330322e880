"""Which requests carry out what a claim orders, and touch only what its look saw?

An order is one request, or one multi.  A lock's is made on condition of its
guard.  A registration has none, because old clients would take a node beside it
for a provider: there the version rises whenever a znode is replaced, so who
looked at the one before does not touch the one after it.

Pure: paths and names come in as arguments, and nothing is sent.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kazoo.protocol.serialization import CheckVersion, Create, Delete, SetData, Transaction
from kazoo.security import ACL

from zkfleet import paths
from zkfleet.registry import acls, claim
from zkfleet.registry.guard import Guard, guard_at, home_at
from zkfleet.registry.wire import Multi, container, rooted

EPHEMERAL = 1
ANY_VERSION = -1
# Versions of registrations that were replaced are below this.
VERSIONS = 16
Change = claim.Create | claim.Write | claim.Replace | claim.Remove | claim.Guarding


def request_for(order: Change, name: str, *, acl: Sequence[ACL], chroot: str, witness: str) -> Any:
    """Return the one request that carries out an order; arguments as for `carrying_out`."""
    made = carrying_out(order, name, acl=acl, chroot=chroot, witness=witness)
    if len(made) == 1:
        return made[0]
    return Transaction(made) if order.guard is None else Multi(tuple(made))


def carrying_out(order: Change, name: str, *, acl: Sequence[ACL], chroot: str, witness: str) -> list[Any]:
    """Return the requests that carry out an order together.

    Args:
        order: what is to be done.
        name: of the znode.
        acl: of the znode.
        chroot: of the client, "" for none.
        witness: a name that was never used and never will be.
    """

    def at(path: str) -> str:
        return rooted(chroot, path)

    parent, guard = order.parent, order.guard
    znode, theirs = at(paths.join(parent, name)), at(guard_at(parent, name))
    match order:
        case claim.Guarding():
            return list(_taking(guard, parent, name, at, witness))
        case claim.Create(_, data):
            return [*_taking(guard, parent, name, at, witness), Create(znode, data, list(acl), EPHEMERAL)]
        case claim.Replace(_, data, version):
            made = _made(znode, data, list(acl), rising(version) if guard is None else 0)
            return [*_taking(guard, parent, name, at, witness), Delete(znode, version), *made]
        case claim.Write(_, data, version):
            return [*_unmoved(guard, theirs), SetData(znode, data, version)]
        case claim.Remove(_, version):
            leaving = [Delete(f"{theirs}/{one}", ANY_VERSION) for one in guard.witnesses] if guard else []
            return [*_unmoved(guard, theirs), *leaving, Delete(znode, version)]


def rising(version: int) -> int:
    """Return the version of a registration that replaces one: another, and a greater one as long as that is cheap."""
    return (version + 1) % VERSIONS


def _made(znode: str, data: bytes, acl: list[ACL], version: int) -> Iterator[Any]:
    """Make a znode with this version."""
    yield Create(znode, b"" if version else data, acl, EPHEMERAL)
    for number in range(version):
        yield SetData(znode, data if number == version - 1 else b"", ANY_VERSION)


def _taking(guard: Guard | None, parent: str, name: str, at: Callable[[str], str], witness: str) -> Iterator[Any]:
    """Write the guard, if it is as it was seen, so that no order before this one is carried out any more."""
    if guard is None:
        return
    where = at(guard_at(parent, name))
    if not guard.has_home:
        yield container(at(home_at(parent)), b"", acls.HOME_OF_MARKS)
    if guard.version is None:
        yield container(where, b"", acls.OF_GUARDS)
    else:
        yield SetData(where, b"", guard.version)
    for former in guard.witnesses:
        yield Delete(f"{where}/{former}", ANY_VERSION)
    yield Create(f"{where}/{witness}", b"", acls.OF_GUARDS, EPHEMERAL)


def _unmoved(guard: Guard | None, where: str) -> list[Any]:
    """Check that nobody made the lock since the guard was seen."""
    if guard is None:
        return []
    version = ANY_VERSION if guard.version is None else guard.version
    return [CheckVersion(where, version), CheckVersion(f"{where}/{guard.witnesses[0]}", ANY_VERSION)]
