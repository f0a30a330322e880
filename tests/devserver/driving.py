"""The dev server without a socket: the test brings the bytes and the time, and sees every order."""

import itertools
import struct

from tests.conformance.wire import Closed, Reply
from zkfleet.devserver import jute
from zkfleet.devserver.database import Database
from zkfleet.devserver.dispatch import Close, Hold, Send, Server
from zkfleet.devserver.sessions import Sessions

TICK = 2.0
EPOCH = 1_700_000_000_000


def a_core(secret=b"a secret of ours", first=1000):
    """The parts of a server that was just made."""
    sessions = Sessions(secret, first, tick=TICK, shortest=2 * TICK, longest=20 * TICK)
    return Server(sessions, Database(), epoch=EPOCH)


class Driven:
    """A server, its clock, and the clients whose connections it has."""

    def __init__(self, core=None):
        self.core = core or a_core()
        self.now = 100.0
        self.clients = {}
        self.trace = []  # everything that was sent and closed, in order
        self._numbers = itertools.count(1)

    def connection(self, address="127.0.0.1"):
        client = Client(self, next(self._numbers))
        self.clients[client.number] = client
        self.core.connected(client.number, address, 40000 + client.number, now=self.now)
        return client

    def session(self, **wish):
        return self.connection().begin(**wish)

    def carry_out(self, orders):
        self.trace += orders
        for order in orders:
            client = self.clients[order.connection]
            assert not client.closed, f"{order} after it was closed"
            if isinstance(order, Send):
                client.inbox += order.data
            elif isinstance(order, Close):
                client.closed = True
            else:
                assert isinstance(order, Hold)
                client.held = True

    def pass_time(self, seconds):
        self.now += seconds
        self.carry_out(self.core.tick(now=self.now))

    def check(self):
        check_invariants(self.core)


class Client:
    """One connection's other end."""

    def __init__(self, driven, number):
        self.driven, self.number = driven, number
        self.inbox = bytearray()
        self.closed = self.held = False
        self.events = []
        self.session = self.timeout = 0
        self.password = bytes(16)
        self._xids = itertools.count(1)

    def feed(self, data):
        driven = self.driven
        driven.carry_out(driven.core.received_bytes(self.number, data, now=driven.now))
        return self

    def go_on(self):
        self.held = False
        self.driven.carry_out(self.driven.core.go_on(self.number, now=self.driven.now))

    def leave(self):
        self.closed = True
        self.driven.core.lost(self.number)

    def begin(self, **wish):
        self.feed(jute.framed(hello(**wish)))
        granted = jute.Reader(self.packet())
        granted.number()
        self.timeout, self.session, self.password = granted.number(), granted.long(), granted.buffer()
        return self

    def packets(self):
        found = []
        while len(self.inbox) >= 4:
            (size,) = jute.INT.unpack_from(self.inbox)
            found.append(bytes(self.inbox[4 : 4 + size]))
            del self.inbox[: 4 + size]
        return found

    def packet(self):
        packets = self.packets()
        if not packets and self.closed:
            raise Closed
        assert len(packets) == 1
        return packets[0]

    def ask(self, op, body=b"", xid=None):
        """Send a request and return its reply; what was told before it is added to `events`."""
        xid = next(self._xids) if xid is None else xid
        self.feed(request(xid, op, body))
        replies = self.hear()
        if not replies:
            raise Closed
        assert len(replies) == 1
        return replies[0]

    def ask_quietly(self, op, body):
        """Send a request, whatever comes of it."""
        self.feed(request(next(self._xids), op, body))
        self.inbox.clear()

    def hear(self):
        """Return the replies that came, and keep the events."""
        replies = []
        for payload in self.packets():
            xid, zxid, code = struct.unpack_from(">iqi", payload)
            if xid == -1:
                kind, _state = struct.unpack_from(">ii", payload, 16)
                self.events.append((kind, jute.Reader(payload, 24).text()))
            else:
                replies.append(Reply(xid, zxid, code, payload[16:]))
        return replies

    def told(self):
        """Return what watches told since the last time."""
        assert not self.hear()
        told, self.events = self.events, []
        return told


def hello(*, session=0, password=bytes(16), timeout=10_000, last_zxid=0):
    return struct.pack(">iqiq", 0, last_zxid, timeout, session) + jute.buffer(password) + b"\0"


def request(xid, op, body=b""):
    return jute.framed(struct.pack(">ii", xid, op) + body)


def check_invariants(core):
    """Everything that must hold of a server between two packets."""
    database = core.database
    assert not database.happened, "events that nobody was told of"
    owned = {}
    for path, node in database.nodes.items():
        if path != "/":
            above, _, name = path.rpartition("/")
            assert name in (database.nodes[above or "/"].children or ()), f"{path} is not listed"
        for name in node.children or ():
            assert f"{path.rstrip('/')}/{name}" in database.nodes, f"{path} lists {name}"
        assert node.children is None or node.children, f"{path}: no children are None"
        if node.owner:
            owned.setdefault(node.owner, set()).add(path)
    assert owned == {session: set(paths) for session, paths in database.ephemerals.items() if paths}
    assert set(owned) <= set(core.sessions.timeouts), "ephemerals without a session"
    assert set(database.containers) <= set(database.nodes)
    assert set(database.lifetimes) <= set(database.nodes)
    assert set(core.sessions.timeouts) == set(core.sessions._deadlines)
    for table in (core.watches._data, core.watches._children):
        pairs = {(path, who) for path, watching in table.by_path.items() for who in watching}
        assert pairs == {(path, who) for who, paths in table.by_connection.items() for path in paths}
        assert set(table.by_connection) <= set(core.peers), "watches of somebody who left"
    for session, peer in core._by_session.items():
        assert core.peers[peer.number] is peer
        assert peer.session == session
        assert session in core.sessions.timeouts
