"""Which of the servers that are registered may a client try, and which first?

From what stands in the registry to a list of candidates.  Pure: they are tried
in `link`, and the first one that answers is taken.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from zkfleet.endpoints import parse_endpoint
from zkfleet.errors import BadAddress, BadInput
from zkfleet.zeo.described import described_by

Mode = Literal["write", "read", "fallback"]
Said = Mapping[str, Any]
Preference = Callable[[Said], Any]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server that may be tried.

    Attributes:
        host: a name or an address.
        port: its port.
        instance: another one for every start of a server; "" if it does not say.
        tier: 0 for those that are tried first; 1 for those that are tried when
            these do not answer, and so on.
        database: the identity of what it serves, "" if it does not say.
    """

    host: str
    port: int
    instance: str = ""
    tier: int = 0
    database: str = ""

    @property
    def address(self) -> tuple[str, int]:
        """Where it is, as ZEO wants it."""
        return self.host, self.port


def choose(providers: Mapping[str, Said], *, storage: str, mode: Mode, prefer: Preference) -> tuple[Candidate, ...]:
    """Return whom a client may try, the preferred ones first.

    Left out are those that drain, those that say that they do not have the
    storage, and those that say that they are read-only from clients that write.

    Args:
        providers: properties by name; a name that is no address is passed over.
        storage: the storage's name.
        mode: what the client wants to do; `fallback` writes if it can.
        prefer: a key for sorting: who has the smallest is tried first.
    """
    found: list[tuple[Any, Candidate]] = []
    for name, said in sorted(providers.items()):
        described = described_by(said)
        if said.get("state") == "draining" or (described.storages and storage not in described.storages):
            continue
        if mode == "write" and described.read_only:
            continue
        try:
            endpoint = parse_endpoint(name)
        except BadAddress:
            continue
        second_choice = not described.read_only if mode == "read" else bool(described.read_only)
        database, instance = described.databases.get(storage, ""), str(said.get("instance", ""))
        candidate = Candidate(endpoint.host, endpoint.port, instance, database=database)
        found.append(((second_choice, prefer(said)), candidate))
    return _in_tiers(found)


def _in_tiers(found: list[tuple[Any, Candidate]]) -> tuple[Candidate, ...]:
    chosen: list[Candidate] = []
    tier, last = -1, None
    for key, one in sorted(found, key=lambda pair: pair[0]):
        if tier < 0 or key != last:
            tier, last = tier + 1, key
        chosen.append(Candidate(one.host, one.port, one.instance, tier, one.database))
    return tuple(chosen)


def preference(wanted: str | Sequence[str] | Preference | None) -> Preference:
    """Return a preference as a key for sorting.

    Args:
        wanted: None for nobody; `name=value` for who has that property, or
            several of that in the order of their weight; or the key itself, a
            function of a provider's properties.

    Raises:
        BadInput: it is none of these.
    """
    if wanted is None:
        return lambda _said: 0
    if callable(wanted):
        return wanted
    pairs = [text.partition("=") for text in ([wanted] if isinstance(wanted, str) else wanted)]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        raise BadInput(f"no preference: {wanted!r}", hint="write it as zone=eu-1, or give a function of the properties")
    return lambda said: [str(said.get(name.strip(), "")) != value.strip() for name, _, value in pairs]
