"""Clients that go from one real server to another, and what may go wrong on the way."""

import shutil
import socket
import threading
import time
from contextlib import closing, suppress

import pytest
import ZEO
from ZEO.Exceptions import ClientDisconnected
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import ConflictError

import zkfleet.zeo
from tests.conftest import wait_for
from tests.zeo import making
from tests.zeo.making import a_config, a_filestorage, a_holder
from tests.zeo.test_client import Background, count, database, peer
from tests.zeo.test_trouble import count_until_done
from zkfleet.errors import BadInput, WrongDatabase
from zkfleet.testing import Proxy
from zkfleet.testing.zookeeper import free_port
from zkfleet.zeo import link, move

pytestmark = pytest.mark.slow

GREETING = b"\0\0\0\2Z5"


class Wrapped:
    """An end of a connection whose sending is another's."""

    def __init__(self, inner, send):
        self._inner, self._send = inner, send

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def sendall(self, data):
        self._send(self._inner, data)


class ProxyOfReplies(Proxy):
    """A relay that leaves a server's replies to `send(socket, data)`, which is made for each connection."""

    def __init__(self, target, make_send):
        self._make_send = make_send
        super().__init__(target)

    def _relay(self, pair):
        super()._relay((Wrapped(pair[0], self._make_send()), pair[1]))


def silent_after(replies):
    """Pass so many replies on, and swallow the rest."""

    def make():
        passed = []

        def send(end, data):
            passed.append(data)
            if len(passed) <= replies:
                end.sendall(data)

        return send

    return make


def late(seconds):
    """Pass every reply on, but late."""

    def send(end, data):
        time.sleep(seconds)  # waits for nothing: being late is what this link does
        end.sendall(data)

    return lambda: send


# -- what is under way


def test_a_server_that_dies_while_it_is_left_is_left_all_the_same(fleet, zeo):
    server = zeo()
    with Proxy(server.port) as proxy:
        registration = fleet.register("/db", ("127.0.0.1", proxy.port))
        with database(fleet, "/db", leave_after=0.2, ping_interval=None, ping_timeout=1) as found:
            count(found)
            proxy.black_hole()
            under_way = Background(found.storage.ping)
            registration.close()
            fleet.register("/db", server.address)
            wait_for(lambda: server.status()["connections"] == 2)
            proxy.refuse()
            with pytest.raises(ClientDisconnected):
                under_way.result()
            wait_for(lambda: peer(found) == server.port)
            assert count(found) == 2


def test_a_planned_move_is_no_outage_and_one_that_breaks_is(fleet, zeo):
    server = zeo()
    with Proxy(server.port) as proxy, Proxy(server.port) as other:
        registration = fleet.register("/db", ("127.0.0.1", proxy.port))
        with database(fleet, "/db", leave_after=0.1, ping_timeout=1) as found:
            count(found)
            outages = found.storage.outages
            registration.close()
            fleet.register("/db", ("127.0.0.1", other.port))
            wait_for(lambda: peer(found) == other.port and found.storage.is_connected())
            assert count(found) == 2
            assert (outages.number, outages.total(time.monotonic()), outages.reconnects) == (0, 0.0, 1)
            other.cut()
            wait_for(lambda: outages.number == 1)
            wait_for(lambda: outages.reconnects == 2)
            assert outages.total(time.monotonic()) > 0


def test_what_takes_long_is_not_broken_by_a_move_and_nobody_waits_for_it(fleet, zeo, monkeypatch, caplog):
    monkeypatch.setattr(move, "WHAT_IS_UNDER_WAY_MAY_TAKE", 0.3)
    monkeypatch.setattr(link, "SECONDS_BETWEEN_OFFERS", 0.3)
    caplog.set_level("INFO", "zkfleet.zeo")
    server = zeo()
    registration = fleet.register("/db", server.address)
    with Proxy(server.port) as proxy, database(fleet, "/db", leave_after=0.1, ping_timeout=1) as found:
        count(found)
        with a_holder(("127.0.0.1", server.port)) as (holder, t):
            committing = Background(lambda: count(found))  # its vote waits for the holder's end
            wait_for(lambda: server.status()["waiting"] == 1)
            registration.close()
            fleet.register("/db", ("127.0.0.1", proxy.port))
            while caplog.text.count("zeo_move_put_off") < 2:
                assert found.storage.is_connected()
                found.storage.ping()
            assert not committing.done.is_set()
            holder.tpc_abort(t)
            assert committing.result() == 2
        wait_for(lambda: peer(found) == proxy.port)
        assert count(found) == 3


