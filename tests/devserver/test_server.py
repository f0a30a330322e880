"""The shell: it listens, keeps, stops and comes back, and leaves nothing behind."""

import contextlib
import json
import logging
import shutil
import socket
import subprocess
import sys
import threading

import psutil
import pytest

import zkfleet
from tests.conformance import wire
from tests.conformance.wire import Closed, Wire
from tests.conftest import wait_for
from tests.devserver.driving import check_invariants, request
from zkfleet.devserver import DevServer, jute, running, saving
from zkfleet.devserver.codes import Code
from zkfleet.devserver.requests import Op
from zkfleet.errors import BadAddress, BadInput, WaitTimedOut
from zkfleet.errors import Closed as NotRunning
from zkfleet.testing.zookeeper import free_port


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.time = 1000.0

    def __call__(self):
        return self.time


@pytest.fixture
def served():
    with DevServer() as served:
        yield served


@contextlib.contextmanager
def client_of(served, **wish):
    with contextlib.closing(Wire(served.hosts, **wish)) as client:
        yield client


def files():
    return psutil.Process().num_fds()


def loud(caplog):
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


# -- coming and going


def test_it_answers_as_soon_as_it_has_started(served):
    with client_of(served) as client:
        assert client.ping().code == Code.OK


def test_it_starts_and_stops_twice():
    served = DevServer()
    for _ in range(2):
        served.start()
        with client_of(served) as client:
            client.ping()
        served.stop()
        with pytest.raises(ConnectionError):
            socket.create_connection(("127.0.0.1", served.port))


def test_starting_or_stopping_what_is_so_already_changes_nothing(served):
    port = served.port
    assert served.start() is served
    assert served.port == port
    with client_of(served) as client:
        client.ping()
    served.stop()
    served.stop()


def test_the_port_stays_the_same_when_it_starts_again(served):
    port = served.port
    served.stop()
    served.start()
    assert served.port == port


def test_a_port_that_is_taken_is_a_bad_address_and_may_be_tried_again(served):
    second = DevServer(served.port)
    with pytest.raises(BadAddress, match=f"127.0.0.1:{served.port}.*in use") as refused:
        second.start()
    assert refused.value.hint
    served.stop()
    with second, client_of(second) as client:
        client.ping()


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 65536), ("127.0.0.1", -1), ("192.0.2.1", 0), ("x" * 80, 0)])
def test_an_address_that_nobody_can_listen_on_is_a_bad_address(host, port):
    before = set(threading.enumerate())
    with pytest.raises(BadAddress):
        DevServer(port, host=host).start()
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(
    ("host", "reached"),
    [("", "127.0.0.1"), ("*", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("127.1", "127.1")],
)
def test_its_connection_string_works_on_this_machine_wherever_it_listens(host, reached):
    with DevServer(host=host) as served, zkfleet.connect(served.hosts) as registry:
        assert served.hosts == f"{reached}:{served.port}"
        assert registry.export_tree() == ""


IMPOSSIBLE = {
    "no tick": {"tick": 0},
    "a tick that goes back": {"tick": -1.0},
    "a tick for ever": {"tick": float("inf")},
    "a tick that is no number": {"tick": float("nan")},
    "a tick that is text": {"tick": "2"},
    "a tick below a millisecond": {"tick": 1e-9},
    "20 ticks that no client can be told": {"tick": 200_000.0},
    "timeouts the wrong way round": {"session_timeouts": (5, 1)},
    "no shortest timeout": {"session_timeouts": (0, 1)},
    "a shortest timeout that goes back": {"session_timeouts": (-1, 1)},
    "a longest timeout for ever": {"session_timeouts": (1, float("inf"))},
    "a timeout that is no number": {"session_timeouts": (1, float("nan"))},
    "a timeout that no client can be told": {"session_timeouts": (1, 2**31 / 1000)},
    "one timeout": {"session_timeouts": (1,)},
    "a number for two": {"session_timeouts": 5},
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_seconds_that_cannot_be_are_refused_before_anything_is_made(tmp_path, what):
    with pytest.raises(BadInput, match=r"no number of seconds|not two numbers|is above") as refused:
        DevServer(data=tmp_path / "data", **IMPOSSIBLE[what])
    assert str(refused.value)
    assert refused.value.hint
    assert not list(tmp_path.iterdir())


def test_the_longest_timeout_that_a_client_can_be_told_is_granted():
    longest = (2**31 - 1) / 1000
    with DevServer(session_timeouts=(1, longest)) as served, client_of(served, timeout=2**31 - 1) as client:
        assert client.timeout == 2**31 - 1


def refuses(port):
    """Whether nobody listens at a port."""
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1):
        return False
    return True


def making(path, ports):
    """What makes a znode through the side door, and notes at which ports nobody listened then."""

    def prepare(hosts):
        side_door = int(hosts.rpartition(":")[2])
        ports.append((side_door, [port for port in ports if refuses(port)]))
        with zkfleet.connect(hosts) as registry:
            registry.make_node(path)

    return prepare


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ""])
def test_what_is_prepared_is_there_before_it_listens(host):
    port = free_port()
    noted = [port]
    server = DevServer(port, host=host)
    with server.start(making("/a", noted)), zkfleet.connect(f"127.0.0.1:{port}") as registry:
        [_, (side_door, refused)] = noted
        assert refused == [port]
        assert refuses(side_door)
        assert registry.exists("/a")
        server.restart()
        assert registry.exists("/a")


