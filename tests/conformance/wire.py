"""A client that sends whatever it is told, and shows replies so that two servers can be compared."""

import itertools
import socket
import struct
from typing import NamedTuple

from zkfleet.devserver import jute
from zkfleet.devserver.requests import Op

STAT = struct.Struct(">qqqqiiiqiiq")
PATIENCE = 10.0


class Closed(Exception):
    """The server closed the connection."""


class Reply(NamedTuple):
    xid: int
    zxid: int
    code: int
    body: bytes


class Wire:
    """One connection; `events` are those that came before the last reply."""

    def __init__(self, hosts, *, session=0, password=bytes(16), timeout=1_000_000, last_zxid=0):
        host, _, port = hosts.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), PATIENCE)
        self.events = []
        self._xids = itertools.count(1)
        wish = struct.pack(">iqiq", 0, last_zxid, timeout, session) + jute.buffer(password) + b"\0"
        try:
            self.send(wish)
            granted = jute.Reader(self.read())
        except Closed:
            self.close()
            raise
        granted.number()
        self.timeout, self.session, self.password = granted.number(), granted.long(), granted.buffer()

    def send(self, payload):
        self.socket.sendall(jute.framed(payload))

    def read(self):
        return self._exactly(jute.INT.unpack(self._exactly(4))[0])

    def _exactly(self, size):
        found = b""
        while len(found) < size:
            try:
                part = self.socket.recv(size - len(found))
            except ConnectionError:
                part = b""
            if not part:
                raise Closed
            found += part
        return found

    def ask(self, op, body=b"", xid=None):
        """Send a request and return its reply; what watches told before it is added to `events`."""
        xid = next(self._xids) if xid is None else xid
        self.send(struct.pack(">ii", xid, op) + body)
        while True:
            payload = self.read()
            got, zxid, code = struct.unpack_from(">iqi", payload)
            if got != -1:
                return Reply(got, zxid, code, payload[16:])
            kind, state = struct.unpack_from(">ii", payload, 16)
            self.events.append((kind, state, jute.Reader(payload, 24).text()))

    def ping(self):
        return self.ask(Op.PING)

    def close(self):
        self.socket.close()


# -- bodies of requests


def number(value):
    return jute.INT.pack(value)


def create(path, data=b"", acl=((31, "world", "anyone"),), flags=0, ttl=None):
    body = jute.text(path) + jute.buffer(data) + jute.acl(jute.AclEntry(*entry) for entry in acl) + number(flags)
    return body if ttl is None else body + jute.LONG.pack(ttl)


def read(path, watch=False):
    return jute.text(path) + (b"\1" if watch else b"\0")


def delete(path, version=-1):
    return jute.text(path) + number(version)


def set_data(path, data=b"", version=-1):
    return jute.text(path) + jute.buffer(data) + number(version)


def set_acl(path, acl, version=-1):
    return jute.text(path) + jute.acl(jute.AclEntry(*entry) for entry in acl) + number(version)


def batch(*parts):
    return b"".join(struct.pack(">i?i", op, False, -1) + body for op, body in parts) + struct.pack(">i?i", -1, True, -1)


def auth(scheme, credential):
    return number(0) + jute.text(scheme) + jute.buffer(credential)


def set_watches(zxid, *paths):
    return jute.LONG.pack(zxid) + b"".join(map(jute.texts, paths))


# -- bodies of replies


class Shown:
    """Decodes replies; sessions are told by the order in which they came, times are left out."""

    def __init__(self):
        self.sessions = {0: 0}

    def stat(self, reader):
        size = STAT.size
        czxid, mzxid, ctime, mtime, *counts, owner, length, below, pzxid = STAT.unpack(
            bytes(reader._data[reader._take(size) : reader._offset])
        )
        same_time = ctime == mtime or czxid != mzxid
        return (czxid, mzxid, same_time, *counts, self.sessions.setdefault(owner, "?"), length, below, pzxid)

    def body(self, op, body):
        reader = jute.Reader(body)
        shown = self._body(op, reader)
        assert reader.at_end, f"{op!r}: bytes are left over in {body!r}"
        return shown

    def _body(self, op, reader):
        return None if reader.at_end else BODIES[op](self, reader)

    def _parts(self, reader):
        while True:
            kind, done, code = reader.number(), reader.flag(), reader.number()
            if done:
                yield kind, code
                return
            if kind == -1:
                yield kind, code, reader.number()
            elif kind in (Op.DELETE, Op.CHECK):
                yield kind, code
            else:
                yield kind, code, self._body(Op(kind), reader)


BODIES = {
    **dict.fromkeys((Op.CREATE, Op.SYNC), lambda shown, reader: reader.text()),
    **dict.fromkeys(
        (Op.CREATE2, Op.CREATE_CONTAINER, Op.CREATE_TTL), lambda shown, reader: (reader.text(), shown.stat(reader))
    ),
    **dict.fromkeys((Op.EXISTS, Op.SET_DATA, Op.SET_ACL), lambda shown, reader: shown.stat(reader)),
    **dict.fromkeys((Op.GET_CHILDREN, Op.GET_EPHEMERALS), lambda shown, reader: sorted(reader.texts())),
    **dict.fromkeys((Op.COUNT_ALL, Op.ADD_WATCH), lambda shown, reader: reader.number()),
    **dict.fromkeys((Op.MULTI, Op.MULTI_READ), lambda shown, reader: list(shown._parts(reader))),
    Op.GET_DATA: lambda shown, reader: (reader.buffer(), shown.stat(reader)),
    Op.GET_CHILDREN2: lambda shown, reader: (sorted(reader.texts()), shown.stat(reader)),
    Op.GET_ACL: lambda shown, reader: (sorted(reader.acl()), shown.stat(reader)),
    Op.WHO_AM_I: lambda shown, reader: sorted(reader.vector(lambda: (reader.text(), reader.text()))),
    Op.SASL: lambda shown, reader: reader.buffer(),
}
