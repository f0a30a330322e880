"""How is a client configured in a file, or by a URI?

`<zkzeoclient>` for ZConfig, after `%import zkfleet.zeo`, and `zkzeo://` for
zodburi: so an application changes one line of its configuration.  Both end in
`client`.  `database` opens either for those who have no zodburi.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import ZConfig
import ZODB.config
from ZConfig.datatypes import SuffixMultiplier, asBoolean
from ZODB.config import BaseConfig

from zkfleet import paths
from zkfleet.errors import BadInput
from zkfleet.zeo.client import client
from zkfleet.zeo.storage import FollowingStorage

SCHEME = "zkzeo://"


def seconds_or_off(text: str) -> float | None:
    """Return a number of seconds, None for `off`; raises `ValueError`."""
    return None if text.strip().lower() in ("off", "none") else float(text)


class ClientSection(BaseConfig):  # type: ignore[misc]  # ZODB has no types
    """What a `<zkzeoclient>` section says."""

    def open(self) -> FollowingStorage:
        """Open the storage; errors as for `client`."""
        said = {name: getattr(self.config, name) for name in self.config.getSectionAttributes()}
        hosts, path, tls = said.pop("zookeeper"), said.pop("server"), said.pop("tls")
        options = {name: value for name, value in said.items() if value not in (None, []) or name == "ping_interval"}
        if "cache_path" in options:
            options["cache"] = options.pop("cache_path")
        if tls:
            options["ssl"], options["ssl_server_hostname"] = tls
        return client(hosts, path, **options)


_bytes = SuffixMultiplier({"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30})
_KINDS: Mapping[Callable[[str], Any], str] = {
    asBoolean: "wait read_only read_only_fallback server_sync shared_blob_dir drop_cache_rather_verify"
    " wait_for_server_on_startup",
    int: "wait_timeout min_disconnect_poll max_disconnect_poll blob_cache_size_check",
    float: "leave_after ping_timeout",
    seconds_or_off: "ping_interval",
    _bytes: "cache_size blob_cache_size",
    str: "storage name client var cache blob_dir client_label prefer on_delisted on_behind database"
    " username password realm",
}
_CONVERTERS = {name: convert for convert, names in _KINDS.items() for name in names.split()}


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
        raise BadInput(f"no URI of a ZEO client: {uri}", hint=f"write {SCHEME}host:2181,host:2181/path?storage=1")
    path = paths.check("/" + unquote(path))
    options: dict[str, Any] = {}
    others: dict[str, str] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in _CONVERTERS:
            others[name] = text
            continue
        try:
            options[name] = _CONVERTERS[name](text)
        except ValueError as exc:
            raise BadInput(f"{uri}: {name}: {exc}", hint="percent-encode what is special in a URI") from exc
    chroot = others.pop("chroot", "")
    where = f"{hosts}{paths.check(chroot) if chroot else ''}" if hosts else None
    return lambda: client(where, path, **options), others


def database(where: Path | str) -> ZODB.DB:
    """Open the database of a configuration file's `<zodb>` section, or of a URI.

    Raises:
        BadInput: the file or the URI is wrong, or the URI has other parameters for the database than its name.
        Others as for `client`, and for the storages that a file may name.
    """
    if isinstance(where, Path):
        try:
            return ZODB.config.databaseFromURL(str(where))
        except ZConfig.ConfigurationError as exc:
            raise BadInput(str(exc)) from exc
    open_storage, others = resolve(where)
    names = {"database_name": others.pop("database_name")} if "database_name" in others else {}
    if others:
        raise BadInput(
            f"{where}: no parameter of a client: {', '.join(others)}", hint="zodburi knows those of databases"
        )
    storage = open_storage()
    try:
        return ZODB.DB(storage, **names)
    except BaseException:
        storage.close()
        raise
