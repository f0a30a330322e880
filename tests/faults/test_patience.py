"""Members that are dead, mute or silent cost a moment, and not the session."""

import contextlib
import socket
import threading

import pytest
from kazoo.client import KazooClient
from kazoo.protocol.serialization import SetData

import zkfleet
from tests.conftest import wait_for
from zkfleet.devserver import DevServer
from zkfleet.testing import Proxy, ZooKeeperServer

pytestmark = [pytest.mark.slow, pytest.mark.faults]


@contextlib.contextmanager
def mute_member():
    """A member that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def dead_member():
    """A member whose host is off: what is sent there is lost, SYNs too."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):  # more than it has room for
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("member", [mute_member, dead_member])
def test_members_that_do_not_answer_do_not_cost_the_session(hosts, proxy, member):
    chroot = hosts[hosts.index("/") :]
    with contextlib.ExitStack() as stack:
        members = [stack.enter_context(member()) for _ in range(3)] + [proxy.hosts]
        registry = stack.enter_context(zkfleet.connect(",".join(members) + chroot, session_timeout=8))
        session = registry.session.session_id
        for number in range(1, 4):
            proxy.cut()
            wait_for(lambda number=number: registry.statistics().reconnects == number, timeout=5)
            assert registry.session.session_id == session


@contextlib.contextmanager
def busy(action):
    """Do something all the time, whether it works or not."""
    ended = threading.Event()

    def work():
        while not ended.wait(0.05):
            with contextlib.suppress(zkfleet.ZkfleetError):
                action()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        ended.set()
        worker.join()


# What a client does about silence is the same whoever is silent: one kind of server will do.


@pytest.fixture
def served():
    with DevServer(tick=0.5) as served:
        yield served


@pytest.fixture
def relay(served):
    """A relay to the server whose links this test may break."""
    with Proxy(served.port) as relay:
        yield relay


def test_a_silent_link_is_left_for_another_member_however_often_is_asked(served, relay):
    with (
        Proxy(served.port) as other,
        zkfleet.connect(f"{relay.hosts},{other.hosts}", session_timeout=6, timeout=0.2) as registry,
    ):
        session = registry.session.session_id
        registration = registry.register("/", "h:1")
        silent = next(one for one in (other, relay) if one._pairs)
        silent.black_hole()
        with busy(lambda: registry.exists("/")):
            wait_for(lambda: registry.statistics().reconnects, timeout=6)
        assert registry.session.session_id == session
        wait_for(lambda: registration.status is zkfleet.Status.REGISTERED)
        silent.heal()


def test_a_silent_link_is_noticed_while_sending_blocks(relay):
    with zkfleet.connect(relay.hosts, session_timeout=5, timeout=0.2) as registry:
        registry.make_node("/big")
        more_than_there_is_room_for = SetData("/big", bytes(900_000), -1)
        relay.black_hole()
        with busy(lambda: registry.session.send(more_than_there_is_room_for, lambda value, error, zxid: None)):
            wait_for(lambda: registry.statistics().state == "suspended", timeout=4.7)
        relay.heal()
        wait_for(lambda: registry.statistics().state == "connected")


def test_a_link_that_is_only_slow_or_idle_is_kept(relay):
    with zkfleet.connect(relay.hosts, session_timeout=4) as registry:
        relay.black_hole()
        threading.Event().wait(1.2)
        relay.heal()
        assert registry.exists("/")
        threading.Event().wait(3)  # more than two thirds of the timeout
        assert registry.exists("/")
        assert registry.statistics().reconnects == 0


def test_a_client_that_was_connected_before_is_watched_from_its_next_connection_on(relay):
    client = KazooClient(relay.hosts, timeout=5)
    client.start()
    with zkfleet.connect(client=client, timeout=0.2) as registry:
        relay.cut()
        wait_for(lambda: registry.statistics().reconnects == 1)
        relay.black_hole()
        with busy(lambda: registry.exists("/")):
            wait_for(lambda: registry.statistics().state == "suspended", timeout=4.7)
        relay.heal()
        wait_for(lambda: registry.statistics().state == "connected")
    client.stop()
    client.close()


def test_all_clients_are_back_soon_after_their_server_was_killed_and_started_again(tmp_path):
    # Some of them connect while it comes up, and get no answer to their handshake.
    with ZooKeeperServer(tmp_path / "own") as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(zkfleet.connect(server.hosts, session_timeout=10)) for _ in range(20)]
        for number in (1, 2):
            server.restart()
            wait_for(lambda number=number: all(c.statistics().reconnects == number for c in clients), timeout=5)
        assert sum(client.statistics().expiries for client in clients) == 0
