"""Who may be connected to a ZEO server?

So many that files are left for the storages, for the registry and for a person
who looks what is the matter.  When there is no room, the oldest connection makes
room whose client has not registered: nobody stays in by saying nothing.

Everything is done on the server's loop.
"""

import asyncio
import logging
import os
import resource
import socket
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from zkfleet.spelling import get_logger
from zkfleet.zeo.connections import Connection

if TYPE_CHECKING:
    from zkfleet.zeo.storage_server import RepairedServer

logger = get_logger(__name__)

# Files kept back for all that is no client.
KEPT = 128
DEFAULT_MOST = 10_000
FEWEST = 8
TELL_AGAIN = 30.0


def most_connections(wanted: int | None) -> int:
    """Return how many clients may be connected: as many as is wished, if the process may open so many files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = room_for(wanted, files=soft, opened=len(os.listdir("/dev/fd")))
    if wanted is not None and most < wanted:
        logger.warning(
            "connections_limited most=%d wanted=%d open_files=%d: raise the limit of open files", most, wanted, soft
        )
    return most


def room_for(wanted: int | None, *, files: int, opened: int) -> int:
    """Return how many connections there may be; pure.

    Args:
        wanted: by the configuration, or None.
        files: that the process may have open; negative without a bound.
        opened: that it has open.
    """
    most = DEFAULT_MOST if wanted is None else wanted
    return most if files < 0 else min(most, max(files - opened - min(KEPT, files // 4), FEWEST))


class Room:
    """Makes room for connections.

    Args:
        most: how many there may be.
    """

    def __init__(self, most: int, loop: asyncio.AbstractEventLoop) -> None:
        self.most = most
        self._loop = loop
        self._refused, self._tell_at = 0, loop.time()

    def make(self, connections: Collection[Connection]) -> bool:
        """Tell whether there is room for one more, once a silent one has gone if need be."""
        if len(connections) < self.most:
            return True
        silent = min((one for one in connections if not one.has_registered), key=lambda one: one.number, default=None)
        self._refused += 1
        if self._loop.time() >= self._tell_at:
            self._tell_at = self._loop.time() + TELL_AGAIN
            logger.warning(
                "connections_refused most=%d refused=%d: raise max-connections and the limit of open files,"
                " or find out who opens so many",
                self.most,
                self._refused,
            )
        if silent is None:
            return False
        silent.drop()
        silent.leave()
        return True


class Encrypted(asyncio.Protocol):
    """An accepted connection that is to speak TLS, which is counted, and has a deadline, before it does."""

    def __init__(self, server: "RepairedServer", connection: Connection, tls: Any) -> None:
        self._server, self._connection, self._tls = server, connection, tls

    def connection_made(self, transport: Any) -> None:
        """Go on with a transport that encrypts, and this one's socket."""
        if self._connection.arrive(transport.get_extra_info("peername")):
            accepted = transport.get_extra_info("socket").dup()
            task = self._server.event_loop.create_task(self._encrypt(accepted))
            task.add_done_callback(lambda _task: self._done(accepted))
            self._connection.encrypting = task
        # Of it goes nothing but its socket's other descriptor: nothing has been read.
        transport.abort()

    async def _encrypt(self, accepted: socket.socket) -> None:
        loop, connection = self._server.event_loop, self._connection
        seconds = self._server.handshake_timeout
        try:
            await loop.connect_accepted_socket(
                lambda: connection, accepted, ssl=self._tls, ssl_handshake_timeout=seconds
            )
        except OSError as exc:
            # A health check that only looks whether somebody listens does not begin to speak TLS.
            level = logging.DEBUG if isinstance(exc, ConnectionError) else logging.INFO
            logger.log(level, "tls_failed peer=%s reason=%s", connection.name, exc)

    def _done(self, accepted: socket.socket) -> None:
        # The task may have been cancelled before it began.
        self._connection.encrypting = None
        if self._connection.connected is None:
            accepted.close()
            self._connection.leave()
