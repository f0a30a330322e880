"""Whatever is sent, the server answers or closes: nothing is raised, and what holds goes on holding.

`make fuzz` runs this for ten minutes; in `make test` it is half of one.
"""

import contextlib
import os
import random
import time

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conformance import wire
from tests.devserver.driving import Driven, check_invariants, hello, request
from tests.devserver.making import DATA, INTERESTING, OFTEN, PATHS, THERE, a_body
from zkfleet.devserver import jute, words
from zkfleet.devserver.jute import Malformed
from zkfleet.devserver.requests import Op, connect, decode

SECONDS = float(os.environ.get("ZKFLEET_FUZZ_SECONDS", "30"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 120)]
BODIES = st.one_of(
    st.binary(max_size=60),
    # Numbers and texts in any order are more often nearly right.
    st.lists(
        st.one_of(
            st.sampled_from(INTERESTING).map(jute.INT.pack),
            st.sampled_from(PATHS).map(jute.text),
            st.sampled_from(DATA).map(jute.buffer),
            st.sampled_from([b"\0", b"\1"]),
        ),
        max_size=6,
    ).map(b"".join),
)


DAMAGES = ["none"] * 6 + ["flip", "cut", "longer", "number", "bytes", "frame"]


def damaged(packet, how, rng):
    """Return a packet with something wrong with it."""
    packet = bytearray(packet)
    place = rng.randrange(len(packet))
    match how:
        case "flip":
            packet[place] ^= 1 << rng.randrange(8)
        case "cut":
            del packet[place:]
            packet[:4] = jute.INT.pack(max(len(packet) - 4, 0))
        case "longer":
            packet += rng.randbytes(rng.randrange(20))
            packet[:4] = jute.INT.pack(len(packet) - 4)
        case "number":
            place = rng.randrange(4, max(len(packet) - 4, 5))
            packet[place : place + 4] = jute.INT.pack(rng.choice(INTERESTING))
            packet[:4] = jute.INT.pack(len(packet) - 4)
        case "bytes":
            packet[4:] = rng.randbytes(len(packet) - 4)
        case "frame":
            packet[:4] = jute.INT.pack(rng.choice([*INTERESTING, len(packet) + 20]))
    return bytes(packet)


# -- what happens to a server


class Play:
    """Several clients that do what a seed says."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.driven = Driven()
        self.clients = [self.driven.session() for _ in range(3)]
        for path in THERE:
            assert self.clients[0].ask(Op.CREATE, wire.create(path)).code == 0

    def step(self):
        rng, driven = self.rng, self.driven
        what = rng.random()
        if what < 0.03:
            driven.pass_time(rng.choice([0.1, 3, 11, 70]))
        elif what < 0.05:
            client = rng.choice(self.clients)
            if not client.closed:
                client.leave()
        elif what < 0.06:
            driven.carry_out(driven.core.expire(rng.choice([*driven.core.sessions.timeouts, 0, -5])))
        self.clients = [client for client in self.clients if not client.closed]
        while len(self.clients) < 3:
            self.clients.append(self.newcomer())
        client = rng.choice(self.clients)
        if client.session:
            client.feed(self.packets())
        else:
            client.feed(rng.randbytes(rng.choice([1, 4, 40])))
        while client.held:
            client.go_on()
        client.inbox.clear()

    def newcomer(self):
        rng = self.rng
        match rng.randrange(6):
            case 0:  # nobody we know
                return self.driven.connection().feed(
                    rng.choice(
                        [rng.randbytes(40), rng.choice(list(words.WORDS)), jute.framed(hello(last_zxid=1 << 62))]
                    )
                )
            case 1:
                return self.driven.connection().feed(damaged(jute.framed(hello()), rng.choice(DAMAGES), rng))
            case 2:  # a session that is somebody's
                known = list(self.driven.core.sessions.timeouts) or [1]
                session = rng.choice(known)
                password = rng.choice([self.driven.core.sessions.password(session), bytes(16), b""])
                return self.driven.session(session=session, password=password)
        return self.driven.session()

    def packets(self):
        rng = self.rng
        found = b""
        for _ in range(rng.choice([1, 1, 1, 3])):
            op = rng.choice(OFTEN)
            found += damaged(request(rng.randrange(-9, 99), op, a_body(op, rng.choice)), rng.choice(DAMAGES), rng)
        return found


def test_damaged_requests_break_nothing():
    deadline = time.monotonic() + SECONDS * 0.6
    seed = int(os.environ.get("ZKFLEET_FUZZ_SEED", time.time_ns()))
    plays = 0
    while time.monotonic() < deadline:
        play = Play(seed + plays)
        plays += 1
        try:
            for _ in range(150):
                play.step()
            check_invariants(play.driven.core)
        except Exception as exc:
            raise AssertionError(f"play again with ZKFLEET_FUZZ_SEED={seed + plays - 1}: {exc!r}") from exc
    assert plays > 3


# -- and what hypothesis thinks of

FEW = settings(
    max_examples=200, database=None, phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck)
)
SHARE = SECONDS / 10


def again_and_again(property_):
    """Run a property for its share of the time: hypothesis counts examples, and knows no clock."""
    deadline = time.monotonic() + SHARE
    while time.monotonic() < deadline:
        property_()


def test_any_bytes_at_all_break_nothing():
    @FEW
    @given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=80)), max_size=10))
    def property_(pieces):
        driven = Driven()
        clients = [driven.connection(), driven.session(), driven.session()]
        for who, piece in pieces:
            if not clients[who].closed:
                clients[who].feed(piece)
        driven.check()
        assert driven.session().ask(Op.PING).code == 0

    again_and_again(property_)


def test_any_body_of_any_operation_is_answered_or_ends_the_connection():
    @FEW
    @given(st.lists(st.tuples(st.one_of(st.sampled_from(Op), st.integers(-(2**31), 2**31 - 1)), BODIES), max_size=10))
    def property_(requests):
        driven = Driven()
        client = driven.session()
        for xid, (op, body) in enumerate(requests):
            if client.closed:
                break
            client.feed(request(xid, op, body))
            assert client.closed or client.hear() or op == Op.CHECK, f"{op} is not answered"
        driven.check()

    again_and_again(property_)


def test_the_codec_takes_bytes_or_calls_them_malformed():
    @FEW
    @given(st.sampled_from(Op), BODIES)
    def property_(op, body):
        for take in (lambda: decode(op, jute.Reader(body)), lambda: connect(body)):
            with contextlib.suppress(Malformed):
                take()

    again_and_again(property_)


def test_what_the_codec_wrote_it_reads():
    # What is beyond 16 bits it writes as ZooKeeper does, which is no UTF-8.
    texts = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]))
    buffers = st.one_of(st.none(), st.binary())
    entries = st.builds(jute.AclEntry, st.integers(-(2**31), 2**31 - 1), texts, texts)

    @FEW
    @given(texts, buffers, st.lists(texts), st.lists(entries))
    def property_(text, buffer, several, acl):
        reader = jute.Reader(jute.text(text) + jute.buffer(buffer) + jute.texts(several) + jute.acl(acl))
        assert (reader.text(), reader.buffer(), reader.texts(), reader.acl()) == (text, buffer, several, acl)
        assert reader.at_end

    again_and_again(property_)
