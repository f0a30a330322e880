"""Client storages that follow real ZEO servers."""

import contextlib
import logging
import socket
import threading
import time
from contextlib import closing, contextmanager

import pytest
import transaction
import ZEO
from persistent.mapping import PersistentMapping
from ZEO.Exceptions import ClientDisconnected

import zkfleet.zeo
from tests.conftest import wait_for
from zkfleet import monitor
from zkfleet.errors import BadInput, ConnectFailed, NodeNotFound
from zkfleet.testing import Proxy
from zkfleet.testing.zookeeper import free_port

pytestmark = pytest.mark.slow


@contextmanager
def database(*args, **options):
    with closing(zkfleet.zeo.DB(*args, **{"wait_timeout": 10, **options})) as found:
        yield found


def count(found):
    """Add one to a counter and return it."""
    with found.transaction() as connection:
        root = connection.root()
        root["n"] = root.get("n", 0) + 1
        return root["n"]


def peer(found):
    """The port of the server that is in use, or None."""
    protocol = found.storage._server.client.protocol
    return protocol and found.storage.is_connected() and protocol.addr[1]


class Background:
    """A function on a thread: its result or its error."""

    def __init__(self, function):
        self.done, self.value, self.error = threading.Event(), None, None
        self._function = function
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        try:
            self.value = self._function()
        except Exception as exc:
            self.error = exc
        self.done.set()

    def result(self, timeout=20):
        assert self.done.wait(timeout), "it hangs"
        if self.error is not None:
            raise self.error
        return self.value


class SlowProxy(Proxy):
    """A relay that passes 4 MB a second on, and takes no more than it has passed on."""

    def _relay(self, pair):
        for end in pair:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        super()._relay((pair[0], Slow(pair[1])))