def test_a_server_that_could_not_be_prepared_has_not_started():
    def fail(hosts):
        raise KeyError(hosts)

    port, noted = free_port(), []
    threads = threading.active_count()
    server = DevServer(port)
    with pytest.raises(KeyError):
        server.start(fail)
    assert refuses(port)
    assert threading.active_count() == threads
    with server.start(making("/a", noted)), zkfleet.connect(server.hosts) as registry:
        assert (server.port, registry.exists("/a")) == (port, True)


def test_nothing_is_prepared_where_it_cannot_listen(served):
    noted = []
    with pytest.raises(BadAddress, match="in use"):
        DevServer(served.port).start(making("/a", noted))
    assert noted == []


def test_a_port_that_somebody_takes_meanwhile_is_a_bad_address():
    port = free_port()
    with contextlib.ExitStack() as stack, pytest.raises(BadAddress, match="in use"):
        DevServer(port).start(lambda hosts: stack.enter_context(socket.create_server(("127.0.0.1", port))))


def test_it_listens_on_loopback_only(served):
    listening = [
        connection.laddr for connection in psutil.Process().net_connections("tcp") if connection.status == "LISTEN"
    ]
    assert ("127.0.0.1", served.port) in listening
    assert {address.ip for address in listening if address.port == served.port} == {"127.0.0.1"}


def test_it_says_what_it_is_for_when_it_starts(caplog):
    with caplog.at_level(logging.INFO), DevServer():
        assert "not for production" in caplog.text


def test_two_servers_at_once_know_nothing_of_each_other(served):
    with DevServer() as other, client_of(served) as here, client_of(other) as there:
        here.ask(Op.CREATE, wire.create("/here"))
        assert there.ask(Op.EXISTS, wire.read("/here")).code == Code.NO_NODE
        with client_of(other, session=here.session, password=here.password) as stranger:
            assert stranger.session == 0


@pytest.mark.slow
def test_fifty_starts_leave_no_thread_and_no_file():
    def once():
        with DevServer() as served, client_of(served) as client:
            client.ping()

    once()
    before = files(), threading.active_count()
    for _ in range(50):
        once()
    assert (files(), threading.active_count()) == before


def test_connections_that_are_open_when_it_stops_are_closed(served):
    before = files()
    with client_of(served) as client:
        served.stop()
        with pytest.raises(Closed):
            client.read()
    assert files() < before


def test_a_client_that_does_not_read_leaves_nothing_behind_when_it_stops():
    once = files()
    with DevServer() as served, client_of(served) as writer, client_of(served) as deaf:
        writer.ask(Op.CREATE, wire.create("/large", bytes(1_000_000)))
        for _ in range(20):
            deaf.send(b"\0\0\0\1" + jute.INT.pack(Op.GET_DATA) + wire.read("/large"))
        writer.ping()
        served.expire_session(deaf.session)
    assert files() == once


def test_what_is_asked_of_a_server_that_does_not_run_is_refused():
    with pytest.raises(NotRunning):
        DevServer().expire_session(1)


def test_a_server_that_was_told_nothing_writes_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with DevServer() as served, client_of(served) as client:
        client.ask(Op.CREATE, wire.create("/a"))
    assert list(tmp_path.iterdir()) == []


# -- what a test does to it


