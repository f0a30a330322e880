"""When is the dev server's state saved, and what if it cannot be?

Every few seconds if something was written, and at the end.  A disk that is
full is told of once, and tried again.  What is written is `snapshot`'s.
"""

import logging
from pathlib import Path

from zkfleet.devserver import snapshot
from zkfleet.devserver.database import Database
from zkfleet.devserver.sessions import Sessions
from zkfleet.errors import BadInput

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_SAVES = 5.0


class Saver:
    """Keeps znodes and sessions in a file, or nowhere if that is None."""

    def __init__(self, file: Path | None, database: Database, sessions: Sessions) -> None:
        self._file, self._database, self._sessions = file, database, sessions
        self._saved_zxid = -1
        self._due = 0.0
        self._fails = False

    def load(self, *, now: float) -> None:
        """Put what an earlier run saved into the empty database and session table; make the file if there is none.

        Raises:
            BadInput: it cannot be read or made, or is no snapshot.
        """
        if self._file is None:
            return
        text = snapshot.read(self._file)
        if text is not None:
            snapshot.load(text, self._database, self._sessions, now=now, source=str(self._file))
            return
        try:
            snapshot.write(self._file, snapshot.dump(self._database, self._sessions))
        except OSError as exc:
            raise BadInput(f"{self._file}: {exc.strerror}", hint="name a file in a folder that may be written") from exc

    def tick(self, now: float) -> None:
        """Save if it is time to."""
        if now >= self._due:
            self._due = now + SECONDS_BETWEEN_SAVES
            self.save()

    def save(self) -> None:
        """Save if something was written since the last time."""
        zxid = self._database.zxid
        if self._file is None or zxid == self._saved_zxid:
            return
        try:
            snapshot.write(self._file, snapshot.dump(self._database, self._sessions))
        except OSError as exc:
            # It is tried again and again, and told once.
            if not self._fails:
                logger.error("devserver_not_saved file=%s reason=%s", self._file, exc)
            self._fails = True
            return
        self._saved_zxid = zxid
        if self._fails:
            logger.info("devserver_saved_again file=%s", self._file)
            self._fails = False
