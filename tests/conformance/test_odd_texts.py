"""Texts and numbers that no client should send: the dev server says of each what the real one says.

A case is some requests on a connection of their own, of which one is odd; the
others clean up after it or show what it did.  Compared are all replies, all
events, and when the connection is closed.  Left out is what breaks the real
server or leaves a watch in it for ever.
"""

import contextlib
import struct
from pathlib import Path

import pytest

from tests.conformance import wire
from tests.conformance.wire import Closed, Shown, Wire
from zkfleet.devserver import jute
from zkfleet.devserver.requests import Op

pytestmark = pytest.mark.slow
DOCS = Path(__file__).parents[2] / "docs" / "devserver.md"

# -- what is odd

TEXTS = {
    "null": None,
    "empty": b"",
    # no absolute paths
    "no slash": b"r",
    "slash at the end": b"/r/",
    "only slashes": b"//",
    "slashes in front": b"//r",
    "slashes within": b"/r//a",
    "dot": b"/r/.",
    "dot within": b"/r/./a",
    "two dots": b"/r/..",
    "two dots within": b"/r/../r",
    "three dots": b"/r/...",
    # characters
    "space": b"/r/ ",
    "NUL": b"/r/\0",
    "NUL alone": b"\0",
    "U+0001": b"/r/\1",
    "newline": b"/r/\n",
    "U+007F": b"/r/\x7f",
    "U+009F": "/r/\x9f".encode(),
    "U+00A0": "/r/\xa0".encode(),
    "U+D7FF": "/r/\ud7ff".encode(),
    "U+E000": "/r/\ue000".encode(),
    "U+F8FF": "/r/\uf8ff".encode(),
    "U+F900": "/r/\uf900".encode(),
    "U+FEFF": "/r/\ufeff".encode(),
    "U+FFEF": "/r/\uffef".encode(),
    "U+FFF0": "/r/\ufff0".encode(),
    "U+FFFE": "/r/\ufffe".encode(),
    "U+FFFF": "/r/\uffff".encode(),
    "U+1F600": "/r/\U0001f600".encode(),
    "U+10FFFF": "/r/\U0010ffff".encode(),
    # no UTF-8
    "surrogate": b"/r/\xed\xa0\x80",
    "surrogate cut short": b"/r/\xed\xbf",
    "surrogate cut short within": b"/r/\xed\xa0x",
    "two surrogates": b"/r/\xed\xa0\xbd\xed\xb8\x80",
    "overlong NUL": b"/r/\xc0\x80",
    "overlong slash of 3": b"/r\xe0\x80\xafa",
    "overlong slash of 4": b"/r\xf0\x80\x80\xafa",
    "continuations alone": b"/r/\x80\xbf",
    "cut short after 1 of 2": b"/r/\xc3",
    "cut short after 2 of 3": b"/r/\xe2\x82",
    "cut short after 3 of 4": b"/r/\xf0\x9f\x98",
    "cut short within": b"/r/\xe2\x82\xed\xa0\x80/x",
    "beyond U+10FFFF": b"/r/\xf4\x90\x80\x80",
    "no UTF-8 at all": b"/r/\xf8\x88\xff\xfe",
    # size
    "deep": b"/r" * 2000,
    "very long": b"/r/" + b"x" * 100_000,
    # the system's own
    "root": b"/",
    "system": b"/zookeeper",
    "below the system": b"/zookeeper/x",
    "configuration": b"/zookeeper/config",
    "below the configuration": b"/zookeeper/config/x",
    "quota": b"/zookeeper/quota",
    "below the quota": b"/zookeeper/quota/r",
    "nearly the system": b"/zookeeperx",
}
LENGTHS = (-2, -(2**31), 4000, 2**31 - 1)
NUMBERS = (-(2**31), -2, -1, 0, 1, 2, 3, 4, 7, 2**31 - 1)
IDS = (
    None, b"", b"anyone", b":", b"::", b"a:b", b"a:", b":b", b"a:b:", b"a:b:c", b"a::b", b"a::", b"\xff:\xff",
    b"\xed\xa0\x80:x", "\U0001f600:x".encode(), b"\xed\xa0\xbd\xed\xb8\x80:x", b"\0:\0", b"/", b"localhost", b"1",
    b"1.2.3", b"1.2.3.4", b"1.2.3.4.5", b"1..2.3", b"1.2.3.4.", b".1.2.3.4", b"...", b"010.0.0.1", b"256.0.0.1",
    b"-1.0.0.1", b"0x1.2.3.4", b"1.2.3.4 ", "\u0661.2.3.4".encode(), b"99999999999.2.3.4", b"10.0.0.0/0", b"10.0.0.0/8",
    b"10.0.0.0/33", b"10.0.0.0/-1", b"10.0.0.0/", b"10.0.0.0/8/8", b"10.0.0.0/ 8", b"10.0.0.0/08", b"10.0.0.0/0x8",
    b"10.0.0.0/8.8", b"10.0.0.0/99999999999", b"/8", b"::1", b"::1/128", b"::1/129",
)  # fmt: skip
SCHEMES = (b"world", b"auth", b"digest", b"ip")
ODD_SCHEMES = (None, b"", b"x509", b"sasl", b"super", b"Digest", b"\xff")

