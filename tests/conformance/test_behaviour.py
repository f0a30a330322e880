"""The same on the dev server and on the real one: what takes time, and what breaks connections."""

import contextlib
import socket
import struct
import time

import pytest

from tests.conformance import wire
from tests.conformance.wire import Closed, Wire
from tests.conftest import wait_for
from tests.devserver.driving import hello, request
from zkfleet.devserver import DevServer, dispatch, jute
from zkfleet.devserver.codes import Code
from zkfleet.devserver.requests import Op
from zkfleet.testing import ZooKeeperServer

pytestmark = pytest.mark.slow
TICK = 0.2
SHORTEST = 2 * TICK
CREATED, DELETED, CHANGED, CHILDREN = 1, 2, 3, 4
CONNECTED = 3
REAL_OPTIONS = (
    "-Dzookeeper.extendedTypesEnabled=true",
    "-Dznode.container.checkIntervalMs=200",
    "-Dznode.container.maxPerMinute=100000",
)


@pytest.fixture(scope="module", params=["dev", "real"])
def server(request, tmp_path_factory):
    """A server whose sessions are short, and which looks after containers all the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "SECONDS_BETWEEN_CLEANINGS", 0.2)
        real = ZooKeeperServer(tmp_path_factory.mktemp("real"), tick=int(TICK * 1000), java_options=REAL_OPTIONS)
        with DevServer(tick=TICK) if request.param == "dev" else real as server:
            yield server


@pytest.fixture
def client(server):
    with client_of(server, timeout=4000) as client:
        yield client
        with contextlib.suppress(Closed, ConnectionError):
            client.ask(Op.CLOSE)


@pytest.fixture
def root(server, client, request):
    """A znode of this test's own; it goes with everything in it."""
    path = f"/{request.node.originalname}"
    assert client.ask(Op.CREATE, wire.create(path)).code == Code.OK
    yield path
    with client_of(server) as cleaner:
        for name in jute.Reader(cleaner.ask(Op.GET_CHILDREN, wire.read(path)).body).texts():
            cleaner.ask(Op.DELETE, wire.delete(f"{path}/{name}"))
        cleaner.ask(Op.DELETE, wire.delete(path))


@contextlib.contextmanager
def client_of(server, **wish):
    with contextlib.closing(Wire(server.hosts, **wish)) as client:
        yield client


def there(client, path):
    return client.ask(Op.EXISTS, wire.read(path)).code == Code.OK


def gone(client, path):
    return not there(client, path)


# -- sessions and time


def test_a_session_that_falls_silent_ends_after_its_timeout_and_at_most_some_ticks(server, client, root):
    with client_of(server, timeout=1000) as silent:
        assert silent.timeout == 1000
        silent.ask(Op.CREATE, wire.create(f"{root}/mine", flags=1))
        client.ask(Op.GET_DATA, wire.read(f"{root}/mine", watch=True))
        begin = time.monotonic()
        with pytest.raises(Closed):
            silent.read()
        wait_for(lambda: gone(client, f"{root}/mine"))
        assert 0.9 < time.monotonic() - begin < 1.0 + 6 * TICK
        assert client.events == [(DELETED, CONNECTED, f"{root}/mine")]
    with client_of(server, session=silent.session, password=silent.password) as again:
        assert (again.session, again.timeout) == (0, 0)


def test_a_session_whose_connection_broke_lives_until_its_timeout(server, client, root):
    with client_of(server, timeout=1500) as lost:
        lost.ask(Op.CREATE, wire.create(f"{root}/mine", flags=1))
    begin = time.monotonic()
    assert there(client, f"{root}/mine")
    with client_of(server, session=lost.session, password=lost.password, timeout=1500) as again:
        assert again.session == lost.session
        assert there(again, f"{root}/mine")
        begin = time.monotonic()
    wait_for(lambda: gone(client, f"{root}/mine"))
    assert 1.3 < time.monotonic() - begin < 1.5 + 6 * TICK


