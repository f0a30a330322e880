"""Which files does a client keep, who else has them, and which database is its cache of?

What is wrong with the files of a client is said here, before it is opened.  A
cache that is kept has a file beside it: the identity of its database.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zc.lockfile import LockError

from zkfleet.errors import BadInput
from zkfleet.spelling import get_logger
from zkfleet.zeo.blobs import check_own

logger = get_logger(__name__)
TRANSIENT = "transient"


@contextlib.contextmanager
def client_files(options: Mapping[str, Any]) -> Iterator[None]:
    """Say what is wrong with the files of a client that is opened.

    Raises:
        BadInput: they cannot be used.
    """
    if options.get("blob_dir"):
        check_own(options["blob_dir"], shared=bool(options.get("shared_blob_dir")))
    try:
        yield
    except LockError as exc:
        file = _cache_file(options)
        raise BadInput(
            f"the cache file {file} is in use by {_holder(file)}",
            hint="each process and each storage needs a cache file of its own: name another one by cache= "
            "(cache-path in a file), or leave it out for one that is not kept",
        ) from exc
    except OSError as exc:
        raise BadInput(
            f"a file of the client cannot be used: {exc}", hint="see to it that its folder exists and can be written"
        ) from exc


def _cache_file(options: Mapping[str, Any]) -> str:
    name = f"{options.get('client')}-{options.get('storage', '1')}.zec"
    return options.get("cache") or os.path.join(options.get("var") or os.getcwd(), name)


def _holder(file: str) -> str:
    """Return who has a cache file, in words."""
    with contextlib.suppress(OSError):
        words = Path(f"{file}.lock").read_text(encoding="ascii", errors="replace").split()
        if words and words[0].isdigit():
            return "this process" if int(words[0]) == os.getpid() else f"process {words[0]}"
    return "another process"


# -- which database a cache is of


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of the database of a cache.

    Attributes:
        database: its identity; "" if it is not known.
        transient: whether it was in memory, and so ended with its server.
    """

    database: str = ""
    transient: bool = False


def remembered(cache: Any) -> Kept:
    """Return which database a cache file is of."""
    try:
        words = _beside(cache).read_text(encoding="ascii").split() if cache.path else []
    except (OSError, UnicodeError):
        words = []
    return Kept(words[0], TRANSIENT in words) if words else Kept()


def remember(cache: Any, kept: Kept) -> None:
    """Note beside a cache file that is kept which database it is of."""
    if not (kept.database and cache.path) or remembered(cache) == kept:
        return
    draft = Path(cache.path + ".database.new")
    try:
        draft.write_text(f"{kept.database}\n{TRANSIENT if kept.transient else ''}".strip() + "\n", encoding="ascii")
        draft.replace(_beside(cache))
    except OSError as exc:  # the server is there all the same
        logger.warning("zeo_cache_without_database file=%s reason=%s", _beside(cache), exc)


def _beside(cache: Any) -> Path:
    return Path(cache.path + ".database")
