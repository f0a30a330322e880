"""What is true of a connection as a whole, however many use it."""

import contextlib
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from kazoo.client import KazooClient

import zkfleet
from tests.conftest import wait_for
from zkfleet import Status
from zkfleet.registry.reads import GetData, Mode
from zkfleet.registry.tap import PlacedWatches, Tap
from zkfleet.registry.wire import MultiRead
from zkfleet.testing import Proxy

PROVIDERS = "/svc/providers"


class Deaf:
    """A listener that hears nothing."""

    def on_event(self, event, path):
        pass

    def on_grant(self, timeout):
        pass


@pytest.fixture
def client(hosts):
    client = KazooClient(hosts)
    client.start()
    client.ensure_path(PROVIDERS)
    yield client
    client.stop()
    client.close()


@pytest.fixture
def two(client):
    """Two registries on one client."""
    with zkfleet.connect(client=client) as first, zkfleet.connect(client=client) as second:
        yield first, second


def test_a_watch_is_asked_for_once_and_never_for_less():
    placed = PlacedWatches()
    assert placed.place("/a", Mode.PERSISTENT)
    assert not placed.place("/a", Mode.PERSISTENT)
    assert placed.place("/a", Mode.RECURSIVE)
    assert not placed.place("/a", Mode.PERSISTENT)
    assert placed.is_recursive("/a")
    placed.doubt()
    assert placed.place("/a", Mode.PERSISTENT)
    placed.doubt()
    assert (placed.drop("/a"), placed.drop("/a"), len(placed)) == (True, False, 0)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_registries_that_share_a_client_see_what_the_other_watches_otherwise(two, kazoo, order):
    opened = {}
    for which in order:
        opened[which] = two[0].providers(PROVIDERS) if which == 0 else two[1].children(PROVIDERS)
    kazoo.create(f"{PROVIDERS}/h:1", b'{"w":1}')
    opened[0].wait_until(lambda v: "h:1" in v, 3)
    opened[1].wait_until(lambda v: list(v) == ["h:1"], 3)
    kazoo.set(f"{PROVIDERS}/h:1", b'{"w":2}')
    opened[0].wait_until(lambda v: v["h:1"]["w"] == 2, 3)


def test_registries_that_share_a_client_do_not_fight_for_an_endpoint(two, kazoo):
    first = two[0].register(PROVIDERS, "h:1", weight=1)
    second = two[1].register(PROVIDERS, "h:1", weight=2)
    assert (first.status, second.status) == (Status.REGISTERED, Status.BLOCKED)
    second.close()
    data, stat = kazoo.get(f"{PROVIDERS}/h:1")
    assert (json.loads(data)["weight"], stat.version) == (1, 0)


@pytest.mark.slow
def test_many_requests_at_once_leave_room_for_others(client):
    listener, done, most = Deaf(), [], [0]
    tap = Tap.join(client, listener)
    held, released = threading.Event(), threading.Event()
    client._call(_Hold(held, released), client.handler.async_result())  # keeps kazoo's thread away
    assert held.wait(5)
    for _ in range(2000):
        tap.send(MultiRead((GetData("/"),), client.chroot), lambda value, error, zxid: done.append(error))
        most[0] = max(most[0], tap._bytes)
    assert most[0] == Tap.MOST_BYTES
    released.set()
    wait_for(lambda: len(done) == 2000)
    assert set(done) == {None}
    tap.leave(listener)


class _Hold:
    """A request whose bytes take as long to make as we want."""

    type = 4

    def __init__(self, held, released):
        self._held, self._released = held, released

    def serialize(self):
        self._held.set()
        self._released.wait(10)
        return MultiRead((GetData("/"),)).serialize()[9:]

    def deserialize(self, buffer, offset):
        return True


@pytest.mark.slow
@pytest.mark.faults
def test_a_client_that_its_owner_stopped_and_started_again_is_followed(hosts, proxy, kazoo):
    kazoo.ensure_path(PROVIDERS)
    client = KazooClient(proxy.hosts + hosts[hosts.index("/") :], timeout=4)
    registry = zkfleet.connect(client=client, timeout=5)
    view = registry.children(PROVIDERS)
    proxy.refuse()
    wait_for(lambda: view.stale_since)
    for _ in range(100):
        registry.session.send(MultiRead((GetData("/"),), client.chroot), lambda value, error, zxid: None)
    client.stop()
    client.close()
    proxy.heal()
    client.start()
    kazoo.create(f"{PROVIDERS}/x")
    view.wait_until(lambda v: list(v) == ["x"] and v.stale_since is None, 10)
    assert registry.exists("/")
    registry.close()
    client.stop()
    client.close()


@pytest.mark.slow
@pytest.mark.faults
def test_a_session_is_not_given_up_when_it_was_taken_up_meanwhile(hosts, proxy, kazoo):
    with zkfleet.connect(proxy.hosts + hosts[hosts.index("/") :], session_timeout=5) as registry:
        former = registry.session.session_id
        proxy.cut()
        wait_for(lambda: registry.statistics().reconnects == 1)
        registry.session.forget()  # decided before that link came back
        proxy.cut()
        wait_for(lambda: registry.statistics().reconnects == 2)
        assert registry.exists("/")
        assert registry.session.session_id == former


@pytest.mark.slow
@pytest.mark.faults
def test_closing_does_not_wait_for_a_server_that_answers_no_greeting(zookeeper):
    with Proxy(zookeeper.port) as relay:
        registry = zkfleet.connect(relay.hosts, session_timeout=20, timeout=1)
        relay.black_hole()
        relay.cut()
        ended = threading.Thread(target=registry.close)
        ended.start()
        ended.join(8)
        assert not ended.is_alive()
        relay.heal()


class Swallower(threading.Thread):
    """A relay for one connection that keeps one reply of the server back when it is told to."""

    def __init__(self, target):
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.hosts = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._target, self.swallow = target, threading.Event()
        self._ends = []
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._ends += [client, server]
                for source, sink, replies in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._relay, args=(source, sink, replies), daemon=True).start()

    def _relay(self, source, sink, replies):
        with contextlib.suppress(OSError), source.makefile("rb") as stream:
            while not replies and (data := stream.read1()):
                sink.sendall(data)
            while size := stream.read(4):
                payload = stream.read(int.from_bytes(size))
                is_reply = int.from_bytes(payload[:4], signed=True) > 0
                if is_reply and self.swallow.is_set():
                    self.swallow.clear()
                else:
                    sink.sendall(size + payload)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def stop(self):
        for end in [self._listener, *self._ends]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.mark.slow
@pytest.mark.faults
def test_a_reply_that_never_comes_costs_a_connection_and_not_the_client(zookeeper, hosts, kazoo):
    # A member that has just learned that a session is over drops its requests without a word.
    kazoo.ensure_path(PROVIDERS)
    relay = Swallower(zookeeper.port)
    with zkfleet.connect(relay.hosts + hosts[hosts.index("/") :], session_timeout=5) as registry:
        view = registry.children(PROVIDERS)
        registration = registry.register(PROVIDERS, "h:1")
        relay.swallow.set()
        # One waits for a reply that does not come; the next reply, the other's, shows it.
        with ThreadPoolExecutor(2) as two:
            assert all(two.map(registry.exists, [PROVIDERS] * 4))
        kazoo.create(f"{PROVIDERS}/x")
        view.wait_until(lambda v: list(v) == ["h:1", "x"] and v.stale_since is None)
        wait_for(lambda: registration.status is Status.REGISTERED)
        assert registry.statistics().reconnects >= 1
    relay.stop()