class SlowPack(MappingStorage):
    """A storage whose packing takes as long as it is told to."""

    def __init__(self):
        super().__init__()
        self.is_packing, self.may_end = threading.Event(), threading.Event()

    def pack(self, *_args):
        self.is_packing.set()
        self.may_end.wait(60)


def test_a_call_that_takes_long_stalls_no_other_and_is_not_broken(fleet, monkeypatch, caplog):
    monkeypatch.setattr(move, "WHAT_IS_UNDER_WAY_MAY_TAKE", 0.2)
    monkeypatch.setattr(link, "SECONDS_BETWEEN_OFFERS", 0.2)
    caplog.set_level("INFO", "zkfleet.zeo")
    storage = SlowPack()
    with making.a_server(storage) as server:
        port = server.acceptor.addr[1]
        registration = fleet.register("/db", ("127.0.0.1", port))
        with Proxy(port) as proxy, database(fleet, "/db", leave_after=0.1, ping_timeout=1) as found:
            packing = Background(lambda: found.storage.pack(0.0, wait=True))
            assert storage.is_packing.wait(10)
            fleet.register("/db", ("127.0.0.1", proxy.port))
            registration.close()
            while caplog.text.count("zeo_move_put_off") < 2:
                assert found.storage.is_connected()
            storage.may_end.set()
            packing.result()
            wait_for(lambda: peer(found) == proxy.port)
            assert count(found) == 1


def test_a_server_that_dies_while_a_commit_waits_elsewhere_is_left_at_once(fleet, zeo, monkeypatch):
    monkeypatch.setattr(move, "WHAT_IS_UNDER_WAY_MAY_TAKE", 60)
    server = zeo()
    with Proxy(server.port) as proxy:
        registration = fleet.register("/db", ("127.0.0.1", proxy.port))
        with database(fleet, "/db", leave_after=0.1) as found:
            count(found)
            with making.a_transaction(found.storage):
                registration.close()
                fleet.register("/db", server.address)
                wait_for(lambda: server.status()["connections"] == 2)
                proxy.refuse()
                wait_for(lambda: peer(found) == server.port)


def test_an_iterator_of_a_server_that_was_left_says_so(fleet, zeo):
    server = zeo()
    registration = fleet.register("/db", server.address)
    with Proxy(server.port) as proxy, database(fleet, "/db", leave_after=0.1) as found:
        for _ in range(3):
            count(found)
        begun = found.storage.iterator()
        next(begun)
        registration.close()
        fleet.register("/db", ("127.0.0.1", proxy.port))
        wait_for(lambda: peer(found) == proxy.port)
        another = found.storage.iterator()
        next(another)
        with pytest.raises(ClientDisconnected):
            next(begun)


def test_a_step_of_an_iterator_that_waited_for_a_move_is_not_sent_to_the_new_server(fleet, zeo):
    server = zeo()
    registration = fleet.register("/db", server.address)
    with database(fleet, "/db", leave_after=0.1, ping_timeout=5) as found:
        for _ in range(3):
            count(found)
        begun = found.storage.iterator()
        first = next(begun)
        records = iter(first)
        io = found.storage._server.client
        steps = []

        def step_meanwhile():
            if not steps:  # all wait from here on, until the new server is taken
                steps.extend(Background(lambda each=each: next(each)) for each in (begun, records))
                steps.append(Background(lambda: next(iter(first))))

        notify_left, found.storage.notify_left = found.storage.notify_left, lambda: (step_meanwhile(), notify_left())
        with Proxy(server.port) as proxy:
            registration.close()
            fleet.register("/db", ("127.0.0.1", proxy.port))
            wait_for(lambda: peer(found) == proxy.port and io.operational)
            # The same numbers, of the new connection.
            others = [found.storage.iterator() for _ in range(3)]
            for step in steps:
                with pytest.raises(ClientDisconnected, match="lost or left"):
                    step.result()
            assert len(steps) == 3
            assert [next(each).tid for each in others] == [first.tid] * 3


def test_the_end_of_an_iterator_whose_server_was_left_meanwhile_is_an_end(fleet, zeo):
    server = zeo()
    fleet.register("/db", server.address)
    with database(fleet, "/db") as found:
        count(found)
        storage = found.storage
        begun = storage.iterator()
        call = storage._call

        def answer_and_lose(*args):
            answer = call(*args)
            storage._iterator_gc(True)
            return answer

        storage._call = answer_and_lose
        assert list(begun)