def test_pings_keep_a_session_that_says_nothing_else(server, client, root):
    with client_of(server, timeout=int(SHORTEST * 1000)) as patient:
        patient.ask(Op.CREATE, wire.create(f"{root}/mine", flags=1))
        deadline = time.monotonic() + 4 * SHORTEST
        while time.monotonic() < deadline:
            patient.ping()
            assert there(client, f"{root}/mine")


def test_a_closed_session_is_gone_at_once(server, client, root):
    with client_of(server) as other:
        other.ask(Op.CREATE, wire.create(f"{root}/mine", flags=1))
        assert other.ask(Op.CLOSE).code == Code.OK
        assert gone(client, f"{root}/mine")
        with pytest.raises(Closed):
            other.ping()


@pytest.mark.parametrize(("wanted", "granted"), [(1, 400), (400, 400), (777, 777), (4000, 4000), (100_000, 4000)])
def test_the_timeout_is_held_between_2_and_20_ticks(server, wanted, granted):
    with client_of(server, timeout=wanted) as client:
        assert client.timeout == granted
        client.ask(Op.CLOSE)


# -- connections that come again


def test_watches_that_are_set_again_tell_what_was_missed_and_then_go_on(server, client, root):
    for name in ("same", "changed", "deleted"):
        client.ask(Op.CREATE, wire.create(f"{root}/{name}"))
    with client_of(server, timeout=4000) as first:
        seen = first.ask(Op.EXISTS, wire.read(root)).zxid
    client.ask(Op.SET_DATA, wire.set_data(f"{root}/changed"))
    client.ask(Op.DELETE, wire.delete(f"{root}/deleted"))
    client.ask(Op.CREATE, wire.create(f"{root}/new"))
    with client_of(server, session=first.session, password=first.password, last_zxid=seen, timeout=4000) as again:
        paths = [f"{root}/{name}" for name in ("same", "changed", "deleted")]
        body = wire.set_watches(seen, paths, [f"{root}/new", f"{root}/later"], [root, f"{root}/same"])
        assert again.ask(Op.SET_WATCHES, body).code == Code.OK
        assert sorted(again.events) == sorted(
            [
                (CHANGED, CONNECTED, f"{root}/changed"),
                (DELETED, CONNECTED, f"{root}/deleted"),
                (CREATED, CONNECTED, f"{root}/new"),
                (CHILDREN, CONNECTED, root),
            ]
        )
        again.events.clear()
        client.ask(Op.CREATE, wire.create(f"{root}/later"))
        client.ask(Op.SET_DATA, wire.set_data(f"{root}/same"))
        again.ping()
        assert again.events == [(CREATED, CONNECTED, f"{root}/later"), (CHANGED, CONNECTED, f"{root}/same")]
        again.ask(Op.CLOSE)


def test_watches_end_with_their_connection(server, client, root):
    with client_of(server, timeout=4000) as first:
        first.ask(Op.GET_CHILDREN, wire.read(root, watch=True))
        first.ask(Op.ADD_WATCH, jute.text(root) + wire.number(1))
    with client_of(server, session=first.session, password=first.password, timeout=4000) as again:
        client.ask(Op.CREATE, wire.create(f"{root}/a"))
        again.ping()
        assert again.events == []
        again.ask(Op.CLOSE)


def test_whoever_comes_later_has_the_session(server, client):
    with client_of(server, session=client.session, password=client.password, timeout=4000) as thief:
        assert thief.session == client.session
        with pytest.raises(Closed):
            client.ping()
        thief.ping()


def test_a_client_that_has_seen_a_later_transaction_is_refused(server, client, root):
    ahead = client.ask(Op.PING).zxid + 10**6
    with pytest.raises(Closed):
        Wire(server.hosts, last_zxid=ahead)
    with client_of(server, last_zxid=client.ask(Op.PING).zxid) as level:
        level.ping()


def test_a_restart_keeps_znodes_and_sessions(tmp_path):
    real = ZooKeeperServer(tmp_path / "own", tick=500)
    for server in (DevServer(tick=0.5), real):
        with server, client_of(server, timeout=8000) as client:
            client.ask(Op.CREATE, wire.create("/kept", b"data"))
            client.ask(Op.CREATE, wire.create("/mine", flags=1))
            seen = client.ask(Op.SYNC, jute.text("/")).zxid
            server.restart()
            with client_of(
                server, session=client.session, password=client.password, timeout=8000, last_zxid=seen
            ) as again:
                assert again.session == client.session
                assert there(again, "/kept")
                assert there(again, "/mine")


