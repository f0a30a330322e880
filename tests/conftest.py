"""The parts that tests stand on: one server of each kind for most, own ones for those that break them."""

import itertools
import shutil
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import HealthCheck, settings
from kazoo.client import KazooClient

import zkfleet
from zkfleet.devserver import DevServer
from zkfleet.testing import Ensemble, Proxy, ZooKeeperServer

# ZEO takes uvloop where it finds it, and it is here for the tests of calls.  In this
# process ZEO has asyncio's own loop, as in most; servers in processes of their own have uvloop.
sys.modules["uvloop"] = None
import ZEO.asyncio.compat  # noqa: E402, F401

del sys.modules["uvloop"]

# How long an example takes says more of the machine than of us.
settings.register_profile("zkfleet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("zkfleet")
_numbers = itertools.count(1)


def a_server(kind, folder):
    return DevServer(tick=0.5) if kind == "dev" else ZooKeeperServer(folder)


@pytest.fixture(scope="session", params=["dev", "real"])
def zookeeper(request, tmp_path_factory):
    """One server of each kind for the whole run.  No test breaks it."""
    with a_server(request.param, tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


@pytest.fixture
def hosts(zookeeper):
    """A connection string whose chroot is this test's own, and empty."""
    return with_own_chroot(zookeeper.hosts)


def with_own_chroot(hosts):
    chroot = f"/test{next(_numbers)}"
    client = KazooClient(hosts)
    client.start()
    client.create(chroot)
    client.stop()
    client.close()
    return hosts + chroot


@pytest.fixture
def kazoo(hosts):
    """A bare client on this test's chroot: the outside observer."""
    client = KazooClient(hosts)
    client.start()
    yield client
    client.stop()
    client.close()


@pytest.fixture
def registry(hosts):
    with zkfleet.connect(hosts, session_timeout=5) as registry:
        yield registry


@pytest.fixture(params=["dev", "real"])
def own_zookeeper(request, tmp_path):
    """A server, of each kind, that this test may break."""
    with a_server(request.param, tmp_path / "own") as server:
        yield server


@pytest.fixture
def ensemble(tmp_path):
    """Three real servers that this test may break."""
    with Ensemble(tmp_path / "ensemble") as ensemble:
        yield ensemble


@pytest.fixture
def proxy(zookeeper):
    """A relay to the shared server whose links this test may break."""
    with Proxy(zookeeper.port) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    assert shutil.which("openssl"), "openssl makes the certificates: apt-get install openssl"
    folder = tmp_path_factory.mktemp("tls")
    for name in ("server", "client"):
        made = f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN={name} -addext subjectAltName=IP:127.0.0.1"
        files = ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt"]
        subprocess.run([*made.split(), *files], check=True, capture_output=True)
    return folder


def wait_for(condition, timeout=10.0, what="the condition"):
    """Wait until `condition()` is true and return its value; fails after the timeout."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout:g} s; last: {value!r}")
        threading.Event().wait(0.01)
