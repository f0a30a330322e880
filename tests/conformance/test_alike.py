"""Random requests to a dev server and to a real one: every reply and every event is the same.

Left out is what would break the real server, or is told in docs/devserver.md as a difference.
"""

import itertools
import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.conformance import wire
from tests.conformance.wire import Closed, Shown, Wire
from zkfleet.devserver import jute
from zkfleet.devserver.requests import TTL_FLAGS, Op

pytestmark = pytest.mark.slow
EXAMPLES = int(os.environ.get("ZKFLEET_CONFORMANCE", "60"))
NAMES = ("a", "b", "c")
ODD = (
    "",
    "/",
    "x",
    "/zookeeper",
    "/zookeeper/quota",
    "/zookeeper/config",
    "{r}/",
    "{r}//a",
    "{r}/./a",
    "{r}/a\0",
    "{r}/é",
)
QUOTA = ("/zookeeper/quota{r}", "/zookeeper/quota{r}/zookeeper_limits", "/zookeeper/quota{r}/zookeeper_stats")
DEEP = [
    "{r}" + "".join(f"/{name}" for name in names)
    for size in (0, 1, 2)
    for names in itertools.product(NAMES, repeat=size)
]
PATHS = st.one_of(st.sampled_from(DEEP), st.sampled_from(DEEP), st.sampled_from(DEEP), st.sampled_from(ODD + QUOTA))
DATA = st.sampled_from([b"", b"x", b"\xff\0", None, b"y" * 300])
VERSIONS = st.sampled_from([-1, -1, -1, 0, 1, 2, -2])
ANN = "ann:7a1o5PQYcsOLNJjNXWgnjeoQjXs="  # the hash does not matter, as long as it is one
# Without a body these are whole; credentials end the connection; a successful check is not answered; and a
# reconfig that is cut short takes no transaction id on the real server alone.
UNCUT = (Op.PING, Op.CLOSE, Op.WHO_AM_I, Op.AUTH, Op.SASL, Op.CHECK, Op.RECONFIG)
ACLS = st.lists(
    st.sampled_from(
        [
            (31, "world", "anyone"),
            (31, "world", "anyone"),
            (1, "world", "anyone"),
            (15, "world", "anyone"),
            (31, "auth", ""),
            (31, "digest", ANN),
            (5, "digest", "no colon"),
            (31, "ip", "127.0.0.1"),
            (31, "ip", "10.0.0.0/8"),
            (3, "ip", "127.0.0.1/33"),
            (3, "ip", "+127.000.0.01/+8"),
            (3, "ip", "127.0.0.1/-0"),
            (3, "ip", "127.0.0.1."),
            (3, "ip", " 127.0.0.1"),
            (31, "world", "somebody"),
            (31, "nonsense", "x"),
        ]
    ),
    min_size=0,
    max_size=2,
).map(tuple)
MOSTLY_OPEN = st.one_of(st.just(((31, "world", "anyone"),)), st.just(((31, "world", "anyone"),)), ACLS)
KINDS = {
    Op.CREATE: (0, 0, 0, 1, 1, 2, 3, 4, 5, 9),
    Op.CREATE2: (0, 0, 1, 2, 3),
    Op.CREATE_CONTAINER: (4, 4, 0),
    Op.CREATE_TTL: (5, 6),
}


@st.composite
def creates(draw, in_multi=False):
    op = draw(st.sampled_from(list(KINDS)))
    flags = draw(st.sampled_from(KINDS[op]))
    if in_multi and (flags in TTL_FLAGS) != (op is Op.CREATE_TTL):
        flags = 0
    ttl = draw(st.sampled_from([1, 1000, 0, -1, 1 << 41])) if op is Op.CREATE_TTL else None
    path, data, acl = draw(PATHS), draw(DATA), draw(MOSTLY_OPEN)
    return op, path, lambda real: wire.create(real, _for(real, data), acl, flags, ttl)


def _for(path, data):
    """What a quota's own counts say must be numbers: the real server stumbles over anything else."""
    return b"count=1,bytes=2" if path.endswith("zookeeper_stats") else data


def deletes(op=Op.DELETE):
    return st.tuples(st.just(op), PATHS, VERSIONS.map(lambda version: lambda real: wire.delete(real, version)))


