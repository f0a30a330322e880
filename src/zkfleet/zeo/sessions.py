"""Which clients of one process share a session with ZooKeeper?

Those that were opened by the same connection string and timeout.  The first one
connects, the others take its registry, and the last one that closes ends the
session.  A registry that the caller gave is not here; nor is one of a parent
process: a forked child begins with none.
"""

import os
import threading
from dataclasses import dataclass, field

from zkfleet.errors import ConnectFailed
from zkfleet.registry import Registry, connect
from zkfleet.registry.hosts import choose_hosts
from zkfleet.registry.refusals import NOT_RUNNING

Key = tuple[str, float]
WAIT = "is it running there?  wait_timeout is for how many seconds a client waits for it, wait-timeout in a file"
GIVE = "is it a ZooKeeper?  if that port wants TLS, open a registry with tls= and give it to zkfleet.zeo.DB"


@dataclass(eq=False, slots=True)
class Shared:
    """A session, and how many use it.

    Attributes:
        key: the connection string and the timeout.
        users: those who have it, and those who wait for it; guarded by the lock of all.
        registry: None until somebody has connected.
        connecting: held by the one who connects; the others wait for it.
    """

    key: Key
    users: int = 0
    registry: Registry | None = None
    connecting: threading.Lock = field(default_factory=threading.Lock)

    def close(self) -> None:
        """Give it back; the last one ends the session."""
        with _lock:
            if _shared.get(self.key) is not self:
                return  # it is the parent's
            self.users -= 1
            if self.users:
                return
            del _shared[self.key]
        if self.registry is not None:
            self.registry.close()


_lock = threading.Lock()
_shared: dict[Key, Shared] = {}


def share(hosts: str | None, *, timeout: float) -> tuple[Registry, Shared]:
    """Return a registry that others may use, too, and what gives it back.

    Args:
        hosts: a connection string; None for the default.
        timeout: seconds that connecting may take, and any later request.

    Raises:
        ConnectFailed and others as `zkfleet.connect`; who waited for the one that
            failed tries it anew.
    """
    key = (choose_hosts(hosts), timeout)
    with _lock:
        shared = _shared.setdefault(key, Shared(key))
        shared.users += 1
    try:
        with shared.connecting:
            # Somebody may have closed all registries of the process.
            if shared.registry is None or not shared.registry.is_open:
                shared.registry = connect(hosts, timeout=timeout)
            return shared.registry, shared
    except ConnectFailed as exc:
        shared.close()
        # `connect` names options that a client, its URI and its section do not have.
        exc.hint = WAIT if exc.hint == NOT_RUNNING else GIVE
        raise
    except BaseException:
        shared.close()
        raise


def _after_fork() -> None:
    global _lock, _shared
    _lock, _shared = threading.Lock(), {}


os.register_at_fork(after_in_child=_after_fork)