# -- requests, given a text as it is spelled

ANY = wire.number(-1)
END = wire.batch()
FIVE = "data", "exist", "children", "persistent", "recursive"


def entry(scheme, id_, bits=31):
    return wire.number(bits) + jute.buffer(scheme) + jute.buffer(id_)


def acl(*entries):
    return wire.number(len(entries)) + b"".join(entries)


OPEN = entry(b"world", b"anyone")
EVERYBODY = acl(OPEN)


def create(path, flags=0, entries=EVERYBODY):
    life = jute.LONG.pack(1 << 30) if flags in (5, 6) else b""
    return path + jute.buffer(b"data") + entries + wire.number(flags) + life


def ends(end):
    return lambda path: path + end


def watched(place, places):
    return lambda path: (
        jute.LONG.pack(0)
        + b"".join(wire.number(1) + path if place == number else wire.number(0) for number in range(places))
    )


def batched(op, body):
    return lambda path: struct.pack(">i?i", op, False, -1) + body(path) + END


MAKING = {
    "create": (Op.CREATE, create),
    "create2": (Op.CREATE2, create),
    "createContainer": (Op.CREATE_CONTAINER, lambda path: create(path, 4)),
    "createTTL": (Op.CREATE_TTL, lambda path: create(path, 5)),
}
CHANGING = {
    "create sequential": (Op.CREATE, lambda path: create(path, 2)),
    "delete": (Op.DELETE, ends(ANY)),
    "setData": (Op.SET_DATA, ends(jute.buffer(b"data") + ANY)),
    "check": (Op.CHECK, ends(wire.number(7))),
}
READING = {
    "getData": (Op.GET_DATA, ends(b"\1")),
    "getChildren": (Op.GET_CHILDREN, ends(b"\1")),
}
OTHERS = {
    "exists": (Op.EXISTS, ends(b"\1")),
    "getChildren2": (Op.GET_CHILDREN2, ends(b"\1")),
    "getACL": (Op.GET_ACL, ends(b"")),
    "setACL": (Op.SET_ACL, ends(EVERYBODY + ANY)),
    "sync": (Op.SYNC, ends(b"")),
    "getEphemerals": (Op.GET_EPHEMERALS, ends(b"")),
    "getAllChildrenNumber": (Op.COUNT_ALL, ends(b"")),
    "addWatch": (Op.ADD_WATCH, ends(wire.number(0))),
    "addWatch recursive": (Op.ADD_WATCH, ends(wire.number(1))),
    "checkWatches": (Op.CHECK_WATCHES, ends(wire.number(3))),
    "removeWatches": (Op.REMOVE_WATCHES, ends(wire.number(3))),
    **{f"setWatches {name}": (Op.SET_WATCHES, watched(place, 3)) for place, name in enumerate(FIVE[:3])},
    **{f"setWatches2 {name}": (Op.SET_WATCHES2, watched(place, 5)) for place, name in enumerate(FIVE)},
    "reconfig": (Op.RECONFIG, lambda text: text * 3 + jute.LONG.pack(-1)),
    "sasl": (Op.SASL, ends(b"")),
    "whoAmI": (Op.WHO_AM_I, ends(b"")),
    "deleteContainer": (Op.DELETE_CONTAINER, ends(b"")),
}
IN_BATCHES = {
    **{f"multi: {what}": (Op.MULTI, batched(*request)) for what, request in (MAKING | CHANGING).items()},
    **{f"multiRead: {what}": (Op.MULTI_READ, batched(*request)) for what, request in READING.items()},
}

