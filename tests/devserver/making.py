"""Whole requests of every kind, about few znodes, so that they meet; `pick` chooses one of several."""

from tests.conformance import wire
from zkfleet.devserver import jute
from zkfleet.devserver.requests import Op

PATHS = [
    "",
    "/",
    "/a",
    "/a/b",
    "/a/b/c",
    "/e",
    "/t",
    "a",
    "/a/",
    "//",
    "/a/../b",
    "/\0",
    "/\ufffd",
    "/zookeeper",
    "/zookeeper/config",
    "/zookeeper/quota",
    "/zookeeper/quota/a",
    "/zookeeper/quota/a/zookeeper_limits",
    "/zookeeper/quota/a/zookeeper_stats",
]
THERE = ["/a", "/a/b", *PATHS[-3:]]
DATA = [b"", b"x", None, b"count=1,bytes=2", b"count=" + b"9" * 5000, b"\xff" * 30, b"=,;=" * 9]
ACLS = [
    ((31, "world", "anyone"),),
    ((1, "world", "anyone"),),
    ((31, "auth", ""),),
    ((31, "digest", "ann:x"), (1, "ip", "127.0.0.1/8")),
    ((31, "ip", "1.2.3.4/" + "9" * 5000),),
    (),
]
INTERESTING = [-1, 0, 1, 2, 3, 4, 5, 6, 77, 100, 2**31 - 1, -(2**31)]


def some_paths(pick):
    return [pick(PATHS), pick(PATHS)]


def a_create(*flags):
    return lambda pick: wire.create(pick(PATHS), pick(DATA), pick(ACLS), pick(flags))


def a_version(pick):
    return wire.delete(pick(PATHS), pick([-1, -1, 0, 1]))


def a_read(pick):
    return wire.read(pick(PATHS), pick([True, False]))


def a_watch(pick):
    return jute.text(pick(PATHS)) + wire.number(pick([0, 1, 2, 3]))


def a_batch(*kinds):
    return lambda pick: wire.batch(
        *((kind, a_body(kind, pick)) for kind in (pick(kinds) for _ in range(pick([0, 1, 4]))))
    )


KINDS = {
    Op.CREATE: a_create(0, 0, 1, 2, 3, 4, 7),
    Op.CREATE2: a_create(0, 0, 1, 2, 3, 5),
    Op.CREATE_CONTAINER: a_create(4, 4, 0),
    Op.CREATE_TTL: lambda pick: a_create(5, 6, 0)(pick) + jute.LONG.pack(pick([1, 1000, 0, -1, 2**62])),
    **dict.fromkeys((Op.DELETE, Op.CHECK, Op.DELETE_CONTAINER), a_version),
    Op.SET_DATA: lambda pick: wire.set_data(pick(PATHS), pick(DATA), pick([-1, -1, 0, 1])),
    Op.SET_ACL: lambda pick: wire.set_acl(pick(PATHS), pick(ACLS), pick([-1, -1, 0, 1])),
    **dict.fromkeys((Op.EXISTS, Op.GET_DATA, Op.GET_CHILDREN, Op.GET_CHILDREN2), a_read),
    Op.MULTI: a_batch(
        Op.CREATE, Op.CREATE2, Op.CREATE_CONTAINER, Op.CREATE_TTL, Op.DELETE, Op.SET_DATA, Op.CHECK, Op.SET_ACL
    ),
    Op.MULTI_READ: a_batch(Op.GET_DATA, Op.GET_CHILDREN),
    **dict.fromkeys((Op.ADD_WATCH, Op.CHECK_WATCHES, Op.REMOVE_WATCHES), a_watch),
    Op.SET_WATCHES: lambda pick: wire.set_watches(pick([0, 5, 100]), *(some_paths(pick) for _ in range(3))),
    Op.SET_WATCHES2: lambda pick: wire.set_watches(pick([0, 5, 100]), *(some_paths(pick) for _ in range(5))),
    Op.AUTH: lambda pick: wire.auth(pick(["digest", "ip", "nonsense", ""]), pick([b"ann:pw", b"", b"\xff:", b":::"])),
    Op.RECONFIG: lambda pick: jute.text("") * 3 + jute.LONG.pack(-1),
    Op.SASL: lambda pick: jute.buffer(pick(DATA)),
    **dict.fromkeys((Op.PING, Op.CLOSE, Op.WHO_AM_I), lambda pick: b""),
    **dict.fromkeys((Op.GET_ACL, Op.COUNT_ALL, Op.GET_EPHEMERALS, Op.SYNC), lambda pick: jute.text(pick(PATHS))),
}


def a_body(op, pick):
    """Return the body of a whole request of one kind."""
    return KINDS[op](pick)


# Those that end the connection come seldom, or nothing would ever happen.
OFTEN = [op for op in Op if op not in (Op.CLOSE, Op.AUTH)] * 6 + [Op.CLOSE, Op.AUTH]
