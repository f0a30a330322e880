"""What operators are told with four letters has the form that the real ZooKeeper gives it."""

import contextlib
import re

import pytest

from tests.conformance import wire
from tests.conformance.wire import Wire
from tests.conftest import wait_for
from tests.devserver.driving import Driven
from zkfleet.devserver import DevServer, jute
from zkfleet.devserver.requests import Op
from zkfleet.devserver.words import WORDS
from zkfleet.testing import ZooKeeperServer
from zkfleet.testing.zookeeper import four_letters

pytestmark = pytest.mark.slow  # for the real server to start
ALL = sorted(word.decode() for word in WORDS)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Two servers to which the same was done, and the clients that did it."""
    real = ZooKeeperServer(tmp_path_factory.mktemp("real"), tick=2000)
    with DevServer(tick=2.0) as dev, real, contextlib.ExitStack() as stack:
        for server in (dev, real):
            client = stack.enter_context(contextlib.closing(Wire(server.hosts, timeout=30_000)))
            for path, flags in (("/a", 0), ("/a/b", 0), ("/mine", 1)):
                client.ask(Op.CREATE, wire.create(path, b"data", flags=flags))
            client.ask(Op.GET_DATA, wire.read("/a", watch=True))
            client.ask(Op.GET_CHILDREN, wire.read("/a", watch=True))
            client.ask(Op.EXISTS, wire.read("/later", watch=True))
        yield dev, real


def said(server, word):
    # A connection that asked before is perhaps still seen.
    wait_for(lambda: "Connections: 2\n" in four_letters(server.port, "srvr"), what="nobody else is connected")
    return four_letters(server.port, word)


def form(answer):
    """Return an answer without what may differ: numbers, dates, versions."""
    answer = re.sub(r"version[:=\t].*", "version", answer, flags=re.IGNORECASE)
    answer = re.sub(r"expire at .*:", "expire at DATE:", answer)
    answer = re.sub(r"0x[0-9a-f]+", "N", answer)
    return re.sub(r"\d+(\.\d+)?", "N", answer)


def keys(answer):
    return [re.split(r"[=\t]", line)[0] for line in answer.splitlines()]


@pytest.mark.parametrize("word", ["ruok", "isro", "srvr", "stat", "cons", "dump", "wchs", "wchc", "wchp"])
def test_the_form_is_that_of_the_real_one(both, word):
    dev, real = (form(said(server, word)) for server in both)
    if word in ("cons", "stat"):
        # In which order connections are told is nobody's promise.
        dev, real = sorted(dev.splitlines()), sorted(real.splitlines())
    if word == "dump":
        # Whether two sessions expire at the same moment is chance.
        dev, real = set(dev.splitlines()), set(real.splitlines())
    assert dev == real
    assert dev


@pytest.mark.parametrize("word", ["mntr", "conf", "envi"])
def test_what_is_told_by_name_has_names_of_the_real_one(both, word):
    dev, real = (set(keys(said(server, word))) for server in both)
    assert dev - real <= {"python.version"}
    missing = real - dev
    match word:
        case "mntr":
            # Counts of what a development server does not have, or does not count.
            assert not missing & set(WATCHED)
        case "conf":
            assert missing == {
                "clientPort",
                "secureClientPort",
                "dataDir",
                "dataDirSize",
                "dataLogDir",
                "dataLogSize",
                "clientPortListenBacklog",
            }
        case "envi":
            assert {key.partition(".")[0] for key in missing} == {"java", "user", "os"}


WATCHED = [
    "zk_version",
    "zk_server_state",
    "zk_ephemerals_count",
    "zk_num_alive_connections",
    "zk_outstanding_requests",
    "zk_znode_count",
    "zk_avg_latency",
    "zk_min_latency",
    "zk_max_latency",
    "zk_global_sessions",
    "zk_packets_sent",
    "zk_packets_received",
    "zk_watch_count",
    "zk_approximate_data_size",
    "zk_local_sessions",
    "zk_uptime",
]


@pytest.mark.parametrize("name", WATCHED)
def test_what_monitoring_watches_is_told_in_the_form_of_the_real_one(both, name):
    dev, real = (dict(line.split("\t") for line in said(server, "mntr").splitlines()) for server in both)
    assert form(f"{name}\t{dev[name]}") == form(f"{name}\t{real[name]}")


@pytest.mark.parametrize("name", ["ephemerals_count", "znode_count", "watch_count", "approximate_data_size"])
def test_what_is_there_is_counted_as_the_real_one_counts(both, name):
    dev, real = (dict(line.split("\t") for line in said(server, "mntr").splitlines()) for server in both)
    assert dev[f"zk_{name}"] == real[f"zk_{name}"]


REQUESTS = {
    Op.CREATE: wire.create("/x"),
    Op.CREATE2: wire.create("/y"),
    Op.EXISTS: wire.read("/a"),
    Op.GET_DATA: wire.read("/a"),
    Op.SET_DATA: wire.set_data("/a"),
    Op.GET_ACL: jute.text("/a"),
    Op.SET_ACL: wire.set_acl("/a", ((31, "world", "anyone"),)),
    Op.GET_CHILDREN: wire.read("/a"),
    Op.GET_CHILDREN2: wire.read("/a"),
    Op.SYNC: jute.text("/a"),
    Op.PING: b"",
    Op.MULTI: wire.batch(),
    Op.MULTI_READ: wire.batch(),
    Op.RECONFIG: jute.text("") * 3 + jute.LONG.pack(-1),
    Op.ADD_WATCH: jute.text("/a") + wire.number(0),
    Op.CHECK_WATCHES: jute.text("/a") + wire.number(3),
    Op.REMOVE_WATCHES: jute.text("/a") + wire.number(3),
    Op.SET_WATCHES: wire.set_watches(0, [], [], []),
    Op.SET_WATCHES2: wire.set_watches(0, [], [], [], [], []),
    Op.GET_EPHEMERALS: jute.text("/"),
    Op.COUNT_ALL: jute.text("/"),
    Op.WHO_AM_I: b"",
    Op.DELETE: wire.delete("/x"),
    Op.DELETE_CONTAINER: wire.delete("/x"),
}


def test_what_a_client_did_last_is_abbreviated_as_the_real_one_does(both):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(Wire(server.hosts))) for server in both]

        def last():
            found = []
            for server, client in zip(both, clients, strict=True):
                cons = four_letters(server.port, "cons")
                found.append(re.search(rf"sid=0x{client.session:x},(lop=\w+),.*?(,lcxid=\w+)?,lzxid", cons).groups())
            return found

        dev, real = last()
        assert dev == real
        for op, body in REQUESTS.items():
            for client in clients:
                client.ask(op, body)
            dev, real = last()
            assert dev == real, op.name


def test_every_word_that_was_asked_for_is_known():
    asked_for = "ruok stat srvr mntr conf cons dump wchs wchc envi isro"
    assert set(ALL) >= set(asked_for.split())


@pytest.mark.parametrize("word", ALL)
def test_a_word_is_answered_without_a_session_and_ends_the_connection(word):
    driven = Driven()
    driven.session()
    asking = driven.connection().feed(word.encode())
    assert asking.inbox
    assert asking.closed


def test_a_word_inside_a_session_is_no_word():
    driven = Driven()
    client = driven.session().feed(b"ruok")
    assert client.closed
    assert not client.inbox


def test_uptime_is_that_of_the_server():
    with DevServer(clock=lambda: 12345.0) as server:
        assert "zk_uptime\t0\n" in four_letters(server.port, "mntr")
