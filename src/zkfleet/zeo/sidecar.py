"""Which identity is in the file beside a FileStorage's file?

The file is for data that are read-only.  It counts only for the data that it was
written for: it names a transaction, which they must have.  Files of an earlier
zkfleet name none.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zkfleet.spelling import get_logger

logger = get_logger(__name__)
SUFFIX = ".zkfleet"


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a file remembers.

    Attributes:
        database: the identity, or "".
        tid: the last transaction of the data when it was written, 16 hex digits; "" if it does not say.
    """

    database: str = ""
    tid: str = ""


class Sidecar:
    """A file beside a FileStorage's."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def of(cls, storage: Any) -> "Sidecar | None":
        """Return that of a storage, if it keeps its data in one file."""
        file = getattr(storage, "_file_name", None)
        return cls(Path(file + SUFFIX)) if isinstance(file, str) else None

    def read(self) -> Remembered:
        """Return what it says."""
        try:
            said = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return Remembered()
        except (OSError, ValueError) as exc:
            logger.warning("identity_not_read file=%s reason=%s", self._path, exc)
            return Remembered()
        found = said if isinstance(said, dict) else {}
        database, tid = found.get("database"), found.get("tid")
        return Remembered(database if isinstance(database, str) else "", tid if isinstance(tid, str) else "")

    def write(self, remembered: Remembered) -> bool:
        """Write it as a whole or not at all, and tell whether it was done."""
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        said = {"database": remembered.database, "tid": remembered.tid}
        try:
            try:
                draft.write_text(json.dumps(said) + "\n")
                draft.replace(self._path)
            except OSError:
                with suppress(OSError):
                    draft.unlink(missing_ok=True)
                raise
        except OSError as exc:
            logger.info("identity_not_written file=%s reason=%s", self._path, exc)
            return False
        return True

    def __str__(self) -> str:
        return str(self._path)
