"""Which identity of a database do its data, the file beside them and its servers have?

For a person after a restore, who may also change the identity in the data.  Data
are opened read-only unless they are to be changed; then they are opened with
their lock, which a running server holds.
"""

import contextlib
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from zc.lockfile import LockError
from ZODB.FileStorage import FileStorage, packed_version

from zkfleet.errors import BadInput, Unavailable
from zkfleet.zeo.databases import give, look
from zkfleet.zeo.described import Described
from zkfleet.zeo.openings import explained, no_text, sections_of
from zkfleet.zeo.settings import Settings, read_settings
from zkfleet.zeo.sidecar import SUFFIX, Sidecar

DATA, LOG = "data", "log of the data"
ONLY = "1"


@dataclass(frozen=True, slots=True)
class Word:
    """A storage's identity, and where it was found.

    Attributes:
        storage: its name.
        identity: 32 hexadecimal digits, or "" if it has none.
        by: where: `data`, a file's name, or a server's address.
    """

    storage: str
    identity: str
    by: str


@dataclass(frozen=True, slots=True)
class Databases:
    """Storages that a person has named, by a configuration or by a file.

    Attributes:
        file: the configuration, or the data.
        openers: by name; each opens one for reading alone, or for writing.
        settings: of the server, if a configuration was named.
    """

    file: Path
    openers: Mapping[str, Callable[[bool], Any]]
    settings: Settings | None = None

    def choose(self, name: str) -> str:
        """Return the name of the storage that is meant; "" is the only one.

        Raises:
            BadInput: there is none of that name, or there are several.
        """
        names = ", ".join(self.openers)
        if not name and len(self.openers) == 1:
            return next(iter(self.openers))
        if not name:
            raise BadInput(f"{self.file} has several storages: {names}", hint="name one with --storage")
        if name not in self.openers:
            raise BadInput(f"{self.file} has no storage {name!r}", hint=f"there are: {names}")
        return name

    def chosen(self, name: str) -> list[str]:
        """Return the name of the storage that is meant; "" is all of them.  Raises as `choose`."""
        return [self.choose(name)] if name else list(self.openers)


def databases_of(file: Path) -> Databases:
    """Return the storages of a configuration, or the one that a FileStorage's file is.

    Raises:
        BadInput: it is neither.
    """
    with file.open("rb") as opened:
        head = opened.read(len(packed_version))
    if head == packed_version:
        return Databases(file, {ONLY: lambda read_only: FileStorage(str(file), read_only=read_only)})
    settings = _settings(file)
    return Databases(file, {name: partial(_open, file, name) for name in settings.storages}, settings)


def _settings(file: Path) -> Settings:
    """Return what a file says that is not a FileStorage, and so a configuration."""
    try:
        return read_settings(file)
    except BadInput as exc:
        if isinstance(exc.__cause__, UnicodeDecodeError):
            raise no_text(file, "FileStorage") from exc
        hint = exc.hint or f"{file} is no FileStorage, and is read as a ZEO server's configuration: is it one?"
        raise BadInput(str(exc), hint=hint) from exc


def _open(file: Path, name: str, read_only: bool) -> Any:
    # Read again each time: opening for reading changes what was read.
    opener = read_settings(file).storages[name]
    for section in sections_of(opener) if read_only else ():
        if hasattr(section, "read_only"):
            section.read_only, section.create = True, False
    return opener()


def words_of(databases: Databases, name: str) -> list[Word]:
    """Return the identity in the data of a storage, and in the file beside them.

    Raises:
        Unavailable, BadInput: the data cannot be read.
    """
    with _opened(databases, name, read_only=True) as storage:
        found = look(storage)
        beside = Sidecar.of(storage)
    words = [Word(name, found.root or found.log, LOG if found.log else DATA)]
    if beside is not None and found.beside:
        words.append(Word(name, found.beside, str(beside)))
    return words


def words_in(servers: Mapping[str, Described], name: str = "") -> list[Word]:
    """Return the identities that registered servers give for their storages, or for one of them."""
    return [
        Word(storage, identity, address)
        for address, described in sorted(servers.items())
        for storage, identity in sorted(described.databases.items())
        if name in ("", storage)
    ]


def is_of_others(word: Word) -> bool:
    """Tell whether it is an identity that was found elsewhere than in the data."""
    return bool(word.identity) and word.by not in (DATA, LOG)


def accepted(words: Sequence[Word]) -> str:
    """Return the one identity that was found elsewhere than in the data.

    Raises:
        BadInput: there is none, or there are several.
    """
    known = sorted({word.identity for word in words if is_of_others(word)})
    if len(known) == 1:
        return known[0]
    if not known:
        raise BadInput(
            "only the data have an identity",
            hint=f"there is no file {SUFFIX} beside them and no registered server; give one with --set",
        )
    raise BadInput(f"the others do not agree: {', '.join(known)}", hint="choose one with --set")


def new_identity() -> str:
    """Return an identity that no database has."""
    return uuid.uuid4().hex


def write(databases: Databases, name: str, identity: str) -> None:
    """Give a storage an identity; the file beside the data remembers it, too.

    Raises:
        Unavailable: a server has the data open.
        BadInput: that is no identity, or it could not be kept.
    """
    try:
        with _opened(databases, name, read_only=False) as storage:
            give(storage, identity)
    except LockError as exc:
        raise Unavailable(f"another process has the data open: {exc}", hint="stop their server first") from exc


@contextlib.contextmanager
def _without_index_warning() -> Iterator[None]:
    # The index of data that are being served is older than they are, which does no harm to who reads.
    log = logging.getLogger("ZODB.FileStorage")

    def is_news(record: logging.LogRecord) -> bool:
        return "Ignoring index" not in record.getMessage()

    log.addFilter(is_news)
    try:
        yield
    finally:
        log.removeFilter(is_news)


@contextlib.contextmanager
def _opened(databases: Databases, name: str, *, read_only: bool) -> Iterator[Any]:
    with explained(name), _without_index_warning():
        storage = databases.openers[name](read_only)
    try:
        yield storage
    finally:
        storage.close()
