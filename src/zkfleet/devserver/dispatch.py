"""What does the server do with the bytes that arrive?

The whole server without a socket: told of connections, bytes and the time, it
answers with `Send`, `Close` and `Hold` orders for whoever owns the sockets
(`connections`).  Connections are numbers.  What is done for one is in the order
of its bytes; a watch's event goes out before the reply that could reveal the
change, since both are written in the order in which they were made.

Source: `NIOServerCnxn`, `ZooKeeperServer` and its processors, ZooKeeper 3.8.
"""

import struct
from dataclasses import dataclass, field

from zkfleet.devserver import access, jute, requests, words
from zkfleet.devserver.codes import Code, Refused
from zkfleet.devserver.database import Database, Event, Happened
from zkfleet.devserver.jute import Malformed, framed
from zkfleet.devserver.reading import Reader
from zkfleet.devserver.requests import WRITES, Op
from zkfleet.devserver.sessions import Sessions
from zkfleet.devserver.watches import Watches
from zkfleet.devserver.writing import Writer
from zkfleet.spelling import get_logger

logger = get_logger(__name__)

_HEADER = struct.Struct(">ii")
_REPLY = struct.Struct(">iqi")
_EVENT = struct.Struct(">iqiii")
_EVENT_XID, _PING_XID = -1, -2
_SYNC_CONNECTED = 3
_CONNECTED = struct.Struct(">iiq")
SECONDS_WITHOUT_SESSION = 10.0
SECONDS_BETWEEN_CLEANINGS = 60.0
# Bytes of replies to one client in one go.  A packet of requests can ask for
# ten thousand times its own size; the rest of it waits until these are read.
ENOUGH_AT_ONCE = 1 << 20
# Packets of one client in one go: however dear they are, others come in between.
MOST_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Send:
    """Write these bytes to a connection."""

    connection: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close a connection once what was sent to it is written."""

    connection: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Read no more from a connection; once it has taken what was sent, call `go_on`."""

    connection: int


Order = Send | Close | Hold


@dataclass(slots=True, eq=False)
class Peer:
    """A connection, and what is known of who is at its other end."""

    number: int
    address: str
    port: int
    since: float
    heard: float
    identities: dict[access.Identity, None]
    buffer: bytearray = field(default_factory=bytearray)
    session: int = 0
    timeout: float = 0.0
    received: int = 0
    sent: int = 0
    bytes_sent: int = 0
    last: Op | None = None
    last_xid: int = -1
    last_zxid: int = -1


class Silence(Exception):
    """A request that is done and not answered: so it is in the real one."""


