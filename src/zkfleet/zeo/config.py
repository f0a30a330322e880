"""How is a client configured in a file, or by a URI?

`<zkzeoclient>` for ZConfig, after `%import zkfleet.zeo`, and `zkzeo://` for
zodburi: so an application changes one line of its configuration.  Both end in
`client`.  `database` opens either for those who have no zodburi.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import ZConfig
import ZODB.config
from ZConfig.datatypes import SuffixMultiplier
from ZODB.config import BaseConfig

from zkfleet import paths
from zkfleet.errors import BadInput
from zkfleet.zeo.candidates import preference
from zkfleet.zeo.client import client
from zkfleet.zeo.openings import no_text
from zkfleet.zeo.options import Settings, split
from zkfleet.zeo.reasons import spelled
from zkfleet.zeo.storage import FollowingStorage

SCHEME = "zkzeo://"


def seconds_or_off(text: str) -> float | None:
    """Return a number of seconds, None for `off`; raises `ValueError`."""
    return None if text.strip().lower() in ("off", "none") else float(text)


# -- in a file

# ZConfig says where a value stands, and nothing but the text of an error.


def _in_file(check: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a data type for ZConfig whose errors have their hints in their text."""

    def converted(text: str) -> Any:
        try:
            return check(text)
        except BadInput as exc:
            raise ValueError(spelled(exc)) from exc

    return converted


def _option(name: str, convert: Callable[[str], Any] = str) -> Callable[[str], Any]:
    """Return the data type of one of our options: it is checked as in a program."""
    return _in_file(lambda text: getattr(Settings(**{name: convert(text)}), name))


def _prefer(text: str) -> str:
    preference(text)
    return text


path = _in_file(paths.check)
prefer = _in_file(_prefer)
on_delisted = _option("on_delisted")
on_behind = _option("on_behind")
database_identity = _option("database")
leave_after = _option("leave_after", float)
ping_timeout = _option("ping_timeout", float)
ping_interval = _option("ping_interval", seconds_or_off)


def no_password(_text: str) -> str:
    """Refuse a key of former versions of ZEO."""
    raise ValueError("ZEO has no passwords since version 5: leave this out, and use a <tls> section with certificates")


class ClientSection(BaseConfig):  # type: ignore[misc]  # ZODB has no types
    """What a `<zkzeoclient>` section says."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        try:
            split(self._said()[2])
        except BadInput as exc:
            raise ValueError(f"<zkzeoclient> of server {config.server}: {spelled(exc)}") from exc

    def open(self) -> FollowingStorage:
        """Open the storage; errors as for `client`."""
        hosts, where, options = self._said()
        return client(hosts, where, **options)

    def _said(self) -> tuple[str | None, str, dict[str, Any]]:
        said = {name: getattr(self.config, name) for name in self.config.getSectionAttributes()}
        hosts, where, tls = said.pop("zookeeper"), said.pop("server"), said.pop("tls")
        options = {name: value for name, value in said.items() if value not in (None, []) or name == "ping_interval"}
        if "cache_path" in options:
            options["cache"] = options.pop("cache_path")
        if tls:
            options["ssl"], options["ssl_server_hostname"] = tls
        return hosts, where, options


# -- in a URI

TRUE = {"1", "on", "true", "t", "yes"}
FALSE = {"", "0", "off", "false", "f", "no"}


def _boolean(text: str) -> bool:
    """Return what zodburi takes a word for; it spells more of them than ZConfig."""
    if (word := text.strip().lower()) not in TRUE | FALSE:
        raise ValueError(text)
    return word in TRUE


_bytes = SuffixMultiplier({"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30})
# How a kind of option is read, how it is written, and which are of that kind.
_KINDS: Sequence[tuple[Callable[[str], Any], str, str]] = (
    (
        _boolean,
        "1 or 0, on or off, true or false, yes or no",
        "wait read_only read_only_fallback server_sync shared_blob_dir drop_cache_rather_verify"
        " wait_for_server_on_startup",
    ),
    (
        int,
        "a whole number",
        "wait_timeout min_disconnect_poll max_disconnect_poll blob_cache_size_check",
    ),
    (float, "a number of seconds", "leave_after ping_timeout"),
    (seconds_or_off, "a number of seconds, or off", "ping_interval"),
    (_bytes, "a number of bytes, such as 20MB", "cache_size blob_cache_size"),
    (
        str,
        "text",
        "storage name client var cache blob_dir client_label prefer on_delisted on_behind database"
        " username password realm",
    ),
)
_CONVERTERS = {name: (convert, kind) for convert, kind, names in _KINDS for name in names.split()}


def resolve(uri: str) -> tuple[Callable[[], FollowingStorage], dict[str, str]]:
    """Return what opens the storage of a URI, and those of its parameters that are for the database.

    Args:
        uri: `zkzeo://host:port,host:port/path?option=value&...`, the options
            being those of `client` that can be written, and `chroot`.

    Raises:
        BadInput: it is none.
    """
    hosts, slash, rest = uri.removeprefix(SCHEME).partition("/")
    path, _, query = rest.partition("?")
    if not uri.startswith(SCHEME) or not slash:
        raise BadInput(
            f"no URI of a ZEO client: {shown(uri)}", hint=f"write {SCHEME}host:2181,host:2181/path?storage=1"
        )
    if "@" in hosts:
        raise BadInput(
            f"a URI of a ZEO client has no user and no password: {shown(uri)}",
            hint="ZEO has no passwords; for those of ZooKeeper open a registry with auth=, and zkfleet.zeo.DB with it",
        )
    path = paths.check("/" + unquote(path))
    options: dict[str, Any] = {}
    others: dict[str, str] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name in _CONVERTERS:
            options[name] = _converted(name, text, options.get(name))
        else:
            others[name] = text
    chroot = others.pop("chroot", "")
    where = f"{hosts}{paths.check(chroot) if chroot else ''}" if hosts else None
    return lambda: client(where, path, **options), others


def _converted(name: str, text: str, before: Any) -> Any:
    """Return the value of an option; `prefer` may be repeated."""
    convert, kind = _CONVERTERS[name]
    try:
        value = convert(text)
    except ValueError as exc:
        raise BadInput(f"{name}={text}: this is not {kind}", hint=f"write {kind}") from exc
    return value if name != "prefer" or before is None else [*([before] if isinstance(before, str) else before), value]


def shown(uri: str) -> str:
    """Return a URI without its secrets and options, for people."""
    return re.sub(r"//[^/]*@", "//...@", uri).partition("?")[0]


def database(where: Path | str) -> ZODB.DB:
    """Open the database of a configuration file's `<zodb>` section, or of a URI.

    Raises:
        BadInput: the file or the URI is wrong, or the URI has other parameters for the database than its name.
        Others as for `client`, and for the storages that a file may name.
    """
    if isinstance(where, Path):
        try:
            return ZODB.config.databaseFromURL(str(where))
        except UnicodeDecodeError as exc:
            raise no_text(where) from exc
        except ZConfig.ConfigurationError as exc:
            raise BadInput(str(exc)) from exc
    open_storage, others = resolve(where)
    names = {"database_name": others.pop("database_name")} if "database_name" in others else {}
    if others:
        raise BadInput(
            f"{shown(where)}: no parameter of a client: {', '.join(others)}", hint="zodburi knows those of databases"
        )
    storage = open_storage()
    try:
        return ZODB.DB(storage, **names)
    except BaseException:
        storage.close()
        raise
