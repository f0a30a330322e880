"""How is a link broken without touching either end?

A relay on loopback between a client and one server: it passes bytes on until
it is told to cut its connections or to swallow what they carry.
"""

import contextlib
import selectors
import socket
import threading
from typing import Self

CHUNK = 65536


class Proxy:
    """Relays connections from a port of its own to a target.

    Args:
        target: the port on loopback to relay to.

    Attributes:
        swallowed: how many bytes were lost by `swallow`.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        self._refusing = False
        self._swallowing = frozenset[int]()
        self.swallowed = 0
        self._stopped = False
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    @property
    def hosts(self) -> str:
        """The relay's address as a connection string."""
        return f"127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Close all connections; new ones are taken, and nothing is swallowed any more."""
        self._swallowing = frozenset()
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._close(pair)

    def refuse(self) -> None:
        """Close all connections, and new ones at once, until `heal`."""
        self._refusing = True
        self.cut()

    def black_hole(self) -> None:
        """Keep connections open and pass nothing on until `heal`."""
        self._open.clear()

    def swallow(self, *, requests: bool = False, replies: bool = False) -> None:
        """Keep connections open, and lose what goes to the target, or what comes from it, until `cut`."""
        self._swallowing = frozenset(end for end, lost in ((0, requests), (1, replies)) if lost)

    def heal(self) -> None:
        """Pass everything on again; connections that lost something are closed."""
        if self._swallowing:
            self.cut()
        self._refusing = False
        self._open.set()

    def stop(self) -> None:
        """Close everything."""
        self._stopped = True
        self._open.set()
        # Closing a listener does not wake the thread that accepts on it.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _accept(self) -> None:
        while not self._stopped:
            try:
                client, _ = self._listener.accept()
                if self._refusing:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = (client, server)
            with self._lock:
                self._pairs.add(pair)
            threading.Thread(target=self._relay, args=(pair,), name="proxy", daemon=True).start()

    def _relay(self, pair: tuple[socket.socket, socket.socket]) -> None:
        other = {pair[0]: pair[1], pair[1]: pair[0]}
        side = {pair[0]: 0, pair[1]: 1}
        with contextlib.suppress(OSError, ValueError, KeyError), selectors.DefaultSelector() as selector:
            for end in pair:
                selector.register(end, selectors.EVENT_READ)
            while not self._stopped:
                for key, _ in selector.select(0.5):
                    data = key.fileobj.recv(CHUNK)  # type: ignore[union-attr]
                    self._open.wait()
                    if not data:
                        raise OSError("closed")
                    if side[key.fileobj] in self._swallowing:  # type: ignore[index]
                        self.swallowed += len(data)
                    else:
                        other[key.fileobj].sendall(data)  # type: ignore[index]
        self._close(pair)

    def _close(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            self._pairs.discard(pair)
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