def test_a_restart_keeps_znodes_and_sessions_but_no_connection(served):
    with client_of(served) as client:
        client.ask(Op.CREATE, wire.create("/kept", b"data"))
        client.ask(Op.CREATE, wire.create("/mine", flags=1))
        client.ask(Op.EXISTS, wire.read("/kept", watch=True))
        served.restart()
        with pytest.raises(Closed):
            client.ping()
    with client_of(served, session=client.session, password=client.password) as again:
        assert again.session == client.session
        assert again.ask(Op.EXISTS, wire.read("/kept")).code == Code.OK
        assert again.ask(Op.DELETE, wire.delete("/mine")).code == Code.OK
        assert served.core.watches.count == 0


def test_a_restart_gives_everybody_a_whole_timeout_to_come_back():
    clock = Clock()
    with DevServer(tick=2.0, clock=clock) as served:
        with client_of(served, timeout=4000) as client:
            pass
        served.stop()
        clock.time += 3600
        served.start()
        with client_of(served, session=client.session, password=client.password, timeout=4000) as again:
            assert again.session == client.session


def test_a_wipe_forgets_everything_and_whoever_comes_back_has_expired(served):
    port = served.port
    with client_of(served) as client:
        client.ask(Op.CREATE, wire.create("/gone"))
    served.wipe()
    assert served.port == port
    with client_of(served, session=client.session, password=client.password) as again:
        assert again.session == 0
    with client_of(served) as other:
        assert other.ask(Op.EXISTS, wire.read("/gone")).code == Code.NO_NODE
        assert other.session != client.session


def test_a_paused_server_is_silent_and_loses_nothing(served):
    with client_of(served) as client:
        served.pause()
        served.pause()
        client.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.ping()
        connection = socket.create_connection(("127.0.0.1", served.port), 1)
        connection.close()
        client.socket.settimeout(5)
        served.resume()
        served.resume()
        assert len(client.read()) == 16
        assert client.ask(Op.CREATE, wire.create("/a")).code == Code.OK


def test_what_is_asked_of_a_paused_server_is_not_waited_for_for_ever(served, monkeypatch):
    monkeypatch.setattr(running, "PATIENCE", 0.05)
    served.pause()
    with pytest.raises(WaitTimedOut, match="no answer"):
        served.expire_session(1)
    monkeypatch.undo()
    served.resume()
    served.expire_session(1)


def test_what_is_asked_of_a_run_that_has_ended_is_refused_at_once(served):
    run = served._run
    served.stop()
    with pytest.raises(NotRunning, match="has ended"):
        run.call(served.start)


def test_a_server_that_does_not_run_cannot_be_paused(served):
    served.stop()
    served.resume()
    with pytest.raises(NotRunning, match="does not run"):
        served.pause()


def test_a_paused_server_can_be_stopped(served):
    served.pause()
    served.stop()
    served.start()
    with client_of(served) as client:
        client.ping()


def test_a_kill_breaks_connections_and_saves_nothing(tmp_path):
    file = tmp_path / "data"
    with DevServer(data=file) as served, client_of(served) as client:
        before = file.read_bytes()
        client.ask(Op.CREATE, wire.create("/a"))
        served.kill()
        with pytest.raises(Closed):
            client.ping()
        assert file.read_bytes() == before
        served.start()
        with client_of(served, session=client.session, password=client.password) as again:
            assert again.ask(Op.EXISTS, wire.read("/a")).code == Code.OK


def test_an_expired_session_loses_its_connection_and_its_ephemerals(served):
    with client_of(served) as client, client_of(served) as other:
        client.ask(Op.CREATE, wire.create("/mine", flags=1))
        other.ask(Op.EXISTS, wire.read("/mine", watch=True))
        served.expire_session(client.session)
        with pytest.raises(Closed):
            client.ping()
        assert other.ask(Op.EXISTS, wire.read("/mine")).code == Code.NO_NODE
        assert other.events == [(2, 3, "/mine")]
        with client_of(served, session=client.session, password=client.password) as again:
            assert again.session == 0


def test_expiring_a_session_that_is_none_does_nothing(served):
    served.expire_session(12345)


def test_sessions_end_when_the_clock_of_the_test_says_so():
    clock = Clock()
    with DevServer(tick=0.1, session_timeouts=(1, 3600), clock=clock) as served, client_of(served) as client:
        assert client.timeout == 1_000_000
        client.ping()
        clock.time += 999
        client.ping()
        clock.time += 1001
        with pytest.raises(Closed):
            client.read()


# -- a file to keep everything in