# -- cases: requests by name


def of_texts():
    for what, (op, body) in (MAKING | CHANGING | READING | OTHERS | IN_BATCHES).items():
        for name, text in TEXTS.items():
            path = jute.buffer(text)
            make, undo = (Op.CREATE, create(path)), (Op.DELETE, path + ANY)
            # A watch that was left is seen to fire.
            after = (make, undo) if what in READING | OTHERS else (undo,)
            yield f"{what}, {name}", ((op, body(path)), *after)
        for length in LENGTHS:
            yield f"{what}, length {length}", ((op, body(wire.number(length))),)


def of_credentials():
    def of(scheme, credential):
        return (Op.AUTH, wire.number(0) + jute.buffer(scheme) + jute.buffer(credential)), (Op.WHO_AM_I, b"")

    for name, text in TEXTS.items():
        yield f"auth, {name}", of(b"digest", text)
        yield f"auth with a password, {name}", of(b"digest", (text or b"") + b":pw")
        yield f"auth at an address, {name}", of(b"ip", text)
        yield f"auth by a scheme, {name}", of(text, b"ann:pw")
    for scheme in (*SCHEMES, *ODD_SCHEMES):
        yield f"auth by {scheme}", of(scheme, b"ann:pw")
    for credential in (b":", b":x", b"x:", b"a:b:c"):
        yield f"auth, {credential}", of(b"digest", credential)


def of_access():
    lists = {
        "null": wire.number(-1),
        "none": wire.number(0),
        "less than none": wire.number(-(2**31)),
        "more than there are": wire.number(5),
        "more than can be": wire.number(2**31 - 1),
        "twice": acl(OPEN, OPEN),
        "no text at all": acl(OPEN, entry(None, None)),
        **{f"{scheme} {id_}": acl(entry(scheme, id_), OPEN) for scheme in SCHEMES for id_ in IDS},
        **{f"{scheme} {id_}": acl(entry(scheme, id_), OPEN) for scheme in ODD_SCHEMES for id_ in (None, b"a:b")},
        **{f"bits {number}": acl(entry(b"world", b"anyone", number), OPEN) for number in NUMBERS},
    }
    path = jute.text("/r/new")
    look, undo = (Op.GET_ACL, path), (Op.DELETE, path + ANY)
    for name, entries in lists.items():
        make = create(path, entries=entries)
        yield f"create, ACL {name}", ((Op.CREATE, make), look, undo)
        yield f"multi: create, ACL {name}", ((Op.MULTI, batched(Op.CREATE, ends(make[len(path) :]))(path)), look, undo)
        yield f"setACL, ACL {name}", ((Op.CREATE, create(path)), (Op.SET_ACL, path + entries + ANY), look, undo)


def of_numbers():
    path = jute.text("/r/a")
    add = (Op.ADD_WATCH, path + wire.number(1))
    look = (Op.CHECK_WATCHES, path + wire.number(3))
    for number in NUMBERS:
        body = path + wire.number(number)
        yield f"addWatch, mode {number}", ((Op.ADD_WATCH, body), look)
        yield f"checkWatches, kind {number}", (add, (Op.CHECK_WATCHES, body))
        yield f"removeWatches, kind {number}", (add, (Op.REMOVE_WATCHES, body), look)
        for op in (Op.CREATE, Op.CREATE2, Op.CREATE_CONTAINER):
            body, undo = create(jute.text("/r/new"), number), (Op.DELETE, wire.delete("/r/new"))
            yield f"{op.name}, flags {number}", ((op, body), undo)
            yield f"multi: {op.name}, flags {number}", ((Op.MULTI, batched(op, ends(body))(b"")), undo)