def test_what_is_cleared_away_of_a_former_connection_is_nothing_of_this_one(fleet, zeo):
    server = zeo()
    fleet.register("/db", server.address)
    with database(fleet, "/db") as found:
        count(found)
        storage = found.storage
        former = storage.iterator()
        ids = set(storage._iterator_ids)
        generation = storage._connection_generation
        storage._server.loop.call_soon_threadsafe(storage._server.client.protocol.give_up, "for a test")
        wait_for(lambda: storage._connection_generation >= generation + 2 and storage.is_connected())
        here = storage.iterator()
        storage._iterator_ids |= ids  # as a thread does that was slow to note the former one
        del former
        storage._iterator_gc()
        assert list(here)


def test_many_who_commit_do_not_keep_a_client_at_a_server_that_was_delisted(fleet, zeo, monkeypatch):
    monkeypatch.setattr(move, "WHAT_IS_UNDER_WAY_MAY_TAKE", 1.0)
    server = zeo()
    with ProxyOfReplies(server.port, late(0.03)) as slow, Proxy(server.port) as other:
        registration = fleet.register("/db", ("127.0.0.1", slow.port))
        with database(fleet, "/db", leave_after=0.1) as found:
            through = threading.Event()

            def commit():
                while not through.is_set():
                    with suppress(ConflictError):  # all store the same object
                        making.store_and_finish(found.storage)

            working = [Background(commit) for _ in range(20)]
            registration.close()
            fleet.register("/db", ("127.0.0.1", other.port))
            wait_for(lambda: peer(found) == other.port, 20)
            through.set()
            for one in working:
                one.result()


# -- a new server that is not what it seemed


def silent_while(is_so):
    """Swallow replies while something is so."""
    return lambda: lambda end, data: None if is_so() else end.sendall(data)


def test_a_new_server_that_falls_silent_in_the_last_moment_costs_a_moment(fleet, zeo, monkeypatch):
    monkeypatch.setattr(move, "ALL_MAY_WAIT", 0.5)
    server = zeo()
    registration = fleet.register("/db", server.address)
    with (
        database(fleet, "/db", leave_after=0.1, ping_timeout=5) as found,
        closing(ZEO.DB(("127.0.0.1", server.port))) as other,
    ):
        count(found)
        io = found.storage._server.client
        with ProxyOfReplies(server.port, silent_while(lambda: not io.operational)) as proxy:
            fleet.register("/db", ("127.0.0.1", proxy.port))
            registration.close()
            wait_for(lambda: not io.operational)
            # What was wrong with the new one is nothing to those who wait for the old one.
            io._reasons.note(("127.0.0.1", proxy.port), WrongDatabase("new", found="a", expected="b"), 0)
            waiting = Background(found.storage.ping)
            # What comes from elsewhere meanwhile is not lost.
            assert (count(other), count(other)) == (2, 3)
            wait_for(lambda: io.operational, 2)
            assert peer(found) == server.port
            waiting.result()
            wait_for(lambda: found.lastTransaction() == other.lastTransaction())
            assert count_until_done(found) == 4


def test_a_new_server_that_dies_as_it_is_taken_takes_no_waiting_commit_with_it(fleet, zeo):
    server = zeo()
    registration = fleet.register("/db", server.address)
    with database(fleet, "/db", leave_after=0.1, ping_timeout=0.5, prefer="favourite=yes", wait_timeout=20) as found:
        count(found)
        io = found.storage._server.client

        def is_taken():
            return io.protocol is not None and io.protocol.addr[1] == proxy.port

        with ProxyOfReplies(server.port, silent_while(is_taken)) as proxy, Proxy(server.port) as good:
            fleet.register("/db", ("127.0.0.1", proxy.port), favourite="yes")
            fleet.register("/db", ("127.0.0.1", good.port))
            registration.close()
            wait_for(is_taken)
            assert Background(lambda: count(found)).result() == 2
            assert peer(found) == good.port


