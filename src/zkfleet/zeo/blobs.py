"""Is the folder that a client has for blobs its server's, as it says?

A client with `shared_blob_dir` reads and writes files that its server has
under other names of the same folder, or on another machine.  So a server of
ours puts a token into the folder, once, and tells it to clients: who finds
another one there, or none, has another folder.  It works over NFS, whatever the
folder is called on either side.  A plain ZEO server has no token: of its folder
it is only known that it has a layout.
"""

import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from ZODB.blob import LAYOUT_MARKER

from zkfleet.errors import BadInput
from zkfleet.spelling import get_logger

logger = get_logger(__name__)

MARK = ".zkfleet"
LAYOUT_OF_CACHES = "zeocache"


def token_of(storage: Any) -> str:
    """Return the token in the folder of a storage's blobs; "" if there is no such folder, or it takes none.

    The first one to ask makes it.
    """
    helper = getattr(storage, "fshelper", None)
    folder, layout = getattr(helper, "base_dir", None), getattr(helper, "layout_name", LAYOUT_OF_CACHES)
    if not folder or layout == LAYOUT_OF_CACHES:
        return ""
    file = Path(folder) / MARK
    try:
        if not file.exists():
            _write(file, uuid.uuid4().hex)
        return _read(file)
    except OSError as exc:  # clients are to be served all the same
        logger.info("blob_folder_without_token folder=%s reason=%s", file.parent, exc)
        return ""


def _write(file: Path, token: str) -> None:
    """Write a token whole, unless another server was faster."""
    draft = file.with_name(f"{MARK}.{token}")
    try:
        draft.write_text(token + "\n", encoding="ascii")
        with suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink(missing_ok=True)


def _read(file: Path) -> str:
    return file.read_text(encoding="ascii", errors="replace").strip()


# -- in clients


def check_own(folder: str, *, shared: bool) -> None:
    """See to it that a folder that is there is what a client says that it is, before there is a server.

    Raises:
        BadInput: it is none.
    """
    layout = _layout(folder)
    if shared and layout == LAYOUT_OF_CACHES:
        raise BadInput(
            f"shared_blob_dir: the folder {folder!r} is a client's cache of blobs, and no server's folder",
            hint="name the server's folder as blob_dir, or leave shared_blob_dir out",
        )
    if not shared and layout not in ("", LAYOUT_OF_CACHES):
        raise BadInput(
            f"blob_dir: the folder {folder!r} is a server's, and no cache of blobs",
            hint="name a folder of its own, or say shared_blob_dir=True if it is this server's",
        )


def check_shared(folder: str, token: str, *, server: str) -> bool:
    """See to it that a client's shared folder is its server's.

    Args:
        folder: the client's.
        token: what the server says; "" if it says nothing.
        server: its name, for errors.

    Returns:
        Whether that is known.

    Raises:
        BadInput: it is another one.
    """
    if not Path(folder).is_dir():
        problem = "there is no such folder"
    elif not _layout(folder):
        problem = "no server has stored blobs there"
    elif token and not (found := _token(folder)):
        problem = "the server's folder has a file .zkfleet, and this one has none"
    elif token and found != token:
        problem = f"its file .zkfleet has {found}, and the server's has {token}"
    else:
        return bool(token)
    raise BadInput(
        f"{server}: blob_dir {folder!r} is not the folder of this server: {problem}",
        hint="name the folder of the server's blob-dir as it is called here, or leave shared_blob_dir out",
    )


def _token(folder: str) -> str:
    with suppress(FileNotFoundError):
        return _read(Path(folder) / MARK)
    return ""


def _layout(folder: str) -> str:
    """Return how a folder of blobs is laid out, "" if it is none."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return _read(Path(folder) / LAYOUT_MARKER)
    return ""
