"""Where is a dev server's text kept between its runs, and who may write there?

A file that one server at a time holds: it has the lock of the file, and hands
it on to each new file that takes the old one's place.  What is beside the file
is left alone.  What the text says is `snapshot`'s, when it is written `saving`'s.
"""

import contextlib
import fcntl
import os
import stat
import tempfile
from pathlib import Path

from zkfleet.errors import BadInput

_HINT = "name a file of its own, or a new one"


class DataFile:
    """One file by its name; a link to it stays one.

    Args:
        path: it is made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._handle = -1
        self._seen: tuple[int, int, int] | None = None

    def hold(self) -> bool:
        """Make the file if there is none, and keep others off; returns whether it holds anything.

        Raises:
            BadInput: it cannot be had, another server holds it, or one has written to it since this one did.
        """
        try:
            handle = self._open_and_lock()
        except BlockingIOError as exc:
            raise BadInput(f"{self.path}: another dev server uses it", hint=_HINT) from exc
        except OSError as exc:
            raise BadInput(f"{self.path}: {exc.strerror}", hint="name a file in a folder that may be written") from exc
        found = _identity(handle)
        if self._seen is not None and found[-1] and found != self._seen:
            os.close(handle)
            raise BadInput(f"{self.path}: another dev server has written to it since", hint="make a new server of it")
        self._handle = handle
        return found[-1] > 0

    def _open_and_lock(self) -> int:
        while True:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    raise OSError(0, "it is no plain file")
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.stat(self.path).st_ino == os.fstat(handle).st_ino:
                    return handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)  # another file took its place meanwhile

    def release(self) -> None:
        """Let others have the file.  Twice is fine."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            fcntl.flock(handle, fcntl.LOCK_UN)  # for a forked child has it open, too
            os.close(handle)

    def read(self) -> str:
        """Return what the file holds, which is held.

        Raises:
            BadInput: it cannot be read, or is no text.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except OSError as exc:
            raise BadInput(f"{self.path}: {exc.strerror}", hint=_HINT) from exc
        except UnicodeError as exc:
            raise BadInput(f"{self.path}: no snapshot of a dev server: it is no text", hint=_HINT) from exc
        self._seen = _identity(self._handle)
        return text

    def write(self, text: str) -> None:
        """Put a text in the place of what the file holds, as a whole or not at all; raises `OSError`."""
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            os.fchmod(handle, stat.S_IMODE(os.fstat(self._handle).st_mode))
            with open(handle, "w", encoding="utf-8", closefd=False) as stream:
                stream.write(text)
                stream.flush()
                os.fsync(handle)
            os.replace(name, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            os.close(handle)
            raise
        self.release()
        self._handle, self._seen = handle, _identity(handle)


def _identity(handle: int) -> tuple[int, int, int]:
    found = os.fstat(handle)
    return found.st_ino, found.st_mtime_ns, found.st_size
