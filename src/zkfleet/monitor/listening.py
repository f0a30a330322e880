"""How is a place listened to, and who may come in there?

The sockets before a loop has them.  A Unix socket's file is readable by its
owner alone from the moment it is there, takes the place of another only if
nobody listens on that one, and is removed by whoever made it, if it is still
the same file.
"""

import contextlib
import errno
import fcntl
import os
import socket
import stat
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from zkfleet.endpoints import Endpoint
from zkfleet.errors import BadAddress, BadInput
from zkfleet.monitor.places import Place, UnixPath
from zkfleet.spelling import get_logger

logger = get_logger(__name__)

BACKLOG = 1024
AT_ONCE = 64
NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
SECONDS_WITHOUT_FILES = 1.0
ROOT = 0
SECONDS_FOR_THE_FOLDER = 1.0


class Taken(OSError):
    """Somebody listens there already."""


def folder() -> Path:
    """Return the directory of this user's sockets, which may not be there.

    Raises:
        BadInput: it is there, and not this user's alone.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    runtime = runtime if os.path.isdir(runtime) else ""
    where = Path(runtime or tempfile.gettempdir()) / ("zkfleet" if runtime else f"zkfleet-{os.geteuid()}")
    try:
        found = where.lstat()
    except FileNotFoundError:
        return where
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise BadInput(f"{where} is not a directory of this user alone", hint=f"chmod 700 {where}, or give an address")
    return where


def default_path() -> str:
    """Return the path of this process's socket in that directory, which is made.

    Raises:
        BadInput: the directory is not ours alone.
    """
    with contextlib.suppress(FileExistsError):
        folder().mkdir(0o700)
    # It is looked at once more: somebody else may have made it meanwhile.
    return str(folder() / f"monitor-{os.getpid()}.sock")


def listen(where: Place) -> socket.socket:
    """Return a socket that listens, does not block and is not inherited by programs.

    Raises:
        Taken: somebody listens there already.
        BadAddress: nobody could.
    """
    try:
        return _listen_unix(where.path) if isinstance(where, UnixPath) else _listen_tcp(where)
    except OSError as exc:
        if isinstance(exc, Taken) or exc.errno == errno.EADDRINUSE:
            raise Taken(errno.EADDRINUSE, f"{where}: somebody listens there already") from exc
        raise BadAddress(f"{where}: {exc.strerror or exc}", hint="name a place of this machine that is yours") from exc


def _listen_tcp(where: Endpoint) -> socket.socket:
    found = socket.getaddrinfo(where.host or None, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # A blank host is all of this machine's addresses: a socket of version 6 takes in those of version 4.
    both = not where.host and socket.has_dualstack_ipv6()
    found.sort(key=lambda one: one[0] != (socket.AF_INET6 if both else socket.AF_INET))
    family, *_, address = found[0]
    listener = socket.create_server(
        address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=both and family == socket.AF_INET6
    )
    listener.setblocking(False)
    return listener


def _listen_unix(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Linux gives the file the mode of the socket; elsewhere it has a
        # moment of the process's umask, and peers are checked by uid anyway.
        os.fchmod(listener.fileno(), 0o600)
        with _alone_in(Path(path).parent):
            _make_way(path)
            listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep others that do the same from looking and removing at the same time."""
    with contextlib.closing(_Folder(folder)) as held:
        deadline = time.monotonic() + SECONDS_FOR_THE_FOLDER
        # Whoever holds it for longer does something else with it: we go on.
        while not held.lock() and time.monotonic() < deadline:
            time.sleep(0.01)
        yield


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._number = os.open(folder, os.O_RDONLY)

    def lock(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self._number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def close(self) -> None:
        os.close(self._number)


def _make_way(path: str) -> None:
    """Remove a socket on which nobody listens.

    Raises:
        Taken: somebody does.
        BadAddress: it is no socket.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise BadAddress(f"{path}: there is something else than a socket", hint="choose another path, or remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.setblocking(False)
        # Whose queue is full is alive, too; only a refusal means that nobody is there.
        if other.connect_ex(path) != errno.ECONNREFUSED:
            raise Taken(errno.EADDRINUSE, f"{path}: somebody listens there")
    os.unlink(path)


def identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from another that takes its place, or None if there is none."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def leave_to_parent(number: int) -> None:
    """In a forked child: close a socket of the parent's here alone, whose number somebody else closes later."""
    if number < 0:
        return  # it is closed
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, number, inheritable=False)
    os.close(nothing)


def may_come_in(peer: socket.socket) -> bool:
    """Tell whether the other end of a Unix socket is this user's, or root's.

    Where the system does not say, the mode of the file alone decides.
    """
    if peer.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
        return True
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return uid in (os.geteuid(), ROOT)


class NoFiles(OSError):
    """The machine has no more files for this process: it may try again in `SECONDS_WITHOUT_FILES`."""


def newcomers(listener: socket.socket) -> Iterator[socket.socket]:
    """Yield connections that wait to be accepted; they do not block.

    Raises:
        NoFiles: one waits, and cannot be had now.
    """
    for _ in range(AT_ONCE):
        try:
            one, _address = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as exc:
            if exc.errno not in NO_FILES:
                raise
            logger.warning("monitor_cannot_accept reason=%s", exc.strerror)
            raise NoFiles(*exc.args) from exc
        one.setblocking(False)
        yield one
