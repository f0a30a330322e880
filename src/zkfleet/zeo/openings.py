"""Why does a storage not open, and what can be done about it?

Storages raise what they like.  Here it becomes an error that names the storage,
the file and a remedy.  That another process has the file passes as it is: among
standbys it is no error.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from zc.lockfile import LockError
from ZODB.FileStorage.FileStorage import FileStorageError, FileStorageFormatError
from ZODB.POSException import POSError

from zkfleet.errors import BadInput, Unavailable, ZkfleetError
from zkfleet.spelling import get_logger

logger = get_logger(__name__)
PATH_HINT = "is the path in the configuration right?"
DAMAGED = "restore it from a backup, or see what `python -m ZODB.scripts.fstest FILE` and `... fsrecover` find"
FILESTORAGE, TEXT = b"FS30", "a text"
# How files of other kinds begin.
KINDS = {
    b"\x1f\x8b": ("compressed by gzip", "unpack it with gunzip"),
    b"BZh": ("compressed by bzip2", "unpack it with bunzip2"),
    b"\xfd7zXZ": ("compressed by xz", "unpack it with unxz"),
    b"PK": ("a zip archive", "unpack it"),
    b"SQLite format 3": ("a database of SQLite", "use RelStorage's <relstorage> for it"),
    b"FS21": ("a FileStorage of Python 2", "convert it with zodbupdate, or zodb-py3migrate"),
    FILESTORAGE: ("a FileStorage", DAMAGED),
}
HINTS = {
    errno.EISDIR: "it is a directory: name the file in it",
    errno.ENOTDIR: "it, or what leads to it, is a file where there must be a directory",
    errno.ENOENT: f"{PATH_HINT} The directory must exist",
    errno.EROFS: "its file system is read-only: mount it otherwise, or use read-only in the storage's section",
    errno.ENOSPC: "its disk is full",
}


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Have what goes wrong while a storage is opened be an error with a remedy.

    Raises:
        BadInput: the file is none that the storage can use; trying again does not help.
        Unavailable: it cannot be opened now.
        LockError: another process has it (`zc.lockfile`).
    """
    try:
        yield
    except (ZkfleetError, LockError):
        raise
    except FileStorageFormatError as exc:
        raise _no_filestorage(name, str(exc)) from exc
    except OSError as exc:
        where = f"{exc.filename}: " if exc.filename else ""
        raise Unavailable(f"storage {name!r}: {where}{exc.strerror or exc}", hint=_hint(exc)) from exc
    except (FileStorageError, POSError) as exc:
        raise BadInput(f"storage {name!r}: {type(exc).__name__}: {exc}", hint=DAMAGED) from exc
    except Exception as exc:
        # Nobody knows it: who looks for its reason needs all there is.
        logger.exception("storage_not_opened name=%s", name)
        raise Unavailable(
            f"storage {name!r} does not open: {type(exc).__name__}: {exc}", hint="the log has the traceback"
        ) from exc


def check_blobs(name: str, opener: Callable[[], object]) -> None:
    """See that no folder of blobs is lost because the data that it belongs to are not there.

    A FileStorage that makes a new file empties the folder for its blobs: whatever
    lies there when a disk is not mounted, or a backup is half restored.

    Raises:
        BadInput: it would be emptied, and `create` does not ask for that.
    """
    for config in sections_of(opener):
        file, blobs = getattr(config, "path", None), getattr(config, "blob_dir", None)
        if not (isinstance(file, str) and isinstance(blobs, str)) or getattr(config, "create", False):
            continue
        if not os.path.exists(file) and os.path.isdir(blobs) and os.listdir(blobs):
            raise BadInput(
                f"storage {name!r}: there is no file {file}, but {blobs} has blobs, which a new file would delete",
                hint="mount or restore the file that they belong to, or move them away",
            )


def sections_of(opener: Callable[[], object]) -> Iterator[Any]:
    """Yield ZConfig's values of the section that a storage is opened by, and of those in it."""
    yield from _sections(getattr(opener, "__self__", None))


def _sections(section: object) -> Iterator[Any]:
    config = getattr(section, "config", None)
    if config is None:
        return
    yield config
    # `base` is that of storages around another one, `factories` those of a <demostorage>.
    for inner in (getattr(config, "base", None), *getattr(config, "factories", ())):
        yield from _sections(inner)


def _no_filestorage(name: str, file: str) -> BadInput:
    kind, hint = kind_of(_head(file))
    return BadInput(f"storage {name!r}: {file} is no FileStorage: it is {kind}", hint=hint)


def _head(file: Path | str) -> bytes:
    with suppress(OSError), Path(file).open("rb") as opened:
        return opened.read(16)
    return b""


def no_text(file: Path | str, wanted: str = "configuration") -> BadInput:
    """Return an error about a file that is read as a configuration, and that is no text in UTF-8.

    Args:
        file: its path.
        wanted: what it should be.
    """
    head = _head(file)
    if head.startswith(FILESTORAGE):
        return BadInput(f"{file} is no {wanted}: it is a FileStorage", hint="serve it with -f FILE, without -C")
    kind, hint = kind_of(head)
    if kind == TEXT:
        return BadInput(f"{file}: it, or a file that it includes, is no text in UTF-8", hint="save it as UTF-8")
    return BadInput(f"{file} is no {wanted}: it is {kind}", hint=hint)


def kind_of(head: bytes) -> tuple[str, str]:
    """Return what a file is by its first bytes, and what to do with it; pure."""
    for sign, kind in KINDS.items():
        if head.startswith(sign):
            return kind
    if len(head) < len(FILESTORAGE):
        return f"{len(head)} bytes long", f"{PATH_HINT} If the file was cut short, restore it from a backup"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return TEXT, PATH_HINT
    return f"of an unknown kind, beginning with {head[:4]!r}", f"{PATH_HINT} Else restore it from a backup"


def _hint(exc: OSError) -> str:
    if exc.errno in (errno.EACCES, errno.EPERM):
        return f"the server runs with uid {os.geteuid()}: let that user read and write it"
    return HINTS.get(exc.errno or 0, PATH_HINT)