@pytest.mark.parametrize("on_behind", ["wait", "refuse", "clear"])
def test_a_server_is_not_left_for_one_that_lags_behind(fleet, zeo, tmp_path, on_behind, monkeypatch, caplog):
    monkeypatch.setattr(link, "WHAT_IS_UNDER_WAY_MAY_TAKE", 0.2)
    monkeypatch.setattr(link, "SECONDS_BETWEEN_OFFERS", 0.2)
    caplog.set_level("INFO", "zkfleet.zeo")
    server = zeo()
    registration = fleet.register("/db", server.address)
    with database(fleet, "/db", on_behind=on_behind, leave_after=0.1, ping_timeout=0.5) as found:
        count(found)
        shutil.copy(tmp_path / "Data.fs", tmp_path / "old.fs")
        done = count(found)
        old = zeo("old.fs")
        fleet.register("/db", old.address)
        registration.close()
        wait_for(lambda: "zeo_move_put_off" in caplog.text)
        asked = 0
        while asked < 3:
            done += 1
            assert count(found) == done
            assert found.storage.is_connected()
            wait_for(lambda: old.status()["connections"] == 0)
            wait_for(lambda: old.status()["connections"] == 1)
            asked += 1
        assert caplog.text.count("zeo_move_put_off") == 1
        assert "zeo_cache_cleared" not in caplog.text
        assert peer(found) == server.port


@pytest.mark.parametrize("says", ["it lags", "nothing"])
def test_a_server_that_dies_while_the_new_one_is_not_ready_is_back_at_once(fleet, zeo, tmp_path, says):
    """Of three, the one in use dies while the one that it was to be left for is asked how far it is."""
    server = zeo()
    with Proxy(server.port) as proxy, Proxy(server.port) as good:
        registration = fleet.register("/db", ("127.0.0.1", proxy.port))
        # What is silent is given up after `ping_timeout`, which is for other tests.
        with database(fleet, "/db", leave_after=0.1, ping_timeout=30, wait_timeout=20) as found:
            count(found)
            shutil.copy(tmp_path / "Data.fs", tmp_path / "old.fs")
            done = count(found)
            lags = zeo("old.fs")
            asked = threading.Event()
            with ProxyOfReplies(lags.port, silent_while(lambda: says == "nothing" and asked.is_set())) as slow:
                caught_up = link.caught_up

                async def note(*arguments):
                    asked.set()
                    return await caught_up(*arguments)

                link.caught_up = note
                try:
                    fleet.register("/db", ("127.0.0.1", slow.port))
                    registration.close()
                    assert asked.wait(10)
                    fleet.register("/db", ("127.0.0.1", good.port))
                    proxy.refuse()
                    began = time.monotonic()
                    wait_for(lambda: peer(found) == good.port and found.storage.is_connected())
                    assert time.monotonic() - began < 3
                    assert count(found) == done + 1
                finally:
                    link.caught_up = caught_up


def test_a_server_that_is_not_left_for_one_that_lags_is_asked_again_soon_after_the_other_died(fleet, zeo, tmp_path):
    server = zeo()
    with Proxy(server.port) as proxy:
        registration = fleet.register("/db", ("127.0.0.1", proxy.port))
        with database(fleet, "/db", on_behind="clear", leave_after=0.1, ping_timeout=5, wait_timeout=20) as found:
            count(found)
            shutil.copy(tmp_path / "Data.fs", tmp_path / "old.fs")
            count(found)
            old = zeo("old.fs")
            fleet.register("/db", old.address)
            registration.close()
            wait_for(lambda: old.status()["connections"] == 1)
            proxy.refuse()
            began = time.monotonic()
            wait_for(lambda: peer(found) == old.port and found.storage.is_connected())
            assert time.monotonic() - began < 4


def test_who_writes_does_not_go_from_a_server_that_was_delisted_to_a_read_only_one(fleet, zeo, tmp_path, monkeypatch):
    monkeypatch.setattr(link, "SECONDS_BETWEEN_OFFERS", 0.2)
    server = zeo()
    with Proxy(server.port) as proxy, Proxy(server.port) as other:
        registration = fleet.register("/db", ("127.0.0.1", proxy.port))
        with database(fleet, "/db", read_only_fallback=True, leave_after=0.1, wait_timeout=20) as found:
            count(found)
            shutil.copy(tmp_path / "Data.fs", tmp_path / "copy.fs")
            reads = zeo("copy.fs", options="read-only true")
            fleet.register("/db", reads.address)
            registration.close()
            for _ in range(2):  # it is asked again and again
                wait_for(lambda: reads.status()["connections"] == 1)
                wait_for(lambda: reads.status()["connections"] == 0)
                assert peer(found) == proxy.port
            assert count(found) == 2
            # One that writes is gone to, and if there is none, one that reads.
            registration = fleet.register("/db", ("127.0.0.1", other.port))
            wait_for(lambda: peer(found) == other.port)
            assert count(found) == 3