def fill(client):
    """Put something of everything there is into a server."""
    client.ask(Op.AUTH, wire.auth("digest", b"ann:pw"), xid=-4)
    for path, data in (("/a", b"\xff\0"), ("/a/none", None), ("/a/\u00e9", "é".encode()), ("/limited", b"12345")):
        client.ask(Op.CREATE, wire.create(path, data))
    client.ask(Op.SET_DATA, wire.set_data("/a", b"second"))
    client.ask(Op.CREATE, wire.create("/a/s-", flags=2))
    client.ask(Op.CREATE, wire.create("/mine", flags=1))
    client.ask(Op.CREATE, wire.create("/secret", b"s", acl=((31, "auth", ""), (1, "ip", "10.0.0.0/8"))))
    client.ask(Op.SET_ACL, wire.set_acl("/limited", ((31, "world", "anyone"),)))
    client.ask(Op.CREATE_CONTAINER, wire.create("/container", flags=4))
    client.ask(Op.CREATE_TTL, wire.create("/short", flags=5, ttl=50_000))
    for path in ("/limited", "/limited/zookeeper_limits", "/limited/zookeeper_stats"):
        client.ask(Op.CREATE, wire.create(f"/zookeeper/quota{path}", b"count=5,bytes=-1"))
    client.ask(Op.CREATE, wire.create("/limited/below", b"123"))
    client.ask(Op.CREATE, wire.create("/gone"))
    client.ask(Op.DELETE, wire.delete("/gone"))


def contents(core):
    database = core.database
    nodes = {
        path: (node.data, node.acl, node.stat(), sorted(node.children or ())) for path, node in database.nodes.items()
    }
    owned = {session: sorted(paths) for session, paths in database.ephemerals.items() if paths}
    return (nodes, owned, database.containers, database.lifetimes, database.zxid, core.sessions.timeouts)


def test_a_data_file_brings_everything_back(tmp_path):
    file = tmp_path / "data"
    with DevServer(data=file, tick=2.0) as first, client_of(first, timeout=30_000) as client:
        fill(client)
    expected = contents(first.core)
    assert expected[1] == {client.session: ["/mine"]}
    assert expected[2] == {"/container"}
    assert expected[3] == {"/short": 50_000}
    with DevServer(data=file, tick=2.0) as second:
        assert contents(second.core) == expected
        check_invariants(second.core)
        with client_of(second, session=client.session, password=client.password, timeout=30_000) as again:
            assert again.session == client.session
            assert again.ask(Op.GET_DATA, wire.read("/secret")).code == Code.NO_AUTH
            again.ask(Op.AUTH, wire.auth("digest", b"ann:pw"), xid=-4)
            assert again.ask(Op.GET_DATA, wire.read("/secret")).code == Code.OK
            # The quota goes on counting where it was.
            again.ask(Op.CREATE, wire.create("/limited/more", b"1234"))
            stats = jute.Reader(again.ask(Op.GET_DATA, wire.read("/zookeeper/quota/limited/zookeeper_stats")).body)
            assert stats.buffer() == b"count=3,bytes=12"
            again.ask(Op.CLOSE)
        with client_of(second) as newcomer:
            assert newcomer.session > client.session
            assert newcomer.ask(Op.EXISTS, wire.read("/mine")).code == Code.NO_NODE


@pytest.mark.slow
def test_it_is_saved_while_it_runs_and_not_only_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "SECONDS_BETWEEN_SAVES", 0.05)
    file = tmp_path / "data"
    with DevServer(data=file, tick=0.1) as served, client_of(served) as client:
        client.ask(Op.CREATE, wire.create("/kept"))
        wait_for(lambda: "/kept" in file.read_text(), what="the znode is in the file")
        served.kill()
    with DevServer(data=file) as again, client_of(again) as client:
        assert client.ask(Op.EXISTS, wire.read("/kept")).code == Code.OK


def test_a_file_is_not_written_again_when_nothing_changed(tmp_path):
    file = tmp_path / "data"
    with DevServer(data=file) as served:
        written = file.stat().st_ino
        served.stop()
        assert file.stat().st_ino == written


def test_a_wipe_is_kept_too(tmp_path):
    file = tmp_path / "data"
    with DevServer(data=file) as served:
        with client_of(served) as client:
            client.ask(Op.CREATE, wire.create("/gone"))
        served.wipe()
    assert "/gone" not in file.read_text()


