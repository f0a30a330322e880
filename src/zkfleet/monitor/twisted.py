"""The Twisted door: a monitor in a reactor.

    monitor.start(8080, door=zkfleet.monitor.twisted.in_reactor())

A front door of its own, so that Twisted loads only for those who ask.
"""

import socket
import ssl
from collections.abc import Callable
from typing import Any

from zkfleet.errors import MissingDependency
from zkfleet.monitor.listening import SECONDS_WITHOUT_FILES, NoFiles, leave_to_parent, may_come_in, newcomers
from zkfleet.monitor.opening import Opener
from zkfleet.monitor.running import Running
from zkfleet.monitor.talking import Speak, Switchboard, Talk
from zkfleet.monitor.tunnel import Tunnel
from zkfleet.spelling import get_logger

try:
    from twisted.internet import interfaces, protocol
    from zope.interface import implementer
except ImportError as exc:
    raise MissingDependency("this door stands on Twisted", hint="pip install 'zkfleet[twisted]'") from exc

logger = get_logger(__name__)

SECONDS_FOR_LAST_WORDS = 1.0
SECONDS_FOR_A_HANDSHAKE = 10.0


def in_reactor(reactor: Any = None) -> Opener:
    """Return what opens a monitor in a reactor, for `start(door=...)`.

    Args:
        reactor: on whose thread the monitor is started and closed; None for the global one.
    """

    def open_door(listener: socket.socket, running: Running, speak: Speak, tls: ssl.SSLContext | None) -> InReactor:
        return InReactor(reactor or _global_reactor(), listener, running, speak, tls)

    return open_door


def _global_reactor() -> Any:
    from twisted.internet import reactor

    return reactor