def test_a_server_that_had_all_when_it_let_us_in_is_not_called_behind(fleet, zeo, caplog):
    server = zeo()
    with Proxy(server.port) as one, Proxy(server.port) as two, Proxy(server.port) as three:
        registration = fleet.register("/db", ("127.0.0.1", one.port))
        with database(fleet, "/db", on_behind="clear", leave_after=0.1, wait_timeout=20) as found:
            count(found)
            with closing(ZEO.DB(("127.0.0.1", server.port))) as other, making.a_transaction(found.storage):
                for where in (two, three):
                    fleet.register("/db", ("127.0.0.1", where.port))
                registration.close()
                # One waits for the transaction's end, another for the first one's turn.
                wait_for(lambda: server.status()["connections"] == 4)
                count(other)
                wait_for(lambda: found.lastTransaction() == other.lastTransaction())
                for where in (one, two):
                    where.refuse()
                wait_for(lambda: peer(found) == three.port)
    assert "zeo_cache_cleared" not in caplog.text


def test_a_client_that_is_closed_in_the_middle_of_a_move_is_closed(fleet, zeo):
    server = zeo()
    registration = fleet.register("/db", server.address)
    storage = zkfleet.zeo.client(fleet, "/db", leave_after=0.1)
    io = storage._server.client
    with ProxyOfReplies(server.port, silent_while(lambda: not io.operational)) as proxy:
        fleet.register("/db", ("127.0.0.1", proxy.port))
        registration.close()
        wait_for(lambda: not io.operational)
        storage.close()
        assert not storage.is_connected()


# -- servers that fall silent in the middle


@pytest.mark.parametrize("interval", [5, None])
def test_who_greets_and_falls_silent_holds_nobody_up(fleet, zeo, interval, caplog):
    server = zeo()
    kept = []
    with socket.create_server(("127.0.0.1", 0)) as door:

        def greet():
            while True:
                kept.append(door.accept()[0])
                kept[-1].sendall(GREETING)

        Background(greet)
        fleet.register("/db", ("127.0.0.1", door.getsockname()[1]), favourite="yes")
        fleet.register("/db", server.address)
        options = {"prefer": "favourite=yes", "ping_interval": interval, "ping_timeout": 0.5, "wait_timeout": 5}
        with database(fleet, "/db", **options) as found:
            assert count(found) == 1
            wait_for(lambda: kept)
            assert f"{server.address} reason" not in caplog.text
        door.shutdown(socket.SHUT_RDWR)
    for one in kept:
        one.close()


@pytest.mark.parametrize("interval", [5, None])
@pytest.mark.parametrize("replies", [2, 3])
def test_who_lets_us_in_and_falls_silent_is_passed_over(fleet, zeo, interval, replies):
    server = zeo()
    with ProxyOfReplies(server.port, silent_after(replies)) as proxy:
        fleet.register("/db", ("127.0.0.1", proxy.port), favourite="yes")
        options = {"prefer": "favourite=yes", "ping_interval": interval, "ping_timeout": 0.5}
        with closing(zkfleet.zeo.client(fleet, "/db", wait=False, wait_timeout=5, **options)) as storage:
            wait_for(lambda: server.status()["connections"] == 1)
            fleet.register("/db", server.address)
            storage._wait(10)
            assert storage._server.client.protocol.addr[1] == server.port


# -- falling back to reading


def test_a_writable_server_that_comes_while_a_read_only_one_is_verified_is_gone_to(fleet, zeo, tmp_path):
    server = zeo()
    with closing(ZEO.DB(("127.0.0.1", server.port))):
        shutil.copy(tmp_path / "Data.fs", tmp_path / "copy.fs")
    server.kill()
    reads = zeo("copy.fs", options="read-only true")
    with ProxyOfReplies(reads.port, late(0.5)) as proxy:
        fleet.register("/db", ("127.0.0.1", proxy.port))
        fleet.register("/db", server.address)
        with closing(zkfleet.zeo.client(fleet, "/db", read_only_fallback=True, wait_timeout=10)) as storage:
            assert storage.is_read_only()
            zeo(port=server.port)
            wait_for(lambda: storage.is_connected() and not storage.is_read_only(), 20)