SETS = st.tuples(
    st.just(Op.SET_DATA),
    PATHS,
    st.tuples(DATA, VERSIONS).map(lambda pair: lambda real: wire.set_data(real, _for(real, pair[0]), pair[1])),
)
READS = st.tuples(
    st.sampled_from([Op.EXISTS, Op.GET_DATA, Op.GET_CHILDREN, Op.GET_CHILDREN2]),
    PATHS,
    st.booleans().map(lambda watch: lambda real: wire.read(real, watch)),
)
ABOUT_ONE_PATH = st.tuples(
    st.sampled_from([Op.GET_ACL, Op.COUNT_ALL, Op.GET_EPHEMERALS, Op.SYNC]), PATHS, st.just(jute.text)
)
ACCESS = st.tuples(
    st.just(Op.SET_ACL),
    PATHS,
    st.tuples(ACLS, VERSIONS).map(lambda pair: lambda real: wire.set_acl(real, *pair)),
)
WATCHES = st.tuples(
    st.sampled_from([Op.ADD_WATCH, Op.ADD_WATCH, Op.CHECK_WATCHES, Op.REMOVE_WATCHES]),
    PATHS,
    st.sampled_from([0, 1, 1, 2, 3, 4]).map(lambda number: lambda real: jute.text(real) + wire.number(number)),
)
WRITES = st.one_of(creates(), creates(), creates(), SETS, deletes())
PARTS = st.lists(
    st.one_of(creates(in_multi=True), creates(in_multi=True), SETS, deletes(), deletes(Op.CHECK)), max_size=4
)
READ_PARTS = st.lists(READS.filter(lambda read: read[0] in (Op.GET_DATA, Op.GET_CHILDREN)), max_size=4)


