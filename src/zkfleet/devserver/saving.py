"""When is the dev server's state saved, and what if it cannot be?

Every few seconds if something was written, and at the end.  A disk that is
full is told of once, and tried again.  What is written is `snapshot`'s, where
it goes `datafile`'s.
"""

from zkfleet.devserver import snapshot
from zkfleet.devserver.database import Database
from zkfleet.devserver.datafile import DataFile
from zkfleet.devserver.sessions import Sessions
from zkfleet.errors import BadInput
from zkfleet.spelling import get_logger

logger = get_logger(__name__)

SECONDS_BETWEEN_SAVES = 5.0


class Saver:
    """Keeps znodes and sessions in a file, or nowhere if that is None."""

    def __init__(self, file: DataFile | None, database: Database, sessions: Sessions) -> None:
        self._file, self._database, self._sessions = file, database, sessions
        self._saved_zxid = -1
        self._due = 0.0
        self._fails = False

    def load(self, *, now: float) -> None:
        """Put what an earlier run saved into the empty database and session table; an empty file gets them.

        Raises:
            BadInput: it cannot be read or written, or is no snapshot.
        """
        if self._file is None:
            return
        self._file.hold()
        try:
            text = self._file.read()
            if text:
                snapshot.load(text, self._database, self._sessions, now=now, source=str(self._file.path))
            self.save()
        except OSError as exc:
            raise BadInput(
                f"{self._file.path}: {exc.strerror}", hint="name a file in a folder that may be written"
            ) from exc
        finally:
            self._file.release()

    def begin(self) -> None:
        """Keep others off the file until `end`.

        Raises:
            BadInput: it cannot be had.
        """
        if self._file is not None and not self._file.hold():
            self._saved_zxid = -1  # somebody took it away

    def end(self) -> None:
        """Let others have the file."""
        if self._file is not None:
            self._file.release()

    def tick(self, now: float) -> None:
        """Save if it is time to; what fails is told once, and tried again and again."""
        if now < self._due:
            return
        self._due = now + SECONDS_BETWEEN_SAVES
        try:
            self.save()
        except OSError as exc:
            if not self._fails:
                logger.error("devserver_not_saved file=%s reason=%s", self._file and self._file.path, exc)
            self._fails = True

    def save(self) -> None:
        """Save if something was written since the last time.

        Raises:
            OSError: it could not be; the file holds what it held.
        """
        zxid = self._database.zxid
        if self._file is None or zxid == self._saved_zxid:
            return
        self._file.write(snapshot.dump(self._database, self._sessions))
        self._saved_zxid = zxid
        if self._fails:
            logger.info("devserver_saved_again file=%s", self._file.path)
            self._fails = False
