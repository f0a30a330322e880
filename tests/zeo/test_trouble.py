"""What a client does about servers that are wrong, lag behind or hide behind TLS, and about itself."""

import gc
import os
import shutil
import ssl
import threading
from contextlib import closing, contextmanager

import pytest
import transaction
import ZEO
from ZEO.Exceptions import ClientDisconnected

import zkfleet.zeo
from tests.conftest import wait_for
from tests.zeo.plain import open_files
from tests.zeo.test_client import Background, count, database
from zkfleet.errors import ForkedSession, ServerBehind, WrongDatabase
from zkfleet.zeo import fork, insides, storage
from zkfleet.zeo.link import FOLLOWING

pytestmark = pytest.mark.slow


# -- a server that lags behind


@contextmanager
def put_back(fleet, zeo, tmp_path, **options):
    """Yield a database whose last value is 3, and its server now, which is at 1."""
    server = zeo()
    registration = fleet.register("/db", server.address)
    with database(fleet, "/db", **options) as found:
        count(found)
        shutil.copy(tmp_path / "Data.fs", tmp_path / "old.fs")
        count(found)
        assert count(found) == 3
        registration.close()
        server.kill()
        wait_for(lambda: not found.storage.is_connected())
        old = zeo("old.fs")
        with fleet.register("/db", old.address):
            yield found, old


def count_until_done(found):
    """Count, again after a conflict: what was in memory before may be old or of the future."""
    for attempt in transaction.manager.attempts(10):
        with attempt:
            done = count(found)
    return done


def test_a_server_that_lags_behind_is_waited_for(fleet, zeo, tmp_path):
    with put_back(fleet, zeo, tmp_path) as (found, old):
        waiting = Background(lambda: count_until_done(found))
        assert not waiting.done.wait(0.5)
        with closing(ZEO.DB(("127.0.0.1", old.port))) as other:
            count(other)  # a transaction that is newer than all that was seen
        assert waiting.result() == 3


def test_it_is_said_what_is_waited_for(fleet, zeo, tmp_path):
    reason = r"its last transaction is \w{16} \(20.* UTC\), and .* has been seen here \(.*on_behind='clear'"
    with (
        put_back(fleet, zeo, tmp_path, wait_timeout=0.5) as (found, old),
        pytest.raises(ClientDisconnected, match=f"{old.address}: {reason}"),
    ):
        Background(found.storage.ping).result()


def test_a_server_that_lags_behind_may_be_refused(fleet, zeo, tmp_path):
    with put_back(fleet, zeo, tmp_path, on_behind="refuse", wait_timeout=60) as (found, old):
        with pytest.raises(ServerBehind, match=old.address) as caught:
            Background(found.storage.ping).result()
        assert caught.value.has < caught.value.seen == found.lastTransaction().hex()
        with pytest.raises(ServerBehind):
            Background(found.storage.ping).result()


def test_one_may_go_back_in_time_with_a_server(fleet, zeo, tmp_path):
    with put_back(fleet, zeo, tmp_path, on_behind="clear") as (found, _):
        assert Background(lambda: count_until_done(found)).result() == 2


# -- a server with another database


def test_a_server_that_is_not_what_its_node_says_is_refused(fleet, zeo):
    server = zeo()
    with fleet.register("/db", server.address, database={"1": "abc"}), pytest.raises(WrongDatabase, match="abc"):
        zkfleet.zeo.client(fleet, "/db", wait_timeout=60)


# -- TLS


def context(certificates, *, trusts="server", shows="client"):
    made = ssl.create_default_context(cafile=certificates / f"{trusts}.crt")
    if shows:
        made.load_cert_chain(certificates / f"{shows}.crt", certificates / f"{shows}.key")
    return made


def test_an_encrypted_link_works(fleet, secret, certificates):
    with database(fleet, "/db", ssl=context(certificates), ssl_server_hostname="127.0.0.1") as found:
        assert count(found) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (None, "does not greet"),
        ({"trusts": "client"}, "CERTIFICATE_VERIFY_FAILED"),
        ({"shows": None}, "CERTIFICATE_REQUIRED|handshake failure|closed the connection"),
    ],
)
def test_what_is_wrong_with_tls_is_said(fleet, secret, certificates, options, reason):
    ours = {"ssl": context(certificates, **options), "ssl_server_hostname": "127.0.0.1"} if options is not None else {}
    with pytest.raises(ClientDisconnected, match=reason):
        zkfleet.zeo.client(fleet, "/db", wait_timeout=2, ping_timeout=0.5, **ours)


def test_a_server_without_tls_is_told_to_be_one(fleet, zeo, certificates):
    fleet.register("/db", zeo().address)
    with pytest.raises(ClientDisconnected, match=r"WRONG_VERSION_NUMBER|record layer"):
        zkfleet.zeo.client(fleet, "/db", wait_timeout=1, ssl=context(certificates), ssl_server_hostname="127.0.0.1")


# -- the process


def test_a_forked_child_is_refused_and_its_parent_goes_on(fleet, zeo):
    fleet.register("/db", zeo().address)
    with database(fleet, "/db") as found:
        count(found)
        child = os.fork()
        if not child:
            refused = 0
            for call in (lambda: count(found), found.storage.ping, lambda: found.storage.load(b"\0" * 8)):
                try:
                    call()
                except ForkedSession:
                    refused += 1
            os._exit(0 if refused == 3 and not found.storage.is_connected() else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert count(found) == 2


def test_opened_and_closed_databases_leave_nothing(fleet, zeo):
    server = zeo()
    fleet.register("/db", server.address)
    hosts = fleet.session.hosts

    def open_and_close(times):
        for n in range(times):
            zkfleet.zeo.DB(fleet if n % 2 else hosts, "/db", wait_timeout=10).close()
        gc.collect()

    open_and_close(2)
    threads, files = threading.active_count(), open_files()
    open_and_close(98)
    wait_for(lambda: threading.active_count() == threads, what="all threads end")
    wait_for(lambda: open_files() == files, what="all descriptors are closed")
    wait_for(lambda: server.status()["connections"] == 0)
    assert fleet.statistics().views == 0
    assert len(fork._storages) == 0


def test_a_client_that_could_not_be_had_leaves_nothing(fleet):
    fleet.children("/db")(lambda _view: None).close()  # which starts the thread for callbacks
    threads, files = threading.active_count(), open_files()
    for where in (fleet, fleet.session.hosts):
        with pytest.raises(ClientDisconnected):
            zkfleet.zeo.DB(where, "/db", wait_timeout=0.1)
    gc.collect()
    wait_for(lambda: threading.active_count() == threads)
    wait_for(lambda: open_files() == files)


def test_a_client_may_be_closed_twice(fleet, zeo):
    fleet.register("/db", zeo().address)
    found = zkfleet.zeo.client(fleet, "/db")
    found.close()
    found.close()
    assert not found.is_connected()


# -- another ZEO


def test_a_zeo_without_the_insides_that_we_need_is_followed_as_well_as_it_can(fleet, zeo, monkeypatch, caplog):
    monkeypatch.setattr(storage, "is_on", lambda _repair: False)
    server = zeo()
    registration = fleet.register("/db", server.address)
    with database(fleet, "/db") as found:
        assert count(found) == 1
        registration.close()
        server.kill()
        fleet.register("/db", zeo().address)
        wait_for(found.storage.is_connected)
        assert count(found) == 2


def test_this_zeo_has_the_insides_that_we_need():
    assert [insides.lacking(repair) for repair in (FOLLOWING, storage.STORAGE, fork.CACHED_OBJECTS)] == [()] * 3
