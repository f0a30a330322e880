"""What may a client be told, and what of it is ours?

The options of `client` that ZEO's `ClientStorage` does not have, and those of
its own that it takes without heeding them.
"""

import inspect
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal

from ZEO.ClientStorage import ClientStorage

from zkfleet.errors import BadInput
from zkfleet.registry.connecting import LONGEST
from zkfleet.spelling import get_logger
from zkfleet.zeo.candidates import Mode, Preference, preference

logger = get_logger(__name__)

OnBehind = Literal["wait", "refuse", "clear"]
OnDelisted = Literal["leave", "stay"]
# What zc.zkzeo's callers may still give, and why it does nothing.
OUTDATED = {
    "min_disconnect_poll": "a server that comes back is tried at once",
    "max_disconnect_poll": "a server that comes back is tried at once",
    "disconnect_poll": "a server that comes back is tried at once",
    "drop_cache_rather_verify": "a cache that cannot be verified quickly is always dropped",
    "wait_for_server_on_startup": "it is now called wait",
}
NOBODY = preference(None)
ON_DELISTED = {"leave": "goes to another server between two transactions", "stay": "keeps the connection"}
ON_BEHIND = {
    "wait": "waits until the server has them",
    "refuse": "raises an error",
    "clear": "drops the cache and goes back in time",
}
WRITE_SECONDS = "write a number of seconds, such as 5"
GONE = dict.fromkeys(
    ("username", "password", "realm", "credentials"), "ZEO has no passwords since version 5: use ssl= with certificates"
)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a client follows.

    Attributes:
        mode: what it wants to do.
        prefer: the key by which servers are tried.
        on_delisted: what to do when the connected server is registered no more:
            `leave` it between two transactions, if another one is there, or `stay`.
        leave_after: seconds that it must have been gone.
        on_behind: what to do about a server that lacks transactions that were
            seen here: `wait` until it has them, `refuse` it, or `clear` the
            cache and go back in time with it.
        database: the identity of the database that is expected; "" for the first that is met.
        ping_interval: seconds of silence before a server is asked for a word; None for never.
        ping_timeout: seconds that it may take to answer, or to greet.
    """

    mode: Mode = "write"
    prefer: Preference = NOBODY
    on_delisted: OnDelisted = "leave"
    leave_after: float = 5.0
    on_behind: OnBehind = "wait"
    database: str = ""
    ping_interval: float | None = 5.0
    ping_timeout: float = 5.0

    def __post_init__(self) -> None:
        _check_choice("on_delisted", self.on_delisted, ON_DELISTED)
        _check_choice("on_behind", self.on_behind, ON_BEHIND)
        if self.database and not re.fullmatch("[0-9a-f]{32}", self.database):
            raise BadInput(
                f"database is an identity, 32 hexadecimal digits, and not {self.database!r}",
                hint="`zkfleet zeo status PATH --format json` shows it",
            )
        for name in ("leave_after", "ping_interval", "ping_timeout"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and 0 < value < float("inf")):
                raise BadInput(f"{name} is a positive number of seconds, not {value!r}", hint=WRITE_SECONDS)


def split(options: Mapping[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """Part the options of `client` into ours and those of `ClientStorage`.

    Raises:
        BadInput: one is unknown, or does nothing today.
    """
    names = set(Settings.__slots__) - {"mode"}
    ours = {name: value for name, value in options.items() if name in names}
    theirs = {name: value for name, value in options.items() if name not in names}
    for name in [name for name in theirs if name in OUTDATED]:
        warnings.warn(f"{name} does nothing: {OUTDATED[name]}", DeprecationWarning, stacklevel=4)
        _log_outdated(name)
        value = theirs.pop(name)
        if name == "wait_for_server_on_startup":
            theirs.setdefault("wait", value)
    known = set(inspect.signature(ClientStorage).parameters) - {"addr", "_client_factory"}
    for name in theirs:
        if name in GONE:
            raise BadInput(f"{name} does nothing", hint=GONE[name])  # its value is a secret
        if name not in known:
            all_names = sorted(names) + sorted(known - set(GONE) - set(OUTDATED))
            right = meant(name, all_names)
            raise BadInput(
                f"no option of a ZEO client: {name!r}",
                hint=f"is it {right}?" if right else f"there are {', '.join(all_names)}",
            )
    _check_wait(theirs.get("wait_timeout"))
    if theirs.get("read_only") and theirs.get("read_only_fallback"):
        raise BadInput(
            "read_only and read_only_fallback exclude each other", hint="read_only_fallback writes if it can"
        )
    if theirs.get("shared_blob_dir") and not theirs.get("blob_dir"):
        raise BadInput("shared_blob_dir needs blob_dir", hint="name the server's folder for blobs as blob_dir")
    if "prefer" in ours:
        ours["prefer"] = preference(ours["prefer"])
    return Settings(mode=_mode(theirs), **ours), theirs


# Python shows the warning to programs' authors alone, and a file has none.
@cache
def _log_outdated(name: str) -> None:
    """Say once a process that an option does nothing."""
    logger.warning("zeo_option_outdated option=%s: it does nothing, %s; leave it out", name, OUTDATED[name])


def _mode(options: Mapping[str, Any]) -> Mode:
    if options.get("read_only"):
        return "read"
    return "fallback" if options.get("read_only_fallback") else "write"


def meant(name: str, known: Iterable[str]) -> str:
    """Return the name that is probably meant by a misspelled one, or ""."""
    return next(iter(get_close_matches(name, sorted(known), 1)), "")


def _check_choice(name: str, value: object, choices: Mapping[str, str]) -> None:
    if value not in choices:
        hint = "; ".join(f"{choice} {what}" for choice, what in choices.items())
        raise BadInput(f"{name} is one of {', '.join(choices)}, not {value!r}", hint=hint)


def _check_wait(seconds: object) -> None:
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and not (number and 0 <= seconds <= LONGEST):  # type: ignore[operator]
        raise BadInput(f"wait_timeout is a number of seconds up to {LONGEST:,}, not {seconds!r}", hint=WRITE_SECONDS)
