"""Web servers that count visits in a ZEO database, while that is killed and started again under load."""

import contextlib
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import transaction
from twisted.internet.defer import fail
from twisted.logger import capturedLogs
from twisted.web.test.requesthelper import DummyRequest
from ZODB import DB
from ZODB.FileStorage import FileStorage

import zkfleet
from tests.conftest import wait_for
from tests.end_to_end.visitors import ask
from tests.zeo import making
from zkfleet.devserver import DevServer

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(ROOT.glob("examples/visits_*.py"))
PATH = "/databases/visits"
pytestmark = [pytest.mark.slow, pytest.mark.faults]


@pytest.fixture
def hosts():
    with DevServer(tick=0.2) as zookeeper, zkfleet.connect(zookeeper.hosts) as registry:
        registry.import_tree("/databases\n  /visits\n")
        yield zookeeper.hosts


def zeo_server(tmp_path, hosts):
    storage = making.a_filestorage(tmp_path / "Data.fs")
    config = making.a_config(
        address="127.0.0.1", zookeeper=hosts, path=PATH, storage=storage, more="session-timeout 2000"
    )
    return making.ServerProcess(tmp_path / "zeo", config)


@contextlib.contextmanager
def process(*arguments, **options):
    """A Python process, which is ended if it has not ended by itself."""
    with subprocess.Popen([sys.executable, *map(str, arguments)], text=True, stdout=subprocess.PIPE, **options) as one:
        try:
            yield one
        finally:
            one.kill()


def port_of(server):
    """Where a web server listens, as soon as it does."""
    line = server.stdout.readline()
    assert line.startswith("listening on http://127.0.0.1:"), line
    return int(line.rstrip("/\n").rpartition(":")[2])


def stored(file):
    """How often each visit was committed to the file, and their count, as each example keeps them."""
    manager = transaction.TransactionManager()
    with contextlib.closing(DB(FileStorage(str(file), read_only=True))) as db:
        root = db.open(manager).root()
        found = dict(root["visits"]), root["count"]()
        manager.abort()
        return found


def test_any_error_ends_the_request_to_twisted():
    answer = runpy.run_path(str(ROOT / "examples" / "visits_twisted.py"))["answer"]
    request = DummyRequest([b"visits"])
    with capturedLogs() as logged:
        answer(request, fail(KeyError("no")))
    assert (request.responseCode, request.finished) == (500, 1)
    assert [event["log_failure"].type for event in logged] == [KeyError]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_no_visit_is_lost_and_none_counted_twice(example, hosts, tmp_path):
    with contextlib.ExitStack() as parts:
        zeo = parts.enter_context(zeo_server(tmp_path, hosts))
        web = parts.enter_context(process(example, hosts, PATH, "--port", "0"))
        port = port_of(web)
        load = parts.enter_context(process("-m", "tests.end_to_end.visitors", port, cwd=ROOT, stdin=subprocess.PIPE))
        for _ in range(4):
            enough = (ask(port) or 0) + 100
            wait_for(lambda enough=enough: (ask(port) or 0) > enough, 30, "visits are counted")
            zeo.signal(9)
            zeo.ends()
            zeo = parts.enter_context(zeo_server(tmp_path, hosts))
        wait_for(lambda: (ask(port) or 0) > enough + 100, 30, "visits are counted")
        acknowledged = json.loads(load.communicate("", 60)[0])
        count = ask(port)
        web.terminate()
        assert web.wait(20) == 0
        zeo.signal(15)
        zeo.ends()
    visits, counted = stored(tmp_path / "Data.fs")
    assert set(visits) == set(acknowledged)
    too_often = {visit: times for visit, times in visits.items() if not 1 <= times <= acknowledged[visit]}
    assert not too_often
    assert count == counted == len(visits) > 500
