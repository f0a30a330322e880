"""The Pyramid application in examples/, whose ZEO server breaks off and comes back elsewhere."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

import zkfleet
from tests.zeo import making
from zkfleet.devserver import DevServer
from zkfleet.zeo import Server

EXAMPLE = Path(__file__).parents[2] / "examples" / "pyramid_app.py"
pytestmark = [pytest.mark.slow, pytest.mark.faults]


def visit(url):
    with urlopen(Request(url, method="POST"), timeout=30) as answer:
        return json.load(answer)["visits"]


@contextlib.contextmanager
def application(uri):
    """The example as a process; gives its URL."""
    command = [sys.executable, EXAMPLE, uri, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().removeprefix("listening on ").strip()
        finally:
            process.kill()


def test_a_pyramid_application_goes_on_when_its_server_comes_back_elsewhere(tmp_path):
    with DevServer(tick=0.2) as zookeeper, zkfleet.connect(zookeeper.hosts) as registry:
        registry.import_tree("/databases\n  /main\n")
        storage = making.a_filestorage(tmp_path / "Data.fs")
        config = making.a_config(address="127.0.0.1", zookeeper=zookeeper.hosts, storage=storage)
        first = Server(config).start()
        try:
            with application(f"zkzeo://{zookeeper.hosts}/databases/main?wait_timeout=20") as url:
                assert [visit(url), visit(url)] == [1, 2]
                first.abort()
                with Server(config):
                    assert [visit(url), visit(url)] == [3, 4]
        finally:
            first.close()