WHOLE = {
    "format": "zkfleet dev server 1",
    "zxid": 1,
    "secret": "00",
    "next_id": 5,
    "sessions": [],
    "acls": [],
    "nodes": [],
    "containers": [],
    "lifetimes": {},
}
NODE = ["/a", "", 0, 0, 1, 1, 1, 0, 0, 0, 0, 0]
ROOT = ["/", "", 0, 0, 0, 0, 1, 0, 0, 0, 1, 0]
OPEN = [[[31, "world", "anyone"]]]
NO_SNAPSHOTS = {
    "text": b"dear diary",
    "binary": bytes(range(256)),
    "another document": b'{"a": 1}',
    "a list": b"[1, 2]",
    "a deep list": b"[" * 100_000,
    "a number": b"1e999",
    "another format": json.dumps(WHOLE | {"format": "zkfleet dev server 99"}).encode(),
    "half of one": json.dumps(WHOLE).encode()[:-20],
    "nodes that are none": json.dumps(WHOLE | {"nodes": [1]}).encode(),
    "no parent": json.dumps(WHOLE | {"nodes": [ROOT, ["/b/c", *NODE[1:]]], "acls": OPEN}).encode(),
    "no path": json.dumps(WHOLE | {"nodes": [ROOT, ["b//", *NODE[1:]]], "acls": OPEN}).encode(),
    "data that are none": json.dumps(WHOLE | {"nodes": [ROOT, ["/a", "!", *NODE[2:]]], "acls": OPEN}).encode(),
    "an owner that is none": json.dumps(WHOLE | {"nodes": [ROOT, [*NODE[:3], 77, *NODE[4:]]], "acls": OPEN}).encode(),
    "a count too large": json.dumps(WHOLE | {"nodes": [ROOT, [*NODE[:4], 1 << 64, *NODE[5:]]], "acls": OPEN}).encode(),
    "a session too large": json.dumps(WHOLE | {"sessions": [[1 << 70, 5.0]]}).encode(),
    "a timeout that is none": json.dumps(WHOLE | {"sessions": [[1, float("nan")]]}).encode(),
    "lifetimes that are none": json.dumps(WHOLE | {"lifetimes": [], "nodes": [ROOT, NODE], "acls": OPEN}).encode(),
    "a zxid that is none": json.dumps(WHOLE | {"zxid": 1e999}).encode(),
}


@pytest.mark.parametrize("what", NO_SNAPSHOTS)
def test_a_file_that_is_something_else_is_refused_and_stays_as_it_is(tmp_path, what):
    file = tmp_path / "precious"
    file.write_bytes(NO_SNAPSHOTS[what])
    with pytest.raises(BadInput) as refused:
        DevServer(data=file)
    assert str(file) in str(refused.value)
    assert refused.value.hint
    assert file.read_bytes() == NO_SNAPSHOTS[what]
    assert list(tmp_path.iterdir()) == [file]


def test_the_file_of_the_test_above_would_be_taken_if_it_were_whole(tmp_path):
    file = tmp_path / "data"
    file.write_text(json.dumps(WHOLE | {"nodes": [ROOT, NODE], "acls": OPEN}))
    with DevServer(data=file) as served, client_of(served) as client:
        assert client.ask(Op.EXISTS, wire.read("/a")).code == Code.OK


def test_an_empty_file_is_taken_for_a_new_one(tmp_path):
    file = tmp_path / "data"
    file.touch()
    with DevServer(data=file) as served, client_of(served) as client:
        assert client.ask(Op.CREATE, wire.create("/a")).code == Code.OK
    assert "/a" in file.read_text()


def test_a_folder_is_no_data_file(tmp_path):
    with pytest.raises(BadInput, match="directory"):
        DevServer(data=tmp_path)


