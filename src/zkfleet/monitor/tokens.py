"""Where is a token kept?

In a file that its owner alone can read: a command line and a configuration are
read by more people than may ask.
"""

import os
import stat

from zkfleet.errors import BadInput
from zkfleet.monitor.places import check_token

ROOT = 0
MOST = 8 << 10
"""Characters that are read of it."""


def token_in(file: str, what: str = "token") -> str:
    """Return the one word in a file; `what` says in errors what it is.

    Raises:
        BadInput: it cannot be read, others may read it, or it holds something else than one word.
    """
    try:
        with open(file, encoding="utf-8", opener=_without_waiting) as opened:
            _check_private(file, what, os.fstat(opened.fileno()))
            token = opened.read(MOST).strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInput(f"{file}: no {what} can be read: {exc}", hint="put one word there") from exc
    if not token:
        raise BadInput(f"{file}: there is no {what} in it", hint="put one word there")
    try:
        check_token(token)
    except BadInput as exc:
        raise BadInput(f"{file}: {exc}", hint=exc.hint) from exc
    return token


def _without_waiting(file: str, flags: int) -> int:
    # A pipe that nobody writes to would otherwise be waited for.
    return os.open(file, flags | os.O_NONBLOCK)


def _check_private(file: str, what: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise BadInput(f"{file}: it is no file with a {what} in it", hint="put one word into a plain file")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise BadInput(f"{file}: others than its owner may use it", hint=f"chmod 600 {file}, and choose another {what}")
    if found.st_uid not in (os.geteuid(), ROOT):
        raise BadInput(f"{file}: it is another user's", hint="let it belong to the user of this process")