class InReactor:
    """A monitor in a reactor that somebody else runs; to be closed on the reactor's thread."""

    def __init__(
        self,
        reactor: Any,
        listener: socket.socket,
        running: Running,
        speak: Speak,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.board = Switchboard(running, ReactorClock(reactor), speak)
        self._reactor, self._factory = reactor, Factory(self.board, tls)
        self._listener = Listener(reactor, listener, self._factory)

    def listen_at(self, listener: socket.socket) -> None:
        """Let clients in there from now on."""
        self._listener.close()
        self._listener = Listener(self._reactor, listener, self._factory)

    def close(self) -> None:
        """Let nobody in any more, and break all connections."""
        self._listener.close()
        for one in list(self._factory.handshakes):
            one.abort()
        self.board.close()

    def leave_to_parent(self) -> None:
        """In a forked child: keep no connection of the parent's open."""
        for one in self._factory.handshakes:
            one.leave_to_parent()
        self.board.leave_to_parent()


@implementer(interfaces.IReadDescriptor)
class Listener:
    """Accepts for a reactor.

    Twisted's own port of a Unix socket would remove the file, whosever it is by then.
    """

    def __init__(self, reactor: Any, listener: socket.socket, factory: "Factory") -> None:
        self._reactor, self._socket, self._factory = reactor, listener, factory
        self._is_open = True
        reactor.addReader(self)

    def close(self) -> None:
        """Accept nobody any more."""
        self._is_open = False
        self._reactor.removeReader(self)

    def fileno(self) -> int:
        """Return what the reactor watches."""
        return self._socket.fileno()

    def logPrefix(self) -> str:  # noqa: N802  Twisted's name
        """Return a name for Twisted's log."""
        return "zkfleet-monitor"

    def doRead(self) -> None:  # noqa: N802  Twisted's name
        """Accept who waits."""
        try:
            for one in newcomers(self._socket):
                with one:  # Twisted makes itself a copy
                    self._reactor.adoptStreamConnection(one.fileno(), one.family, self._factory)
        except NoFiles:
            self._reactor.removeReader(self)
            self._reactor.callLater(SECONDS_WITHOUT_FILES, self._accept_again)

    def _accept_again(self) -> None:
        if self._is_open:
            self._reactor.addReader(self)

    def connectionLost(self, _reason: object) -> None:  # noqa: N802  Twisted's name
        """Nothing: the reactor ends."""


class ReactorClock:
    """The clock of a reactor."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.now: Callable[[], float] = reactor.seconds

    def later(self, seconds: float, function: Callable[[], None]) -> Callable[[], object]:
        """Call a function after some seconds."""
        planned = self._reactor.callLater(seconds, function)
        return lambda: planned.cancel() if planned.active() else None

    def from_thread(self, function: Callable[[], None]) -> None:
        """Call a function on the reactor's thread."""
        self._reactor.callFromThread(function)


class Factory(protocol.Factory):
    """Makes a connection of a switchboard of each that comes."""

    noisy = False

    def __init__(self, board: Switchboard, tls: ssl.SSLContext | None = None) -> None:
        self.board, self.tls = board, tls
        self.handshakes: set[Encrypted] = set()

    def buildProtocol(self, _addr: object) -> "Connection":  # noqa: N802  Twisted's name
        """Return the next one's."""
        return Connection(self.board) if self.tls is None else Encrypted(self.board, self.tls, self.handshakes)


@implementer(interfaces.IHalfCloseableProtocol, interfaces.IPushProducer)
class Connection(protocol.Protocol):
    """One connection; a `Wire`, and to Twisted the source of what is written."""

    def __init__(self, board: Switchboard) -> None:
        self.is_local = False
        self.unread = 0
        self._board, self._talk = board, Talk(board, self)
        self._written = 0
        self._closes = self._has_ended = False
        self._stop_waiting: Callable[[], object] = lambda: None
        self.transport: Any

    # -- what the talk orders

    def write(self, data: bytes) -> None:
        """Write, now or later."""
        self._written = len(data)
        if self.unread:
            self.unread += len(data)
        self.transport.write(data)

    def close(self) -> None:
        """Close when all is written, and the client knows."""
        self._closes = True
        if not self.unread:
            self._finish()

    def abort(self) -> None:
        """Close now."""
        self.transport.abortConnection()

    def leave_to_parent(self) -> None:
        """Close it here alone; a forked child has to leave the reactor as it is."""
        leave_to_parent(self.transport.fileno())

    def pause(self) -> None:
        """Read nothing."""
        self.transport.pauseProducing()

    def resume(self) -> None:
        """Read again."""
        self.transport.resumeProducing()

    # -- what Twisted tells

    def connectionMade(self) -> None:  # noqa: N802  Twisted's name
        """Begin."""
        peer = self.transport.getHandle()
        self.is_local = peer.family == socket.AF_UNIX
        self.transport.registerProducer(self, True)
        self._board.take_in(self._talk, is_welcome=may_come_in(peer))

    def dataReceived(self, data: bytes) -> None:  # noqa: N802  Twisted's name
        """Have it acted on."""
        if not self._closes:
            self._talk.received(data)

    def readConnectionLost(self) -> None:  # noqa: N802  Twisted's name
        """The client sends no more."""
        self._has_ended = True
        if not self._closes:
            self._talk.ended()
        elif not self.unread:  # else when all is read: Twisted forgets an earlier request
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:  # noqa: N802  Twisted's name
        """All is written, and the client is told of the end."""

    def connectionLost(self, _reason: object = None) -> None:  # noqa: N802  Twisted's name
        """End."""
        self._stop_waiting()
        self._talk.lost()

    def pauseProducing(self) -> None:  # noqa: N802  Twisted's name
        """What was written waits for the client to read it."""
        self.unread = max(self._written, 1)

    def resumeProducing(self) -> None:  # noqa: N802  Twisted's name
        """It was read."""
        self.unread = 0
        if self._closes:
            self._finish()
        else:
            self._talk.drained()

    def stopProducing(self) -> None:  # noqa: N802  Twisted's name
        """The connection is lost; `connectionLost` follows."""

    def _finish(self) -> None:
        if self._has_ended:
            self.transport.loseConnection()
            return
        # To close now would take from a client that sends on what it has not read yet.
        self.transport.loseWriteConnection()
        # Nor is it aborted then: what the system has of the answer is still on its way to a slow one.
        self._stop_waiting = self._board.clock.later(SECONDS_FOR_LAST_WORDS, self.transport.loseConnection)


class Encrypted(Connection):
    """One connection over TLS, which Twisted knows nothing of: its own has contexts of another library."""

    def __init__(self, board: Switchboard, tls: ssl.SSLContext, handshakes: "set[Encrypted]") -> None:
        super().__init__(board)
        self._tunnel, self._handshakes = Tunnel(tls), handshakes
        self._is_in = False

    def write(self, data: bytes) -> None:
        """Write, now or later; nothing more when the client has ended."""
        if not self._closes:
            super().write(self._tunnel.sealed(data))

    def connectionMade(self) -> None:  # noqa: N802  Twisted's name
        """Wait for the handshake."""
        self.transport.registerProducer(self, True)
        if len(self._handshakes) >= self._board.limits.connections:
            self.abort()
            return
        self._handshakes.add(self)
        self._stop_waiting = self._board.clock.later(SECONDS_FOR_A_HANDSHAKE, self.abort)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802  Twisted's name
        """Have what it says acted on."""
        if self._closes:
            return
        try:
            said = self._tunnel.received(data)
        except ssl.SSLError as exc:
            logger.info("client_refused reason=%s", exc)
            self.transport.write(self._tunnel.leaving())
            self._end()
            return
        self.transport.write(self._tunnel.leaving())
        if self._tunnel.is_open and not self._is_in:
            self._is_in = True
            self._stop_waiting()
            self._handshakes.discard(self)
            self._board.take_in(self._talk)
        if said and not self._closes:
            self._talk.received(said)
        if self._tunnel.has_ended:
            self._end()

    def readConnectionLost(self) -> None:  # noqa: N802  Twisted's name
        """End with the client: there is nothing half open over TLS."""
        self._end()

    def connectionLost(self, reason: object = None) -> None:  # noqa: N802  Twisted's name
        """End."""
        self._handshakes.discard(self)
        super().connectionLost(reason)

    def _end(self) -> None:
        self._closes = self._has_ended = True
        if not self.unread:  # else when all is read
            self._finish()

    def _finish(self) -> None:
        self.transport.write(self._tunnel.closed())
        super()._finish()