class Server:
    """One ZooKeeper server, without its sockets.

    Args:
        sessions: the session table; it knows the timeouts.
        database: the znodes.
        epoch: milliseconds since 1970 when the clock was at 0.
        since: seconds on the clock when it started.
    """

    def __init__(self, sessions: Sessions, database: Database, *, epoch: float, since: float = 0.0) -> None:
        self.sessions, self.database, self.epoch, self.since = sessions, database, epoch, since
        self.watches = Watches()
        self.peers: dict[int, Peer] = {}
        self.received = self.sent = 0
        self._by_session: dict[int, Peer] = {}
        self._orders: list[Order] = []
        self._next_cleaning: float | None = None

    # -- what happens

    def connected(self, connection: int, address: str, port: int, *, now: float) -> None:
        """Take note of a new connection."""
        self.peers[connection] = Peer(connection, address, port, now, now, {access.Identity("ip", address): None})

    def lost(self, connection: int) -> None:
        """Take note that a connection is gone; its session lives on until it expires."""
        peer = self.peers.pop(connection, None)
        if peer is not None:
            self.watches.drop(connection)
            if self._by_session.get(peer.session) is peer:
                del self._by_session[peer.session]

    def received_bytes(self, connection: int, data: bytes, *, now: float) -> list[Order]:
        """Act on bytes that arrived, however they were cut; what is due by then comes first."""
        self._expire(now)
        peer = self.peers.get(connection)
        if peer is None:
            return self._taken()
        peer.heard = now
        peer.buffer += data
        try:
            self._take_packets(peer, now)
        except Malformed as exc:
            logger.info("connection_closed peer=%s:%d reason=%s", peer.address, peer.port, exc)
            self._close(peer)
        return self._taken()

    def go_on(self, connection: int, *, now: float) -> list[Order]:
        """Act on what a connection on hold had asked for before."""
        return self.received_bytes(connection, b"", now=now)

    def tick(self, *, now: float) -> list[Order]:
        """Expire what is due."""
        self._expire(now)
        for peer in list(self.peers.values()):
            if not peer.session and now - peer.since > SECONDS_WITHOUT_SESSION:
                logger.info("connection_closed peer=%s:%d reason=it opened no session", peer.address, peer.port)
                self._close(peer)
        self._clean(now)
        return self._taken()

    def expire(self, session: int) -> list[Order]:
        """End a session as if its time were over."""
        if session in self.sessions.timeouts:
            self._end_session(session)
        return self._taken()

    def _taken(self) -> list[Order]:
        orders, self._orders = self._orders, []
        return orders

    def _close(self, peer: Peer) -> None:
        self._orders.append(Close(peer.number))
        self.lost(peer.number)

    # -- packets

    def _take_packets(self, peer: Peer, now: float) -> None:
        buffer, begin = peer.buffer, 0
        enough, most = peer.bytes_sent + ENOUGH_AT_ONCE, peer.received + MOST_AT_ONCE
        while len(buffer) - begin >= 4 and peer.number in self.peers:
            if peer.bytes_sent >= enough or peer.received >= most:
                self._orders.append(Hold(peer.number))
                break
            if not peer.session and (word := bytes(buffer[begin : begin + 4])) in words.WORDS:
                self._answer_word(peer, word, now)
                return
            (size,) = jute.INT.unpack_from(buffer, begin)
            if not 0 <= size <= jute.LONGEST:
                raise Malformed(f"a packet of {size} bytes")
            end = begin + 4 + size
            if len(buffer) < end:
                break
            self._take_packet(peer, bytes(buffer[begin + 4 : end]), now)
            begin = end
        del buffer[:begin]

    def _take_packet(self, peer: Peer, payload: bytes, now: float) -> None:
        peer.received += 1
        self.received += 1
        if peer.session:
            self.sessions.touch(peer.session, now=now)
            self._take_request(peer, payload, now)
        else:
            self._take_connect(peer, requests.connect(payload), now)

    def _answer_word(self, peer: Peer, word: bytes, now: float) -> None:
        self._orders.append(Send(peer.number, words.WORDS[word](self, now).encode()))
        self._close(peer)

    def _send(self, peer: Peer, payload: bytes) -> None:
        peer.sent += 1
        peer.bytes_sent += len(payload)
        self.sent += 1
        self._orders.append(Send(peer.number, framed(payload)))

    # -- sessions

    def _take_connect(self, peer: Peer, wish: requests.Connect, now: float) -> None:
        if wish.last_zxid > self.database.zxid:
            raise Malformed(f"it has seen zxid 0x{wish.last_zxid:x}, and the last one here is 0x{self.database.zxid:x}")
        timeout = self.sessions.granted(wish.timeout / 1000)
        session = wish.session
        if session == 0:
            session = self.sessions.open(timeout, now=now)
            self.database.zxid += 1
        else:
            former = self._by_session.get(session)
            if former is not None:
                self._close(former)
            if not self.sessions.resume(session, wish.password, timeout, now=now):
                logger.info("session_refused id=0x%x peer=%s:%d", session, peer.address, peer.port)
                session, timeout = 0, 0.0
        password = self.sessions.password(session) if session else bytes(16)
        reply = _CONNECTED.pack(0, round(timeout * 1000), session) + jute.buffer(password)
        self._send(peer, reply + b"\0" if wish.knows_read_only else reply)
        if session:
            peer.session, peer.timeout = session, timeout
            self._by_session[session] = peer
        else:
            self._close(peer)

    def _expire(self, now: float) -> None:
        for session in self.sessions.expired(now=now):
            logger.info("session_expired id=0x%x", session)
            self._end_session(session)

    def _end_session(self, session: int) -> None:
        """End a session: its znodes go, and its connection is closed without a word."""
        self.database.zxid += 1
        self.database.end_session(session, zxid=self.database.zxid)
        self.sessions.close(session)
        self._tell(self.database.commit())
        peer = self._by_session.get(session)
        if peer is not None:
            self._close(peer)

    # -- requests

    def _take_request(self, peer: Peer, payload: bytes, now: float) -> None:
        if len(payload) < _HEADER.size:
            raise Malformed("a request without a header")
        xid, number = _HEADER.unpack_from(payload)
        try:
            op = Op(number)
        except ValueError:
            self._reply(peer, xid, Code.UNIMPLEMENTED, zxid=-1)
            logger.info("operation_unknown number=%d peer=%s:%d", number, peer.address, peer.port)
            self._close(peer)
            return
        reader = jute.Reader(payload, _HEADER.size)
        if op in (Op.AUTH, Op.SASL):
            self._take_credential(peer, xid, requests.decode(op, reader))
            return
        if op in WRITES:
            self.database.zxid += 1
        self._answer(peer, xid, op, reader, now)
        peer.last, peer.last_xid, peer.last_zxid = op, xid, self.database.zxid
        if op is Op.CLOSE:
            self._close(peer)

    def _answer(self, peer: Peer, xid: int, op: Op, reader: jute.Reader, now: float) -> None:
        code, body = Code.OK, b""
        try:
            body = self._body(peer, op, requests.decode(op, reader), now)
        except Refused as refused:
            code = refused.code
        except Malformed as exc:
            logger.info("request_malformed op=%s peer=%s:%d reason=%s", op.name, peer.address, peer.port, exc)
            code = Code.MARSHALLING_ERROR
        except Silence:
            return
        self._reply(peer, _PING_XID if op is Op.PING else xid, code, body)

    def _body(self, peer: Peer, op: Op, wish: requests.Request, now: float) -> bytes:
        """Do what a request wants and return the body of its reply."""
        if op in WRITES:
            writer = Writer(self.database, self.database.zxid, self.time(now), peer.session, peer.identities)
            body = writer.answer(op, wish)
            self._tell(self.database.commit())
            if op is Op.CLOSE:
                self.sessions.close(peer.session)
            if op is Op.CHECK:
                raise Silence
            return body
        reader = Reader(self.database, self.watches, peer.number, peer.session, peer.identities)
        if isinstance(wish, requests.SetWatches):
            for event, path in reader.missed(wish):
                self._notify(event, path, {peer.number})
            return b""
        return b"" if op is Op.PING else reader.answer(wish)

    def _reply(self, peer: Peer, xid: int, code: Code, body: bytes = b"", *, zxid: int | None = None) -> None:
        self._send(peer, _REPLY.pack(xid, self.database.zxid if zxid is None else zxid, code) + body)

    def _take_credential(self, peer: Peer, xid: int, wish: requests.Request) -> None:
        if not isinstance(wish, requests.Auth):
            # Nobody can log in: the real one without SASL says so with no token at all.
            self._reply(peer, xid, Code.OK, jute.NONE, zxid=0)
            return
        try:
            identity = access.authenticate(wish.scheme, wish.credential, peer.address)
        except Refused as refused:
            logger.info("credential_refused scheme=%r peer=%s:%d", wish.scheme[:40], peer.address, peer.port)
            self._reply(peer, xid, refused.code, zxid=0)
            self._close(peer)
            return
        peer.identities[identity] = None
        self._reply(peer, xid, Code.OK, zxid=0)

    # -- watches

    def _tell(self, happened: list[Happened]) -> None:
        for event, path, acl in happened:
            # Since CVE-2024-23944 nobody hears of what they may not read; their watch has fired all the same.
            told = {number for number in self.watches.fire(event, path) if self._may_read(number, acl)}
            if told:
                self._notify(event, path, told)

    def _may_read(self, connection: int, acl: access.Acl) -> bool:
        try:
            access.check(acl, access.READ, self.peers[connection].identities)
        except Refused:
            return False
        return True

    def _notify(self, event: Event, path: str, connections: set[int]) -> None:
        payload = _EVENT.pack(_EVENT_XID, -1, 0, event, _SYNC_CONNECTED) + jute.text(path)
        for connection in sorted(connections):
            self._send(self.peers[connection], payload)

    # -- what goes by itself

    def _clean(self, now: float) -> None:
        if self._next_cleaning is None:
            self._next_cleaning = now + SECONDS_BETWEEN_CLEANINGS
        if now < self._next_cleaning:
            return
        self._next_cleaning = now + SECONDS_BETWEEN_CLEANINGS
        for path in list(self.database.overdue(self.time(now))):
            self.database.zxid += 1
            self.database.delete(path, zxid=self.database.zxid)
            self._tell(self.database.commit())

    def time(self, now: float) -> int:
        """Return milliseconds since 1970."""
        return int(self.epoch + now * 1000)