class Slow:
    """A socket that sends slowly."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def sendall(self, data):
        self._inner.sendall(data)
        time.sleep(len(data) / 4e6)


# -- finding servers


def test_a_client_finds_its_server(registry, zeo):
    server = zeo()
    registry.import_tree("/db\n/app\n  main -> /db\n")
    with registry.register("/db", server.address):
        with database(registry, "/app/main") as found:
            assert count(found) == 1
            assert found.storage.getName() == f"1@{registry.session.hosts}/app/main (connected)"
        with closing(zkfleet.zeo.client(registry.session.hosts, "/db")) as storage:
            assert storage.lastTransaction() > b"\0" * 8
        connection = zkfleet.zeo.connection(registry, "/db")
        assert connection.root()["n"] == 1
        connection.close()


def test_a_server_on_ipv6_is_found(fleet, zeo):
    server = zeo(host="::1")
    fleet.register("/db", server.address)
    with database(fleet, "/db") as found:
        assert count(found) == 1


def test_the_right_one_of_several_storages_is_asked_for(fleet, zeo):
    other, server = zeo("other.fs", storage="other"), zeo(storage="main")
    fleet.register("/db", other.address, storages=["other"])
    fleet.register("/db", server.address, storages=["main"])
    with database(fleet, "/db", storage="main") as found:
        assert peer(found) == server.port


def test_a_monitor_at_the_path_is_no_server(fleet, caplog):
    with (
        monitor.start("127.0.0.1:0", registry=fleet, path="/db"),
        pytest.raises(ClientDisconnected, match="no server is registered"),
    ):
        zkfleet.zeo.client(fleet, "/db", wait_timeout=0.2)
    assert "zeo_no_servers" in caplog.text


def test_a_wrong_path_is_an_error_at_once(fleet):
    with pytest.raises(NodeNotFound, match="/nothing"):
        zkfleet.zeo.client(fleet, "/nothing")
    with pytest.raises(BadInput):
        zkfleet.zeo.client(fleet, "db")
    with pytest.raises(ConnectFailed):
        zkfleet.zeo.client(f"127.0.0.1:{free_port()}", "/db", wait_timeout=1)


def test_an_empty_path_is_told_once_and_waited_for(fleet, zeo, caplog):
    caplog.set_level(logging.INFO, "zkfleet.zeo")
    with pytest.raises(ClientDisconnected, match="no server is registered"):
        zkfleet.zeo.client(fleet, "/db", wait_timeout=0.2)
    caplog.clear()
    waiting = Background(lambda: zkfleet.zeo.DB(fleet, "/db"))
    wait_for(lambda: "zeo_no_servers" in caplog.text)
    server = zeo()
    fleet.register("/db", server.address)
    found = waiting.result()
    assert count(found) == 1
    found.close()
    assert caplog.text.count("zeo_no_servers") == 1
    assert caplog.text.count("zeo_servers_registered") == 1


def test_a_client_that_does_not_wait_is_there_before_its_server(fleet, zeo):
    with closing(zkfleet.zeo.client(fleet, "/db", wait=False)) as storage:
        assert not storage.is_connected()
        server = zeo()
        fleet.register("/db", server.address)
        wait_for(storage.is_connected)


def test_unusable_providers_do_not_stand_in_the_way(fleet, zeo, kazoo_at):
    kazoo_at.create("/db/nonsense", b"", ephemeral=True)
    kazoo_at.create(f"/db/127.0.0.1:{free_port()}", b"\xff{", ephemeral=True)
    server = zeo()
    fleet.register("/db", server.address)
    with database(fleet, "/db") as found:
        assert count(found) == 1


def test_what_is_wrong_with_each_server_is_said(fleet, zeo):
    nobody, silent = free_port(), zeo()
    with Proxy(silent.port) as proxy:
        proxy.black_hole()
        fleet.register("/db", ("127.0.0.1", nobody))
        fleet.register("/db", ("127.0.0.1", proxy.port))
        with pytest.raises(ClientDisconnected) as caught:
            zkfleet.zeo.client(fleet, "/db", wait_timeout=1.5, ping_timeout=0.5)
    assert f"127.0.0.1:{nobody}: " in str(caught.value)
    assert "refused" in str(caught.value) or "Connect call failed" in str(caught.value)
    assert f"127.0.0.1:{proxy.port}: it does not greet" in str(caught.value)


def test_a_wrong_storage_name_is_an_error_at_once(fleet, zeo):
    server = zeo()
    fleet.register("/db", server.address)
    started = time.monotonic()
    with pytest.raises(BadInput, match=f"{server.address}: it has no storage 'nothing'"):
        zkfleet.zeo.client(fleet, "/db", storage="nothing", wait_timeout=60)
    assert time.monotonic() - started < 30


# -- when the list changes


def test_a_waiting_reader_survives_address_updates(fleet, zeo):
    server = zeo()
    registration = fleet.register("/db", server.address)
    with database(fleet, "/db", wait_timeout=30) as found:
        count(found)
        registration.close()
        server.kill()
        wait_for(lambda: not found.storage.is_connected())
        waiting = Background(lambda: count(found))
        for _ in range(5):
            with fleet.register("/db", ("127.0.0.1", free_port())):
                assert not waiting.done.wait(0.05)
        again = zeo(port=0)
        fleet.register("/db", again.address)
        assert waiting.result() == 2


def test_a_server_that_registers_anew_on_its_port_is_tried_at_once(fleet, zeo):
    server = zeo()
    registration = fleet.register("/db", server.address)
    with database(fleet, "/db", wait_timeout=30) as found:
        for n in range(1, 4):
            assert count(found) == n
            registration.close()
            server.kill()
            server = zeo(port=server.port)
            registration = fleet.register("/db", server.address)


def test_updates_while_a_connection_is_verified_leak_nothing(fleet, zeo):
    server = zeo()
    fleet.register("/db", server.address)
    for _ in range(5):
        with closing(zkfleet.zeo.client(fleet, "/db", wait=False)) as storage:
            for n in range(20):
                fleet.register("/db", ("127.0.0.1", 1 + n), wait=False).close()
            storage._wait(10)
            assert wait_for(lambda: server.status()["connections"] == 1)
        wait_for(lambda: server.status()["connections"] == 0)


def test_a_client_that_fell_back_to_reading_keeps_its_connection(fleet, zeo):
    server = zeo()
    fleet.register("/db", server.address)
    with database(fleet, "/db") as found:
        count(found)
    server.kill()
    reads = zeo(options="read-only true")
    with (
        fleet.register("/db", reads.address, read_only=True),
        closing(zkfleet.zeo.client(fleet, "/db", read_only_fallback=True)) as storage,
    ):
        generation = storage._connection_generation
        for _ in range(5):
            with fleet.register("/db", ("127.0.0.1", free_port())):
                storage.ping()
        assert storage._connection_generation == generation
        assert storage.is_read_only()
        reads.kill()
        writes = zeo()
        with fleet.register("/db", writes.address):
            wait_for(lambda: storage.is_connected() and not storage.is_read_only(), 20)


def test_addresses_that_flap_a_hundred_times_a_second_disturb_no_commit(fleet, zeo):
    server = zeo()
    fleet.register("/db", server.address)
    through = threading.Event()

    def flap():
        ports, flaps = [free_port() for _ in range(5)], 0
        while not through.wait(0.01):
            fleet.register("/db", ("127.0.0.1", ports[flaps % 5]), wait=False).close()
            flaps += 1
        return flaps

    with database(fleet, "/db") as found:
        flapping = Background(flap)
        deadline, commits = time.monotonic() + 10, 0
        while time.monotonic() < deadline:
            commits += 1
            assert count(found) == commits
        through.set()
        assert flapping.result() > 100
        assert found.storage._connection_generation == 1
        assert wait_for(lambda: server.status()["connections"] == 1)


# -- a server that was delisted


def test_a_delisted_server_is_left_for_another_and_no_commit_fails(fleet, zeo):
    server = zeo()
    registration = fleet.register("/db", server.address)
    with Proxy(server.port) as proxy, database(fleet, "/db", leave_after=0.2) as found:
        through = threading.Event()

        def work():
            done = 0
            while not through.is_set():
                done += 1
                assert count(found) == done
            return done

        working = [Background(work)]
        registration.close()
        other = fleet.register("/db", ("127.0.0.1", proxy.port))
        wait_for(lambda: peer(found) == proxy.port)
        before = found.lastTransaction()
        wait_for(lambda: found.lastTransaction() > before)
        through.set()
        assert all(one.result() > 1 for one in working)
        assert server.status()["connections"] == 1
        other.close()


def test_readers_and_writers_on_many_threads_see_no_move(fleet, zeo, caplog):
    server = zeo()
    with Proxy(server.port) as one, Proxy(server.port) as two:
        homes = [("127.0.0.1", one.port), ("127.0.0.1", two.port)]
        registration = fleet.register("/db", homes[0])
        with database(fleet, "/db", leave_after=0.1) as found, closing(ZEO.DB(("127.0.0.1", server.port))) as other:
            with found.transaction() as connection:
                for n in range(4):
                    connection.root()[n] = PersistentMapping()
            through = threading.Event()

            def again_and_again(function):
                done = 0
                while not through.is_set():
                    done += 1
                    function(done)
                return done

            def write(where, n, value):
                manager = transaction.TransactionManager()
                connection = where.open(manager)
                connection.root()[n]["n"] = value
                manager.commit()
                connection.close()

            writing = [lambda done, n=n: write(found, n, done) for n in range(3)]
            reading = [lambda _done: found.storage.ping()] * 3
            elsewhere = [lambda done: write(other, 3, done)]
            working = [Background(lambda one=one: again_and_again(one)) for one in (*writing, *reading, *elsewhere)]
            for turn in range(1, 7):
                old, registration = registration, fleet.register("/db", homes[turn % 2])
                old.close()
                wait_for(lambda turn=turn: peer(found) == homes[turn % 2][1])
            through.set()
            assert all(one.result() > 3 for one in working)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_delisted_server_is_kept_if_no_other_is_there_or_if_told_so(fleet, zeo):
    server = zeo()
    with Proxy(server.port) as proxy:
        registration = fleet.register("/db", server.address)
        with (
            database(fleet, "/db", leave_after=0.1, server_sync=True) as left,
            database(fleet, "/db", on_delisted="stay", server_sync=True) as kept,
        ):
            registration.close()
            for n in range(1, 11):
                assert count(left) == 2 * n - 1
                assert count(kept) == 2 * n
            fleet.register("/db", ("127.0.0.1", proxy.port))
            wait_for(lambda: peer(left) == proxy.port)
            assert peer(kept) == server.port
            assert count(kept) == 21


# -- silence


def test_a_black_hole_is_noticed_and_left_for_a_server_that_answers(fleet, zeo):
    server = zeo()
    with Proxy(server.port) as proxy:
        fleet.register("/db", ("127.0.0.1", proxy.port))
        with database(fleet, "/db", ping_interval=0.5, ping_timeout=0.5) as found:
            count(found)
            with found.transaction() as connection:
                connection.root()["other"] = PersistentMapping()
            found.storage._cache.clear()
            found.cacheMinimize()
            proxy.black_hole()
            waiting = Background(lambda: found.open().root()["other"]._p_activate())
            with pytest.raises(ClientDisconnected, match="was silent for"):
                waiting.result(10)
            fleet.register("/db", server.address)
            assert Background(lambda: count(found)).result() == 2


def test_a_frozen_server_is_noticed_and_taken_again_when_it_goes_on(fleet, zeo):
    server = zeo()
    fleet.register("/db", server.address)
    with database(fleet, "/db", ping_interval=0.5, ping_timeout=0.5, wait_timeout=2) as found:
        count(found)
        server.freeze()
        waiting = Background(lambda: count(found))
        with pytest.raises(ClientDisconnected):
            waiting.result(10)
        with pytest.raises(ClientDisconnected, match="does not greet"):
            Background(found.storage.ping).result(10)
        server.thaw()
        wait_for(found.storage.is_connected)
        assert count(found) == 2


def test_a_silent_server_that_left_the_registry_is_left_soon(fleet, zeo):
    server = zeo()
    with Proxy(server.port) as proxy:
        registration = fleet.register("/db", ("127.0.0.1", proxy.port))
        with database(fleet, "/db", ping_interval=60, ping_timeout=5) as found:
            count(found)
            proxy.black_hole()
            waiting = Background(found.storage.ping)
            registration.close()
            with pytest.raises(ClientDisconnected, match="was silent for"):
                waiting.result(10)


def test_a_server_that_takes_long_to_take_all_is_not_taken_for_dead(fleet, zeo):
    server = zeo()
    with SlowProxy(server.port) as proxy:
        fleet.register("/db", ("127.0.0.1", proxy.port))
        with database(fleet, "/db", ping_interval=0.3, ping_timeout=0.3) as found:
            with found.transaction() as connection:
                for n in range(12):
                    connection.root()[n] = PersistentMapping(data=b"x" * 900_000)
            assert found.storage._connection_generation == 1


def test_who_accepts_and_never_speaks_is_passed_over(fleet, zeo):
    server = zeo()
    with Proxy(server.port) as proxy:
        proxy.black_hole()
        fleet.register("/db", ("127.0.0.1", proxy.port))
        fleet.register("/db", server.address)
        with database(fleet, "/db", ping_timeout=0.5) as found:
            assert count(found) == 1


def test_who_throws_us_out_again_and_again_is_not_asked_without_rest(fleet):
    came = []
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.settimeout(5)

        def throw_out():
            with contextlib.suppress(OSError):
                while True:
                    door.accept()[0].close()
                    came.append(time.monotonic())

        Background(throw_out)
        fleet.register("/db", ("127.0.0.1", door.getsockname()[1]))
        with pytest.raises(ClientDisconnected, match=r"closed the connection|reset"):
            zkfleet.zeo.client(fleet, "/db", wait_timeout=2)
        assert 2 < len(came) < 20


# -- when everything else is away


def test_the_last_known_servers_serve_on_without_zookeeper(own_zookeeper, zeo):
    server = zeo()
    with zkfleet.connect(own_zookeeper.hosts, session_timeout=5) as registry:
        registry.import_tree("/db\n")
        registry.register("/db", server.address)
        with database(registry, "/db") as found:
            count(found)
            own_zookeeper.kill()
            assert count(found) == 2
            server.kill()
            zeo(port=server.port)
            wait_for(found.storage.is_connected)
            assert count(found) == 3
            own_zookeeper.start()


def test_a_writer_waits_for_a_server_as_a_reader_does(fleet, zeo):
    server = zeo()
    registration = fleet.register("/db", server.address)
    with database(fleet, "/db") as found:
        manager = transaction.TransactionManager()
        connection = found.open(manager)
        connection.root()["n"] = 1
        server.kill()
        registration.close()
        wait_for(lambda: not found.storage.is_connected())
        committing = Background(manager.commit)
        fleet.register("/db", zeo().address)
        committing.result()
        connection.close()
        assert count(found) == 2


def test_a_path_that_was_forgotten_is_refused_at_once(fleet):
    with pytest.raises(BadInput, match="/ has no servers below it, but db") as caught:
        zkfleet.zeo.client(fleet, "/")
    assert caught.value.hint == "name the path of one service, such as /db"


def test_a_service_without_servers_yet_may_have_other_nodes(fleet, zeo, caplog):
    fleet.import_tree("/db\n  /settings\n")
    with contextlib.closing(zkfleet.zeo.client(fleet, "/db", wait=False)) as storage:
        assert "zeo_path_doubted reason=/db has no servers below it, but settings; name the path" in caplog.text
        fleet.register("/db", zeo().address)
        wait_for(storage.is_connected)