def test_a_wipe_forgets_sessions(tmp_path):
    real = ZooKeeperServer(tmp_path / "own", tick=500)
    for server in (DevServer(tick=0.5), real):
        with server:
            with client_of(server, timeout=8000) as client:
                client.ask(Op.CREATE, wire.create("/gone", b"data"))
            server.wipe()
            with client_of(server, session=client.session, password=client.password) as again:
                assert again.session == 0
            with client_of(server) as other:
                assert gone(other, "/gone")


# -- containers, and znodes with a time to live


def test_an_empty_container_goes_once_it_has_held_something(server, client, root):
    client.ask(Op.CREATE_CONTAINER, wire.create(f"{root}/used", flags=4))
    client.ask(Op.CREATE_CONTAINER, wire.create(f"{root}/unused", flags=4))
    client.ask(Op.CREATE, wire.create(f"{root}/used/a"))
    client.ask(Op.GET_CHILDREN, wire.read(root, watch=True))
    client.ask(Op.DELETE, wire.delete(f"{root}/used/a"))
    wait_for(lambda: gone(client, f"{root}/used"))
    assert there(client, f"{root}/unused")
    assert client.events == [(CHILDREN, CONNECTED, root)]


def test_a_znode_goes_when_nobody_wrote_it_for_its_time(server, client, root):
    client.ask(Op.CREATE_TTL, wire.create(f"{root}/short", flags=5, ttl=500))
    client.ask(Op.CREATE_TTL, wire.create(f"{root}/parent", flags=5, ttl=500))
    client.ask(Op.CREATE, wire.create(f"{root}/parent/a"))
    client.ask(Op.CREATE_TTL, wire.create(f"{root}/long", flags=5, ttl=60_000))
    client.ask(Op.EXISTS, wire.read(f"{root}/short", watch=True))
    begin = time.monotonic()
    wait_for(lambda: gone(client, f"{root}/short"))
    assert time.monotonic() - begin > 0.4
    assert client.events == [(DELETED, CONNECTED, f"{root}/short")]
    assert there(client, f"{root}/parent")
    assert there(client, f"{root}/long")
    client.ask(Op.DELETE, wire.delete(f"{root}/parent/a"))
    wait_for(lambda: gone(client, f"{root}/parent"))


# -- packets


def test_the_longest_packet_is_taken_and_a_longer_one_closes_the_connection(server, client, root):
    empty = len(request(1, Op.CREATE, wire.create(f"{root}/long"))) - 4
    data = bytes(1_048_575 - empty)
    assert client.ask(Op.CREATE, wire.create(f"{root}/long", data)).code == Code.OK
    assert jute.Reader(client.ask(Op.GET_DATA, wire.read(f"{root}/long")).body).buffer() == data
    with client_of(server) as other, pytest.raises((Closed, ConnectionError)):
        other.ask(Op.SET_DATA, wire.set_data(f"{root}/long", data + bytes(100)))
    with client_of(server) as other:
        body = wire.create(f"{root}/much", data + b"x")
        assert len(body) + 8 == 1_048_576
        with pytest.raises((Closed, ConnectionError)):
            other.ask(Op.CREATE, body)
    assert gone(client, f"{root}/much")


def test_a_reply_may_be_longer_than_the_longest_packet(client, root):
    names = [f"{number}-" + "x" * 100_000 for number in range(12)]
    for name in names:
        assert client.ask(Op.CREATE, wire.create(f"{root}/{name}")).code == Code.OK
    assert sorted(jute.Reader(client.ask(Op.GET_CHILDREN, wire.read(root)).body).texts()) == sorted(names)


@pytest.mark.parametrize("size", [-1, 2**31 - 1, 1_048_576, -(2**31)])
def test_an_impossible_length_closes_the_connection(server, size):
    with client_of(server) as client:
        client.socket.sendall(jute.INT.pack(size))
        with pytest.raises(Closed):
            client.read()