def test_a_link_to_a_data_file_stays_a_link(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    link.symlink_to(real)
    with DevServer(data=link) as served, client_of(served) as client:
        client.ask(Op.CREATE, wire.create("/kept"))
    assert link.is_symlink()
    assert "/kept" in real.read_text()


FULL_DISK = """
import logging, resource, sys
from pathlib import Path
from tests.conformance import wire
from tests.conformance.wire import Wire
from tests.conftest import wait_for
from zkfleet.devserver import DevServer, saving
from zkfleet.devserver.requests import Op
from zkfleet.errors import BadInput

logging.basicConfig(level=logging.INFO, stream=sys.stderr)
saving.SECONDS_BETWEEN_SAVES = 0.05
file = Path(sys.argv[1])
served = DevServer(data=file, tick=0.1).start()
client = Wire(served.hosts)
saves, real_save = [], served._saver.save
served._saver.save = lambda: (saves.append(1), real_save())
client.ask(Op.CREATE, wire.create("/first"))
wait_for(lambda: "/first" in file.read_text())
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
whole = file.read_bytes()
assert client.ask(Op.CREATE, wire.create("/large", bytes(100_000))).code == 0
done = len(saves)
wait_for(lambda: len(saves) > done + 5)
assert file.read_bytes() == whole, "the old file was harmed"
wait_for(lambda: [path.name for path in file.parent.iterdir()] == [file.name], what="nothing is left behind")
assert client.ping().code == 0
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    wait_for(lambda: "/large" in file.read_text())
try:
    served.stop()
except BadInput as exc:
    print(exc)
client.close()
"""


def with_a_full_disk(file, *more):
    command = [sys.executable, "-W", "error", "-c", FULL_DISK, str(file), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.slow
def test_a_full_disk_is_told_once_and_harms_nothing(tmp_path):
    file = tmp_path / "data"
    done = with_a_full_disk(file)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("devserver_not_saved") == 1
    assert "in memory alone" in done.stdout
    assert "Traceback" not in done.stderr
    assert "/first" in file.read_text()
    assert "/large" not in file.read_text()


@pytest.mark.slow
def test_a_disk_that_has_room_again_gets_everything(tmp_path):
    done = with_a_full_disk(tmp_path / "data", "and room again")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("devserver_saved_again") == 1
    assert done.stdout == ""


def test_a_file_that_cannot_be_written_is_told_and_the_server_works(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(saving, "SECONDS_BETWEEN_SAVES", 0.05)
    folder = tmp_path / "gone"
    folder.mkdir()
    served = DevServer(data=str(folder / "data"), tick=0.1).start()
    with client_of(served) as client:
        shutil.rmtree(folder)
        assert client.ask(Op.CREATE, wire.create("/a")).code == Code.OK
        wait_for(lambda: loud(caplog))
        assert client.ask(Op.EXISTS, wire.read("/a")).code == Code.OK
    with pytest.raises(BadInput, match="in memory alone"):
        served.stop()
    assert [record.getMessage().partition(" ")[0] for record in loud(caplog)] == ["devserver_not_saved"]
    folder.mkdir()
    with served, client_of(served) as client:
        assert client.ask(Op.EXISTS, wire.read("/a")).code == Code.OK
    assert "/a" in (folder / "data").read_text()


def test_two_servers_do_not_share_a_file(tmp_path):
    file = tmp_path / "data"
    with DevServer(data=file) as first, client_of(first) as client:
        client.ask(Op.CREATE, wire.create("/first"))
        with pytest.raises(BadInput, match="another dev server uses it"):
            DevServer(data=file)
        first.restart()
        with pytest.raises(BadInput, match="another dev server uses it"):
            DevServer(data=file)
    with DevServer(data=file) as second, client_of(second) as client:
        assert client.ask(Op.EXISTS, wire.read("/first")).code == Code.OK
        with pytest.raises(BadInput, match="another dev server uses it"):
            first.start()
        client.ask(Op.CREATE, wire.create("/second"))
    with pytest.raises(BadInput, match="has written to it since"):
        first.start()
    assert "/second" in file.read_text()


def test_a_file_that_cannot_be_made_is_refused_before_anything_is_served(tmp_path):
    (tmp_path / "file").touch()
    for data in (tmp_path / "none" / "data", tmp_path / "file" / "data"):
        with pytest.raises(BadInput, match="data: N"):
            DevServer(data=data)


def test_a_file_of_sessions_is_nobody_else_s_to_read(tmp_path):
    with DevServer(data=tmp_path / "data"):
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o600


def test_dear_requests_of_one_client_do_not_stop_the_others(served):
    many = tuple((1, "ip", f"10.{number >> 8}.{number & 255}.1") for number in range(30_000))
    with client_of(served) as client, client_of(served) as bystander:
        client.ask(Op.CREATE, wire.create("/dear", acl=many))
        bystander.ping()
        client.socket.sendall(b"".join(request(xid, Op.GET_DATA, wire.read("/dear")) for xid in range(2000)))
        bystander.ping()
        # It came in between: the other one is not through.
        assert served.core.peers[min(served.core.peers)].received < 2000
