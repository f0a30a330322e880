"""How is a client configured in a file, or by a URI?

`<zkzeoclient>` for ZConfig, after `%import zkfleet.zeo`, and `zkzeo://` for
zodburi: so an application changes one line of its configuration.  Both end in
`client`.  `database` opens either for those who have no zodburi.
"""

import re
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import ZConfig
import ZODB.config
from ZConfig.datatypes import BasicKeyConversion, SuffixMultiplier
from ZEO.zconfig import client_ssl
from ZODB.config import BaseConfig

from zkfleet import paths
from zkfleet.errors import BadInput
from zkfleet.zeo.client import client
from zkfleet.zeo.openings import no_text
from zkfleet.zeo.options import meant, split
from zkfleet.zeo.reasons import spelled
from zkfleet.zeo.storage import FollowingStorage

SCHEME = "zkzeo://"
PEM = "these are files in PEM format; the key must be the certificate's"


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


def _option(name: str) -> Callable[[str], Any]:
    """Return the data type of a key: its value is checked as in a URI and in a program."""

    def checked(text: str) -> Any:
        value = _converted(name, text, written=f"{name.replace('_', '-')} {text}")
        split({name: value})
        return value

    return _in_file(checked)


def key(name: str) -> str:
    """Return the name of a key as the schema has it; a misspelled one is refused with the right one."""
    lower = BasicKeyConversion()(name)
    if lower not in _KEYS:
        right = meant(lower, _KEYS)
        raise ValueError(f"{name!r} is not a known key name{f' (is it {right}?)' if right else ''}")
    return str(lower)


def tls(section: Any) -> Any:
    """Return what a `<tls>` section says, as ZEO wants it."""
    try:
        return client_ssl(section)
    except OSError as exc:  # of ssl, whose errors name no file
        files = f"certificate {section.certificate}, key {section.key or section.certificate}"
        if section.authenticate and not _is_trusted(section.authenticate):
            files = f"authenticate {section.authenticate}"
        raise ValueError(f"<tls>: {files}: {exc} ({PEM})") from exc


def _is_trusted(where: str) -> bool:
    """Whether a file has certificates that may be trusted; folders are read later, when they are needed."""
    try:
        if not Path(where).is_dir():
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(where)
    except OSError:
        return False
    return True


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
_KEYS = {name.replace("_", "-") for name in _CONVERTERS} | {"zookeeper", "server", "cache-path"}

path = _in_file(paths.check)
prefer = _option("prefer")
on_delisted = _option("on_delisted")
on_behind = _option("on_behind")
database_identity = _option("database")
leave_after = _option("leave_after")
ping_timeout = _option("ping_timeout")
ping_interval = _option("ping_interval")
wait_timeout = _option("wait_timeout")
cache_size = _option("cache_size")
blob_cache_size = _option("blob_cache_size")
blob_cache_size_check = _option("blob_cache_size_check")

# What is for the database, and not for us: zodburi takes it.
_OF_DATABASES = "database_name", "connection_pool_size", "connection_cache_size"
_OF_CONNECTIONS = "connection_"
_COUNT = re.compile(r"\s*-?\d+\s*([kmg]b\s*)?", re.IGNORECASE)
_OF_TLS = ("ssl", "tls", "certificate", "authenticate")


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
        if name in others or (name in options and name != "prefer"):
            raise BadInput(f"{shown(uri)}: the parameter {name} is there twice", hint="leave one of them out")
        if name in _CONVERTERS:
            value = _converted(name, text)
            options[name] = value if name != "prefer" else [*options.get(name, ()), value]
        else:
            others[name] = _for_others(uri, name, text)
    chroot = others.pop("chroot", "")
    where = f"{hosts}{paths.check(chroot) if chroot else ''}" if hosts else None
    return lambda: client(where, path, **options), others


def _converted(name: str, text: str, *, written: str = "") -> Any:
    """Return the value of an option.

    Raises:
        BadInput: it is of another kind; the message shows it as it was `written`.
    """
    convert, kind = _CONVERTERS[name]
    try:
        return convert(text)
    except ValueError as exc:
        raise BadInput(f"{written or f'{name}={text}'}: this is not {kind}", hint=f"write {kind}") from exc


def _for_others(uri: str, name: str, text: str) -> str:
    """Return the value of a parameter that is not an option of ours, if it is one of databases, or the chroot."""
    if name in ("chroot", "database_name"):
        return text
    if name.startswith(_OF_CONNECTIONS):
        if not _COUNT.fullmatch(text):
            raise BadInput(f"{name}={text}: this is not a whole number", hint="write a whole number")
        return text
    right = meant(name, [*_CONVERTERS, *_OF_DATABASES, "chroot"])
    hint = f"is it {right}?" if right else f"there are chroot, {', '.join([*sorted(_CONVERTERS), *_OF_DATABASES])}"
    if name.startswith(_OF_TLS):
        hint = "a URI has no TLS: use zkfleet.zeo.DB(ssl=...), or <tls> in a <zkzeoclient> section"
    raise BadInput(f"{shown(uri)}: no parameter of a client: {name}", hint=hint)


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
            f"{shown(where)}: no parameter of a client, but of a database: {', '.join(others)}",
            hint="zodburi.resolve_uri takes them",
        )
    storage = open_storage()
    try:
        return ZODB.DB(storage, **names)
    except BaseException:
        storage.close()
        raise