class Alike(RuleBasedStateMachine):
    """Several sessions on each server; whatever one does on the one it does on the other."""

    pair: tuple
    differences: list
    numbers = itertools.count(1)

    @initialize()
    def begin(self):
        self.root = f"/r{next(self.numbers)}"
        self.wires = []  # pairs: the same session on both
        self.shown = [Shown(), Shown()]
        self.opened = 0
        for _ in range(2):
            self.open()
        self.ask(0, Op.CREATE, wire.create(self.root))

    def drop(self, who):
        """Let go of a session whose connections are closed."""
        both = self.wires.pop(who)
        for one in both:
            one.close()
        return both

    def open(self):
        self.opened += 1
        both = [Wire(server.hosts) for server in self.pair]
        for shown, one in zip(self.shown, both, strict=True):
            shown.sessions[one.session] = self.opened
        assert both[0].timeout == both[1].timeout
        self.wires.append(both)

    def at(self, path):
        return path.format(r=self.root)

    def ask(self, who, op, body, *, ends=False, ordered=True):
        """Send a request to both, and compare what comes of it on every connection."""
        replies = []
        for shown, one in zip(self.shown, self.wires[who], strict=True):
            try:
                reply = one.ask(op, body)
                replies.append((reply.xid, reply.zxid, reply.code, reply.code or shown.body(op, reply.body)))
            except Closed:
                replies.append("closed")
        self.compare(replies, op, body)
        if ends or replies[0] == "closed":
            self.compare_events(self.drop(who), ordered)
        for both in self.wires:
            for one in both:
                one.ping()
            self.compare_events(both, ordered)
        return replies[0]

    def compare(self, both, *what):
        if both[0] != both[1]:
            self.differences.append(f"{what}: the dev server {both[0]}, the real one {both[1]}")
        assert both[0] == both[1]

    def compare_events(self, both, ordered):
        self.compare([one.events if ordered else sorted(one.events) for one in both], "events")
        for one in both:
            one.events.clear()

    def one_of(self, data):
        return data.draw(st.integers(0, len(self.wires) - 1), label="session")

    # -- what may happen

    @precondition(lambda self: len(self.wires) < 3)
    @rule()
    def a_session_begins(self):
        self.open()

    @precondition(lambda self: self.wires)
    @rule(data=st.data(), write=WRITES)
    def something_is_written(self, data, write):
        op, path, body = write
        self.ask(self.one_of(data), op, body(self.at(path)))

    @precondition(lambda self: self.wires)
    @rule(data=st.data(), read=st.one_of(READS, READS, ABOUT_ONE_PATH))
    def something_is_read(self, data, read):
        op, path, body = read
        self.ask(self.one_of(data), op, body(self.at(path)))

    @precondition(lambda self: self.wires)
    @rule(data=st.data(), request=st.one_of(WATCHES, WATCHES, ACCESS))
    def watches_and_permissions(self, data, request):
        op, path, body = request
        self.ask(self.one_of(data), op, body(self.at(path)))

    @precondition(lambda self: self.wires)
    @rule(data=st.data(), parts=PARTS)
    def several_things_at_once(self, data, parts):
        self.ask(self.one_of(data), Op.MULTI, wire.batch(*((op, body(self.at(path))) for op, path, body in parts)))

    @precondition(lambda self: self.wires)
    @rule(data=st.data(), parts=READ_PARTS)
    def several_reads_at_once(self, data, parts):
        self.ask(self.one_of(data), Op.MULTI_READ, wire.batch(*((op, body(self.at(path))) for op, path, body in parts)))

    @precondition(lambda self: self.wires)
    @rule(data=st.data(), credential=st.sampled_from([b"ann:pw", b"bob:pw", b"no colon", b""]))
    def credentials_are_shown(self, data, credential):
        who = self.one_of(data)
        self.ask(who, Op.AUTH, wire.auth("digest", credential))
        self.ask(who, Op.WHO_AM_I, b"")

    @precondition(lambda self: self.wires)
    @rule(
        data=st.data(),
        how=st.sampled_from(
            ["close", "unknown operation", "unknown scheme", "no scheme", "no credential", "reconfig", "sasl"]
        ),
    )
    def the_unusual(self, data, how):
        who = self.one_of(data)
        match how:
            case "close":
                # The order in which a session's znodes go is nobody's promise.
                self.ask(who, Op.CLOSE, b"", ends=True, ordered=False)
            case "unknown operation":
                self.ask(who, 77, b"", ends=True)
            case "unknown scheme":
                self.ask(who, Op.AUTH, wire.auth("nonsense", b""), ends=True)
            case "no scheme":
                self.ask(who, Op.AUTH, wire.number(0) + jute.NONE + jute.buffer(b"ann:pw"), ends=True)
            case "no credential":
                self.ask(who, Op.AUTH, wire.number(0) + jute.text("digest") + jute.NONE, ends=True)
            case "reconfig":
                self.ask(who, Op.RECONFIG, jute.text("") * 3 + jute.LONG.pack(-1))
            case "sasl":
                self.ask(who, Op.SASL, jute.buffer(b"token"))

    @precondition(lambda self: self.wires)
    @rule(
        data=st.data(),
        op=st.sampled_from([op for op in Op if op not in UNCUT]),
    )
    def a_body_is_cut_short(self, data, op):
        body = data.draw(st.binary(max_size=3))
        self.ask(self.one_of(data), op, body)

    @precondition(lambda self: self.wires)
    @rule(
        data=st.data(),
        paths=st.lists(st.lists(st.sampled_from(DEEP), max_size=3), min_size=5, max_size=5),
        back=st.integers(0, 6),
    )
    def a_session_is_taken_up_again(self, data, paths, back):
        who = self.one_of(data)
        seen = self.ask(who, Op.PING, b"")[1]
        former = self.wires[who]
        self.wires[who] = [
            Wire(server.hosts, session=one.session, password=one.password, last_zxid=seen)
            for server, one in zip(self.pair, former, strict=True)
        ]
        for one, again in zip(former, self.wires[who], strict=True):
            assert again.session == one.session
            with pytest.raises(Closed):
                one.ping()
            one.close()
        known = [[self.at(path) for path in some] for some in paths]
        self.ask(who, Op.SET_WATCHES2, wire.set_watches(seen - back, *known))
        self.ask(who, Op.SET_WATCHES, wire.set_watches(seen - back, *known[:3]))

    @precondition(lambda self: self.wires)
    @rule(data=st.data())
    def a_wrong_password_is_shown(self, data):
        who = self.one_of(data)
        for server, one in zip(self.pair, self.wires[who], strict=True):
            wrong = Wire(server.hosts, session=one.session, password=b"wrong password..")
            assert (wrong.session, wrong.timeout, wrong.password) == (0, 0, bytes(16))
            with pytest.raises(Closed):
                wrong.ping()
            with pytest.raises(Closed):
                one.ping()
            wrong.close()
        self.drop(who)

    def teardown(self):
        for both in self.wires:
            for one in both:
                one.close()


def test_every_reply_and_every_event_is_the_same(pair):
    Alike.pair, Alike.differences = pair, []
    plan = settings(
        max_examples=EXAMPLES,
        stateful_step_count=60,
        phases=[Phase.generate],
        deadline=None,
        derandomize="ZKFLEET_CONFORMANCE" not in os.environ,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(Alike, settings=plan)
    except Exception as exc:
        # Both servers remember, so what hypothesis tries again goes another way: the first time counts.
        raise AssertionError(Alike.differences[0] if Alike.differences else "no difference") from exc
