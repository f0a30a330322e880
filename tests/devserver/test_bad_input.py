"""Whatever comes over the wire, the server says so in a line of its log, and works on for everybody else."""

import contextlib
import os
import random
import socket
import struct

import pytest

from tests.conformance import wire
from tests.conformance.wire import Closed, Wire
from tests.conftest import wait_for
from tests.devserver.driving import hello, request
from tests.devserver.served import GREETING, Bystander, Served, cut, is_closed, open_files, raw
from zkfleet.devserver import DevServer, connections, jute
from zkfleet.devserver.codes import Code
from zkfleet.devserver.requests import Op
from zkfleet.testing.zookeeper import four_letters

pytestmark = pytest.mark.slow
HALF_OPEN = int(os.environ.get("ZKFLEET_HALF_OPEN", "100000"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    served = Served(tmp_path_factory.mktemp("served") / "log")
    yield served
    served.stop()


@pytest.fixture
def served(shared):
    """A server that is found to be well, with no more than it had in memory, and nobody disturbed."""
    before = shared.mebibytes()
    with Bystander(shared.hosts):
        yield shared
    with contextlib.closing(Wire(shared.hosts)) as newcomer:
        newcomer.ping()
    assert shared.mebibytes() - before < 60
    assert "Traceback" not in shared.log()


def a_session(served):
    connection = raw(served, GREETING)
    connection.recv(100)
    return connection


# -- bytes


def test_random_bytes_are_answered_or_the_connection_is_closed(served):
    rng = random.Random(11)
    for begin in (raw, a_session):
        for _ in range(150):
            connection = begin(served)
            with contextlib.suppress(ConnectionError):
                connection.sendall(rng.randbytes(rng.choice([1, 3, 4, 5, 40, 2000])))
            cut(connection)


def test_frames_that_are_cut_anywhere_do_no_harm(served):
    whole = GREETING + request(1, Op.CREATE, wire.create("/never", bytes(20)))[:-1]
    for place in range(len(whole)):
        cut(raw(served, whole[:place]))
        raw(served, whole[:place]).close()
    with contextlib.closing(Wire(served.hosts)) as other:
        assert other.ask(Op.EXISTS, wire.read("/never")).code == Code.NO_NODE


@pytest.mark.parametrize("begin", [raw, a_session])
@pytest.mark.parametrize("size", [-1, -2, -(2**31), jute.LONGEST + 1, 2**31 - 1])
def test_an_impossible_length_closes_the_connection_and_takes_no_memory(served, begin, size):
    before, told = served.mebibytes(), served.count("connection_closed")
    connection = begin(served)
    connection.sendall(jute.INT.pack(size))
    assert is_closed(connection)
    connection.close()
    assert served.mebibytes() - before < 10
    wait_for(lambda: served.count("connection_closed") > told, what="a line in the log")


@pytest.mark.parametrize("number", [-12, -1, 0, 10, 77, 108, 2**31 - 1, -(2**31)])
def test_an_unknown_operation_is_told_so_and_the_connection_closed(served, number):
    told = served.count("operation_unknown")
    with contextlib.closing(Wire(served.hosts)) as client:
        assert client.ask(number, b"whatever").code == Code.UNIMPLEMENTED
        with pytest.raises(Closed):
            client.ping()
    assert served.count("operation_unknown") == told + 1


@pytest.mark.parametrize(
    "path",
    [b"/\xff\xfe", b"/a\xc3", b"/\xed\xa0\x80", b"/a\0b", b"/a//b", b"/a/", b"/.", b"/../a", b"a", b"", b"/\x01"],
)
def test_a_path_that_is_none_is_a_bad_argument(served, path):
    with contextlib.closing(Wire(served.hosts)) as client:
        rest = wire.create("")[4:]
        reply = client.ask(Op.CREATE, jute.INT.pack(len(path)) + path + rest)
        assert reply.code in (Code.BAD_ARGUMENTS, Code.NO_NODE)
        assert client.ask(Op.SET_DATA, jute.INT.pack(len(path)) + path + wire.set_data("")[4:]).code < 0
        assert client.ask(Op.PING).code == Code.OK


def test_a_request_that_is_cut_short_is_told_so(served):
    with contextlib.closing(Wire(served.hosts)) as client:
        whole = wire.create("/short", b"data")
        for place in range(len(whole)):
            assert client.ask(Op.CREATE, whole[:place]).code == Code.MARSHALLING_ERROR
        assert client.ask(Op.EXISTS, wire.read("/short")).code == Code.NO_NODE


def test_a_vector_of_two_thousand_million_takes_no_memory(served):
    with contextlib.closing(Wire(served.hosts)) as client:
        for count in (2**31 - 1, 10**8):
            body = jute.text("/a") + jute.buffer(b"") + jute.INT.pack(count)
            assert client.ask(Op.CREATE, body).code == Code.MARSHALLING_ERROR
            assert client.ask(Op.SET_WATCHES, jute.LONG.pack(0) + jute.INT.pack(count)).code == Code.MARSHALLING_ERROR


# -- sessions


def test_a_session_that_is_not_yours_stays_its_owners(served):
    with contextlib.closing(Wire(served.hosts)) as owner:
        owner.ask(Op.CREATE, wire.create("/owned", flags=1))
        for password in (bytes(16), b"", b"x" * 16, owner.password[:15], owner.password + b"x"):
            with contextlib.closing(Wire(served.hosts, session=owner.session, password=password)) as thief:
                assert (thief.session, thief.timeout) == (0, 0)
                with pytest.raises(Closed):
                    thief.ping()
        with contextlib.closing(Wire(served.hosts, session=owner.session, password=owner.password)) as again:
            assert again.session == owner.session
            assert again.ask(Op.DELETE, wire.delete("/owned")).code == Code.OK


@pytest.mark.parametrize("session", [1, -1, 2**63 - 1, -(2**63)])
def test_a_session_that_is_nobodys_is_refused(served, session):
    told = served.count("session_refused")
    with contextlib.closing(Wire(served.hosts, session=session)) as client:
        assert client.session == 0
    assert served.count("session_refused") > told


def test_credentials_of_an_unknown_scheme_are_refused_and_end_the_connection(served):
    told = served.count("credential_refused")
    with contextlib.closing(Wire(served.hosts)) as client:
        assert client.ask(Op.AUTH, wire.auth("nonsense\n" * 1000, b"x"), xid=-4).code == Code.AUTH_FAILED
        with pytest.raises(Closed):
            client.ping()
    assert served.count("credential_refused") == told + 1


def test_a_first_packet_that_is_none_closes_the_connection(served):
    for payload in (b"", b"x", hello()[:-2], struct.pack(">iqiq", 0, 0, 0, 0) + jute.INT.pack(2**31 - 1)):
        connection = raw(served, jute.framed(payload))
        assert is_closed(connection)
        connection.close()


# -- many


@pytest.mark.timeout(90)
def test_a_hundred_thousand_half_open_connections_in_turn(served):
    half = GREETING[: len(GREETING) // 2]
    for number in range(HALF_OPEN):
        connection = socket.socket()
        connection.connect(("127.0.0.1", served.port))
        if number % 2:
            connection.send(half)
        cut(connection)
        if number % 500 == 0:
            # Nobody can be faster than the server for long: the kernel makes them wait.
            assert four_letters(served.port, "ruok") == "imok"
    wait_for(lambda: served.files() < 30, 30, what="all connections gone")


def test_two_thousand_connections_that_say_nothing(served):
    with open_files(2200) as allowed, contextlib.ExitStack() as stack:
        before = served.mebibytes()
        number = min(2000, allowed - 150)
        idle = [stack.enter_context(contextlib.closing(raw(served))) for _ in range(number)]
        wait_for(lambda: served.files() >= number, what="all connections taken")
        assert served.mebibytes() - before < 40
        with contextlib.closing(Wire(served.hosts)) as client:
            assert client.ask(Op.CREATE, wire.create("/busy")).code == Code.OK
            assert client.ask(Op.DELETE, wire.delete("/busy")).code == Code.OK
        assert all(connection.fileno() > 0 for connection in idle)
    wait_for(lambda: served.files() < 30, what="all connections gone")


def test_two_thousand_sessions_live_side_by_side(served):
    with open_files(2200) as allowed, contextlib.ExitStack() as stack:
        number = min(2000, allowed - 150)
        clients = [stack.enter_context(contextlib.closing(Wire(served.hosts))) for _ in range(number)]
        assert len({client.session for client in clients}) == number
        for client in clients[::100]:
            client.ping()
    wait_for(lambda: served.files() < 30, what="all connections gone")


def test_a_server_that_may_open_no_more_files_says_so_once_and_recovers(tmp_path):
    served = Served(tmp_path / "log", files=40)
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(contextlib.closing(raw(served)))
        wait_for(lambda: served.count("devserver_fault"), what="a line in the log")
    with contextlib.closing(Wire(served.hosts)) as client:
        client.ping()
    assert served.count("devserver_fault") == 1
    served.stop()


# -- those who do not read


def a_deaf_client(served):
    """A session whose client takes next to nothing from its socket."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", served.port))
    connection.settimeout(10)
    connection.sendall(GREETING)
    connection.recv(45, socket.MSG_WAITALL)
    return connection


def test_a_client_that_asks_for_gigabytes_and_reads_nothing_waits_alone(served):
    with contextlib.closing(Wire(served.hosts)) as writer:
        assert writer.ask(Op.CREATE, wire.create("/large", bytes(1_000_000))).code == Code.OK
        before = served.mebibytes()
        deaf = a_deaf_client(served)
        deaf.settimeout(0.5)
        # Some 40,000 replies of a megabyte each.
        flood = b"".join(request(xid, Op.GET_DATA, wire.read("/large")) for xid in range(40_000))
        with contextlib.suppress(TimeoutError):
            deaf.sendall(flood)
        assert writer.ask(Op.SET_DATA, wire.set_data("/large", bytes(1_000_000))).code == Code.OK
        assert served.mebibytes() - before < 40
        cut(deaf)
        assert writer.ask(Op.DELETE, wire.delete("/large")).code == Code.OK


def test_a_client_that_asks_for_much_and_reads_it_gets_it_all(served):
    with contextlib.closing(Wire(served.hosts)) as client:
        assert client.ask(Op.CREATE, wire.create("/large", bytes(1_000_000))).code == Code.OK
        client.socket.sendall(b"".join(request(xid, Op.GET_DATA, wire.read("/large")) for xid in range(200)))
        assert [struct.unpack_from(">i", client.read())[0] for _ in range(200)] == list(range(200))
        assert client.ask(Op.DELETE, wire.delete("/large")).code == Code.OK


def test_a_client_that_never_reads_its_events_is_disconnected(served):
    before = served.mebibytes()
    told = served.count("client_dropped")
    deaf = a_deaf_client(served)
    long = "x" * 400_000
    deaf.sendall(request(1, Op.ADD_WATCH, jute.text("/") + wire.number(1)))
    deaf.recv(24, socket.MSG_WAITALL)
    with contextlib.closing(Wire(served.hosts)) as writer:
        for _ in range(100):
            assert writer.ask(Op.CREATE, wire.create(f"/{long}")).code == Code.OK
            assert writer.ask(Op.DELETE, wire.delete(f"/{long}")).code == Code.OK
            if served.count("client_dropped") > told:
                break
        assert served.count("client_dropped") == told + 1
    assert is_closed(deaf)
    deaf.close()
    assert served.mebibytes() - before < 60


def test_a_closed_connection_is_not_kept_for_a_client_that_does_not_read(monkeypatch):
    monkeypatch.setattr(connections, "SECONDS_FOR_LAST_WORDS", 0.1)
    with DevServer() as served, contextlib.closing(Wire(served.hosts)) as writer:
        writer.ask(Op.CREATE, wire.create("/large", bytes(1_000_000)))
        deaf = a_deaf_client(served)
        deaf.sendall(b"".join(request(xid, Op.GET_DATA, wire.read("/large")) for xid in range(20)))
        (session,) = set(served.core.sessions.timeouts) - {writer.session}
        writer.ping()
        served.expire_session(session)
        wait_for(lambda: len(served._run.connections.transports) == 1, what="the connection is given up")
        deaf.close()