def of_operations():
    bodies = {"nothing": b"", "a path": jute.text("/r/a"), "zeros": bytes(64)}
    for number in (*range(-12, 24), 77, *range(98, 112), 999, *NUMBERS):
        for name, body in bodies.items():
            if number == Op.CREATE_TTL and name == "zeros":
                continue
            yield f"operation {number}, {name}", ((number, body),)
            yield f"multi: operation {number}, {name}", ((Op.MULTI, batched(number, ends(body))(b"")),)
            yield f"multiRead: operation {number}, {name}", ((Op.MULTI_READ, batched(number, ends(body))(b"")),)


# Once such a watch is there, the real server cannot let go of its connection.
FOR_EVER = {
    f"{what}, null" for what in ("addWatch", "addWatch recursive", "setWatches2 persistent", "setWatches2 recursive")
}
CASES = {
    name: requests
    for cases in (of_texts, of_credentials, of_access, of_numbers, of_operations)
    for name, requests in cases()
    if name not in FOR_EVER
}
# What stands in docs/devserver.md, in the first column of its table, and the cases that are different by it.
DIFFERENCES = {
    "`createSession` sent by a client": ("operation -10, nothing", "operation -10, a path", "operation -10, zeros"),
    "a malformed `reconfig`": (
        "operation 16, nothing",
        "operation 16, a path",
        *(f"reconfig, length {length}" for length in LENGTHS),
    ),
    "a malformed `multiRead`": tuple(f"multiRead: {what}, null" for what in READING),
    "a path that is no text at all": (
        "setData, null",
        "setACL, null",
        "check, null",
        "sync, null",
        "removeWatches, null",
        *(f"multi: {what}, null" for what in MAKING | CHANGING),
    ),
    "an id in an access list that is no text at all": tuple(
        f"{what}, ACL {name}"
        for what in ("create", "multi: create", "setACL")
        for name in ("no text at all", "b'world' None", "b'digest' None", "b'ip' None")
    ),
}
KNOWN = {name: reason for reason, names in DIFFERENCES.items() for name in names}


def outcome(server, requests):
    """Return all that a server says to some requests on a connection of their own."""
    said = []
    with contextlib.closing(Wire(server.hosts)) as one:
        shown = Shown()
        shown.sessions[one.session] = "its own"
        try:
            for op, body in (*requests, (Op.PING, b""), (Op.CLOSE, b"")):
                reply = one.ask(op, body)
                told = reply.body if reply.code or op is Op.SYNC else shown.body(op, reply.body)
                said.append((op, reply.xid, reply.zxid, reply.code, told))
            while True:
                one.read()
        except Closed:
            said.append("closed")
        said.append(one.events)
    return said


@pytest.fixture(scope="module")
def both(pair):
    for server in pair:
        with contextlib.closing(Wire(server.hosts)) as one:
            for path in ("/r", "/r/a"):
                one.ask(Op.CREATE, wire.create(path))
    return pair


def in_step(both):
    """See that both have the same number of transactions behind them, after a difference."""
    wires = [Wire(server.hosts) for server in both]
    zxids = [one.ping().zxid for one in wires]
    for one, zxid in zip(wires, zxids, strict=True):
        for _ in range(max(zxids) - zxid):
            one.ask(Op.DELETE, wire.delete("/"))
        one.close()


@pytest.mark.parametrize("name", CASES)
def test_what_is_odd_has_the_same_outcome(both, name):
    ours, real = (outcome(server, CASES[name]) for server in both)
    if ours != real:
        in_step(both)
    if name in KNOWN:
        assert ours != real, f"no longer different: {KNOWN[name]}"
    else:
        assert ours == real


def test_the_documentation_tells_of_each_difference():
    rows = {line.split("|")[1].strip() for line in DOCS.read_text().splitlines() if line.startswith("|")}
    assert set(DIFFERENCES) <= rows


def test_each_difference_is_looked_for():
    assert set(KNOWN) <= set(CASES)
