"""Which of the servers that are registered may a client try, and which first?

From what stands in the registry to a list of candidates.  Pure: they are tried
in `link`, and the first one that answers is taken.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Literal

from zkfleet.endpoints import Endpoint, parse_endpoint
from zkfleet.errors import BadAddress, BadInput, Unavailable, ZkfleetError
from zkfleet.zeo.described import Described, described_by

Mode = Literal["write", "read", "fallback"]
Said = Mapping[str, Any]
Preference = Callable[[Said], Any]
NAME_IT = "storage=, or the key storage in a file"


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


@dataclass(frozen=True, slots=True)
class Choice:
    """Whom a client may try, and whom not.

    Attributes:
        candidates: those that it may, the preferred ones first.
        left_out: what is wrong with each of the others, by name.
        not_preferred: why the preference could not be heeded; "" if it could.
    """

    candidates: tuple[Candidate, ...] = ()
    left_out: Mapping[str, Exception] = field(default_factory=dict)
    not_preferred: str = ""


def choose(providers: Mapping[str, Said], *, storage: str, mode: Mode, prefer: Preference) -> Choice:
    """Return whom a client may try, the preferred ones first.

    Left out are those that drain, those that say that they do not have the
    storage, and those that say that they are read-only from clients that write.

    Args:
        providers: properties by name.
        storage: the storage's name.
        mode: what the client wants to do; `fallback` writes if it can.
        prefer: a key for sorting: who has the smallest is tried first, and
            last for whom there is none.
    """
    left_out: dict[str, Exception] = {}
    found: list[tuple[Candidate, Said, bool]] = []
    for name, said in sorted(providers.items()):
        described = described_by(said)
        try:
            endpoint = parse_endpoint(name)
            _check_fit(name, said, described, storage, mode)
        except BadAddress as exc:
            left_out[name] = Unavailable(f"{name}: passed over, for it is no address: {exc}")
        except ZkfleetError as exc:
            left_out[name] = exc
        else:
            second_choice = not described.read_only if mode == "read" else bool(described.read_only)
            database, instance = described.databases.get(storage, ""), str(said.get("instance", ""))
            found.append((Candidate(endpoint.host, endpoint.port, instance, 0, database), said, second_choice))
    tiers, not_preferred = _tiers(found, prefer)
    chosen = [replace(one, tier=tier) for (one, _, _), tier in zip(found, tiers, strict=True)]
    return Choice(tuple(sorted(chosen, key=lambda one: one.tier)), left_out, not_preferred)


def _check_fit(name: str, said: Said, described: Described, storage: str, mode: Mode) -> None:
    if described.storages and storage not in described.storages:
        raise BadInput(
            f"{name}: it has no storage {storage!r}, but {', '.join(described.storages)}",
            hint=f"name one of these with {NAME_IT}",
        )
    if said.get("state") == "draining":
        raise Unavailable(f"{name}: it drains, and takes no more clients")
    if mode == "write" and described.read_only:
        raise Unavailable(f"{name}: it is read-only")


def _tiers(found: Sequence[tuple[Candidate, Said, bool]], prefer: Preference) -> tuple[list[int], str]:
    """Return the tier of each, and what is wrong with the preference."""
    keys: list[Any] = []
    problem = ""
    for one, said, second_choice in found:
        try:
            keys.append((second_choice, False, prefer(said)))
        except Exception as exc:  # it is the caller's, and must not end our following
            problem = f"{Endpoint(*one.address)}: {exc!r}"
            keys.append((second_choice, True))
    try:
        order = [key for key, _ in groupby(sorted(keys))]
    except Exception as exc:  # so are the keys, and these cannot be compared
        problem, keys = str(exc), [key[:1] for key in keys]
        order = [key for key, _ in groupby(sorted(keys))]
    return [order.index(key) for key in keys], problem


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
