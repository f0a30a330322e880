"""Is a blob that came over a connection whole?

A server sends a blob in pieces, between a start and a stop, and then answers the
request for it.  ZEO appends the pieces to whatever an earlier download left
behind, and goes on after a piece that could not be written.  Here a download
begins with an empty file.  Its file gets the blob's name only with the server's
answer, if all was written and the size is the one that the server says.

All on the thread of ZEO's loop, for a `Link`.  One process at a time downloads a
blob: ZEO has a lock for that.
"""

import contextlib
import os
import stat
from collections.abc import Callable
from typing import IO

from ZEO.Exceptions import ClientDisconnected

NEEDS = (
    "ZEO.ClientStorage:ClientStorage._check_blob_size(bytes)",
    "ZEO.ClientStorage:ClientStorage.__init__ sets _blob_data_bytes_loaded, fshelper",
    "ZEO.ClientStorage:ClientStorage.receiveBlobChunk(oid, serial, chunk)",
    "ZEO.ClientStorage:ClientStorage.receiveBlobStart(oid, serial)",
    "ZEO.ClientStorage:ClientStorage.receiveBlobStop(oid, serial)",
    "ZEO.StorageServer:ZEOStorage.sendBlob(oid, serial)",
)
UNFINISHED = ".dl"


class Download:
    """A blob that is on its way.

    Args:
        path: where it belongs.
    """

    def __init__(self, path: str) -> None:
        self._path, self._draft = path, path + UNFINISHED
        self._file: IO[bytes] | None = None
        self._error: OSError | None = None
        self._is_over = False
        self._write_or_note(self._begin)

    def _begin(self) -> None:
        self._file = open(self._draft, "wb")  # noqa: SIM115  it stays open from message to message

    def add(self, chunk: bytes) -> None:
        """Add a piece."""
        if self._file is not None:
            self._write_or_note(self._file.write, chunk)

    def end(self) -> None:
        """Take note that there are no more pieces."""
        self._is_over = True
        self._write_or_note(self._close)

    # What fails here is for whoever asked for the blob: the connection is all right.
    def _write_or_note(self, function: Callable[..., object], *arguments: bytes) -> None:
        if self._error is None:
            try:
                function(*arguments)
            except OSError as exc:
                self._error = exc

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    def finish(self, size: int | None) -> None:
        """Give the blob its name.

        Args:
            size: what the server says, in bytes; None if it says nothing.

        Raises:
            OSError: it could not be written, such as on a full disk.
            ClientDisconnected: it is not whole; another try may get it.
        """
        if self._error is not None:
            raise self._error
        found = os.path.getsize(self._draft)
        if not self._is_over or size not in (None, found):
            said = f"{size} bytes" if size is not None else "an unknown number of bytes"
            raise ClientDisconnected(f"the blob {self._path!r} is not whole: {found} bytes came of {said}")
        # First, since nobody may write to what has the name.
        os.chmod(self._draft, stat.S_IREAD)
        os.rename(self._draft, self._path)

    def drop(self) -> None:
        """Remove what there is of it."""
        with contextlib.suppress(OSError):  # what cannot be written need not be said again
            self._close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._draft)


class Downloads:
    """The blobs that are on their way to a client.

    Args:
        path_of: where the blob of an object id and a serial belongs.
        note: is told how many bytes came.
    """

    def __init__(self, path_of: Callable[[bytes, bytes], str], note: Callable[[int], None]) -> None:
        self._path_of, self._note = path_of, note
        self._under_way: dict[tuple[bytes, bytes], Download] = {}

    def start(self, oid: bytes, serial: bytes) -> None:
        """Begin with an empty file, whatever an earlier download left."""
        self.drop(oid, serial)
        self._under_way[oid, serial] = Download(self._path_of(oid, serial))

    def add(self, oid: bytes, serial: bytes, chunk: bytes) -> None:
        """Add a piece."""
        if download := self._under_way.get((oid, serial)):
            download.add(chunk)
            self._note(len(chunk))

    def stop(self, oid: bytes, serial: bytes) -> None:
        """Take note that all pieces came."""
        if download := self._under_way.get((oid, serial)):
            download.end()

    def finish(self, oid: bytes, serial: bytes, size: int | None) -> None:
        """Give a blob its name, if it is whole; else raise what `Download.finish` does."""
        if download := self._under_way.get((oid, serial)):
            download.finish(size)
            del self._under_way[oid, serial]

    def drop(self, oid: bytes, serial: bytes) -> None:
        """Remove what there is of a blob that did not become whole."""
        if download := self._under_way.pop((oid, serial), None):
            download.drop()