def test_requests_sent_without_waiting_are_answered_in_their_order(client, root):
    packets = []
    for xid in range(1, 301):
        kind = xid % 3
        if kind == 0:
            packets.append(request(xid, Op.CREATE, wire.create(f"{root}/s-", flags=2)))
        elif kind == 1:
            packets.append(request(xid, Op.GET_CHILDREN, wire.read(root)))
        else:
            packets.append(request(xid, Op.GET_DATA, wire.read(f"{root}/nowhere")))
    client.socket.sendall(b"".join(packets))
    zxids, below = [], []
    for xid in range(1, 301):
        payload = client.read()
        got, zxid, code = struct.unpack_from(">iqi", payload)
        assert got == xid
        assert code == (Code.NO_NODE if xid % 3 == 2 else Code.OK)
        zxids.append(zxid)
        if xid % 3 == 1:
            below.append(len(jute.Reader(payload, 16).texts()))
    # Each read sees all that was written before it, and nothing that was written after.
    assert below == list(range(100))
    assert zxids == sorted(zxids)


def test_the_reply_to_a_new_session_may_be_followed_at_once(server):
    with contextlib.closing(socket.create_connection(("127.0.0.1", server.port), 10)) as connection:
        connection.sendall(jute.framed(hello(timeout=4000)) + request(7, Op.EXISTS, wire.read("/")))
        stream = connection.makefile("rb")
        (size,) = jute.INT.unpack(stream.read(4))
        assert jute.Reader(stream.read(size), 8).long() != 0
        (size,) = jute.INT.unpack(stream.read(4))
        assert struct.unpack_from(">iqi", stream.read(size))[::2] == (7, Code.OK)
        stream.close()


def test_events_come_before_the_reply_that_reveals_the_change(server, client, root):
    with client_of(server) as other:
        for number in range(30):
            client.ask(Op.GET_DATA, wire.read(root, watch=True))
            other.ask(Op.SET_DATA, wire.set_data(root, str(number).encode()))
            seen = jute.Reader(client.ask(Op.GET_DATA, wire.read(root)).body).buffer()
            # The other's write was answered, but that says nothing of this connection on an ensemble; here it does.
            assert seen == str(number).encode()
            assert client.events == [(CHANGED, CONNECTED, root)]
            client.events.clear()


def test_a_paused_server_answers_what_waited_and_a_session_may_outlive_it(tmp_path):
    real = ZooKeeperServer(tmp_path / "own", tick=500)
    for server in (DevServer(tick=0.5), real):
        with server, client_of(server, timeout=5000) as client:
            server.pause()
            client.socket.settimeout(0.2)
            with pytest.raises(TimeoutError):
                client.ping()
            client.socket.settimeout(10)
            server.resume()
            assert struct.unpack_from(">i", client.read())[0] == -2
            assert client.ask(Op.CREATE, wire.create("/a")).code == Code.OK


def test_nobody_hears_of_what_they_may_not_read(server, client, root):
    # CVE-2024-23944: such a watch has fired all the same, without a word.
    client.ask(Op.AUTH, wire.auth("digest", b"ann:pw"), xid=-4)
    path = f"{root}/secret"
    with client_of(server) as curious:
        curious.ask(Op.ADD_WATCH, jute.text(root) + wire.number(1))
        curious.ask(Op.EXISTS, wire.read(path, watch=True))
        assert client.ask(Op.CREATE, wire.create(path, b"1", acl=((31, "auth", ""),))).code == Code.OK
        client.ask(Op.SET_DATA, wire.set_data(path, b"2"))
        client.ask(Op.DELETE, wire.delete(path))
        client.ask(Op.CREATE, wire.create(path))
        curious.ping()
        assert curious.events == [(CREATED, CONNECTED, path)]


def test_deep_and_wide_trees_are_counted_alike(server, client, root):
    path = root
    for _ in range(200):
        path += "/d"
        assert client.ask(Op.CREATE, wire.create(path)).code == Code.OK
    assert client.ask(Op.COUNT_ALL, jute.text(root)).body == wire.number(200)
    while path != root:
        assert client.ask(Op.DELETE, wire.delete(path)).code == Code.OK
        path = path.rpartition("/")[0]