# -- who is not taken decides nothing, and rests


def test_who_throws_us_out_a_thousand_times_still_rests(fleet):
    came = []
    with socket.create_server(("127.0.0.1", 0)) as door:

        def throw_out():
            with suppress(OSError):
                while True:
                    door.accept()[0].close()
                    came.append(1)

        fleet.register("/db", door.getsockname())
        Background(throw_out)
        with closing(zkfleet.zeo.client(fleet, "/db", wait=False)) as storage:
            io = storage._server.client
            wait_for(lambda: came)
            io._reasons._stumbles[door.getsockname()] = 2000
            before = len(came)
            wait_for(lambda: len(came) > before + 1)
            assert io._reasons._resting[door.getsockname()] > io.loop.time()
        door.shutdown(socket.SHUT_RDWR)


def serving(fleet, file):
    """A server of ours on a file."""
    hosts = fleet.session.hosts
    return zkfleet.zeo.Server(
        a_config(address="127.0.0.1", zookeeper=hosts, path="/db", storage=a_filestorage(file))
    ).start()


def test_a_server_that_is_refused_does_not_decide_which_database_is_followed(fleet, zeo, tmp_path, caplog):
    caplog.set_level("INFO", "zkfleet.zeo")
    with serving(fleet, tmp_path / "wrong.fs") as wrong, serving(fleet, tmp_path / "right.fs") as right:
        # A cache of the right one, kept by a client that knows of no identities.
        with closing(ZEO.DB((right.address.host, right.address.port), client="kept", var=str(tmp_path))) as plain:
            count(plain)
        with Proxy(wrong.address.port) as door:
            fleet.import_tree("/other\n")
            fleet.register("/other", ("127.0.0.1", door.port))
            with closing(
                zkfleet.zeo.client(fleet, "/other", wait=False, client="kept", var=str(tmp_path), wait_timeout=10)
            ) as storage:
                wait_for(lambda: "zeo_server_refused" in caplog.text)
                fleet.register("/other", str(right.address))
                storage._wait(10)
                assert storage.database


# -- what is said of those that were left out


def test_a_storage_that_no_server_says_that_it_has_is_an_error_at_once(fleet):
    fleet.register("/db", ("127.0.0.1", free_port()), storages=["main", "other"])
    with pytest.raises(BadInput, match="it has no storage 'nothing', but main, other"):
        zkfleet.zeo.client(fleet, "/db", storage="nothing", wait_timeout=60)


def test_why_servers_were_left_out_is_said(fleet, kazoo_at):
    port = free_port()
    fleet.register("/db", ("127.0.0.1", port), state="draining")
    fleet.register("/db", ("127.0.0.1", free_port()), read_only=True)
    kazoo_at.create("/db/nonsense", b"", ephemeral=True)
    with pytest.raises(ClientDisconnected) as caught:
        zkfleet.zeo.client(fleet, "/db", wait_timeout=0.5)
    assert f"127.0.0.1:{port}: it drains" in str(caught.value)
    assert "it is read-only" in str(caught.value)
    assert "nonsense: passed over" in str(caught.value)


def test_a_preference_that_fails_is_an_error_at_once_and_later_a_warning(fleet, zeo, caplog):
    server = zeo()
    registration = fleet.register("/db", server.address)
    with pytest.raises(BadInput, match=r"prefer= fails for .*KeyError"):
        zkfleet.zeo.client(fleet, "/db", prefer=lambda said: said["zone"], wait_timeout=5)
    registration.close()
    fleet.register("/db", server.address, zone="eu")
    with database(fleet, "/db", prefer=lambda said: said["zone"]) as found, Proxy(server.port) as other:
        fleet.register("/db", ("127.0.0.1", other.port))
        wait_for(lambda: "zeo_preference_failed" in caplog.text)
        assert count(found) == 1
        assert len(found.storage._server.client.candidates) == 2


def test_every_error_is_one_of_its_own(fleet):
    fleet.register("/db", ("127.0.0.1", free_port()), storages=["main"])
    with closing(zkfleet.zeo.client(fleet, "/db", wait=False)) as storage:
        wait_for(lambda: storage._server.client.left_out)
        errors = []
        for _ in range(2):
            with pytest.raises(BadInput) as caught:
                storage._wait(5)
            errors.append(caught.value)
        assert errors[0] is not errors[1]
        assert errors[0].hint == errors[1].hint
