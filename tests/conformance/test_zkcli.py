"""ZooKeeper's own command line, as Debian has it, works on the dev server as on the real one."""

import re
import subprocess

import pytest

from zkfleet.devserver import DevServer
from zkfleet.testing import ZooKeeperServer
from zkfleet.testing.zookeeper import class_path, java

pytestmark = pytest.mark.slow


def command(server):
    # Without jline it reads plain lines, which is all that is wanted here.
    options = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]
    main = "org.apache.zookeeper.ZooKeeperMain"
    return [java(), *options, "-cp", ":".join(class_path()), main, "-server", server.hosts]


@pytest.fixture(scope="module", params=["dev", "real"])
def server(request, tmp_path_factory):
    real = ZooKeeperServer(tmp_path_factory.mktemp("real"), java_options=["-Dzookeeper.extendedTypesEnabled=true"])
    with DevServer() if request.param == "dev" else real as server:
        yield server


def cli(server, *lines):
    """Return all that it says to these lines, which end its session."""
    done = subprocess.run(
        command(server),
        input="\n".join((*lines, "quit", "")),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Welcome to ZooKeeper!" in done.stdout
    return done.stdout


def once(server, *words):
    """Return the outcome of one command on its command line, and what it says."""
    done = subprocess.run(
        [*command(server), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
        input="",
    )
    return done.returncode, done.stdout


def test_a_tree_is_made_listed_and_deleted(server):
    said = cli(server, "create /tree one", "create /tree/a", "create /tree/a/b", "create /tree/c", "ls -R /tree")
    assert re.search(r"^/tree\n/tree/a\n/tree/c\n/tree/a/b$", said, re.MULTILINE) or re.search(
        r"^/tree\n/tree/a\n/tree/a/b\n/tree/c$", said, re.MULTILINE
    )
    said = cli(server, "deleteall /tree", "ls /tree", "ls /")
    assert "Node does not exist: /tree" in said
    assert "zookeeper]" in said


def test_an_ephemeral_sequence_lives_as_long_as_its_session(server):
    said = cli(
        server, "create /line", "create -e -s /line/n- x", "create -e -s /line/n- y", "get -s /line/n-0000000001"
    )
    assert "Created /line/n-0000000000" in said
    assert "Created /line/n-0000000001" in said
    assert re.search(r"^y$", said, re.MULTILINE)
    owner = re.search(r"ephemeralOwner = 0x([0-9a-f]+)", said)[1]
    assert int(owner, 16)
    assert "dataLength = 1" in said
    said = cli(server, "ls /line", "deleteall /line")
    assert re.search(r"^\[\]$", said, re.MULTILINE)


def test_a_stat_has_all_its_lines(server):
    said = cli(server, "create /statted data", "set /statted more", "get -s /statted", "delete /statted")
    keys = re.findall(r"^(\w+) = ", said, re.MULTILINE)
    assert keys == [
        "cZxid",
        "ctime",
        "mZxid",
        "mtime",
        "pZxid",
        "cversion",
        "dataVersion",
        "aclVersion",
        "ephemeralOwner",
        "dataLength",
        "numChildren",
    ]
    assert "dataVersion = 1" in said
    assert "dataLength = 4" in said


def test_a_recursive_watch_hears_of_everything_below(server):
    said = cli(
        server,
        "create /watched",
        "addWatch -m PERSISTENT_RECURSIVE /watched",
        "create /watched/a",
        "set /watched/a x",
        "create /watched/a/b",
        "deleteall /watched/a",
        "removewatches /watched",
        "delete /watched",
    )
    told = re.findall(r"WatchedEvent state:SyncConnected type:(\w+) path:(/\S+)", said)
    assert told[:5] == [
        ("NodeCreated", "/watched/a"),
        ("NodeDataChanged", "/watched/a"),
        ("NodeCreated", "/watched/a/b"),
        ("NodeDeleted", "/watched/a/b"),
        ("NodeDeleted", "/watched/a"),
    ]
    assert ("NodeDeleted", "/watched") not in told


def test_a_quota_is_set_listed_and_deleted(server):
    said = cli(server, "create /q data", "create /q/a xx", "setquota -n 5 /q", "create /q/b y", "listquota /q")
    assert re.search(r"Output quota for /q count=5,bytes=-1", said)
    assert re.search(r"Output stat for /q count=3,bytes=7", said)
    said = cli(server, "delquota /q", "listquota /q", "deleteall /q", "ls /zookeeper/quota")
    assert "quota for /q does not exist" in said


def test_a_reconfiguration_is_refused_cleanly(server):
    said = cli(server, "reconfig -add server.2=127.0.0.1:2888:3888;2181", "ls /")
    assert "Reconfig is disabled" in said
    assert "zookeeper]" in said
    assert "Exception" not in said


def test_containers_lifetimes_and_permissions(server):
    said = cli(
        server,
        "create -c /container",
        "create -t 100000 /short x",
        "addauth digest ann:pw",
        "create /secret s auth::cdrwa",
        "getAcl /secret",
        "whoami",
        "delete /container",
        "delete /short",
    )
    for path in ("/container", "/short", "/secret"):
        assert f"Created {path}" in said
    assert re.search(r"'digest,'ann:\S+=\n: cdrwa", said)
    assert re.search(r"digest: ann", said)
    said = cli(server, "get /secret", "addauth digest ann:pw", "get /secret", "delete /secret")
    assert "Insufficient permission : /secret" in said or "NoAuth" in said
    assert re.search(r"^s$", said, re.MULTILINE)


def test_one_command_a_call_says_by_its_outcome_whether_it_was_done(server):
    assert once(server, "create", "/single", "x")[0] == 0
    code, said = once(server, "get", "/single")
    assert code == 0
    assert re.search(r"^x$", said, re.MULTILINE)
    assert once(server, "delete", "/single")[0] == 0
    code, said = once(server, "get", "/single")
    assert code == 1
    assert "Node does not exist: /single" in said or "NoNode" in said


def test_versions_and_statistics(server):
    said = cli(
        server, "create /v", "set -v 7 /v x", "getAllChildrenNumber /v", "getEphemerals /", "sync /v", "delete /v"
    )
    assert "version No is not valid : /v" in said or "BadVersion" in said
    assert re.search(r"^0$", said, re.MULTILINE)
    assert "Sync is OK" in said
