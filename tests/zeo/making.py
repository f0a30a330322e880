"""What tests of ZEO servers are made with: servers on threads and in processes, clients that commit or hang."""

import contextlib
import signal
import subprocess
import sys
import threading
from pathlib import Path

from ZEO.ClientStorage import ClientStorage
from ZODB.Connection import TransactionMetaData
from ZODB.MappingStorage import MappingStorage
from ZODB.utils import load_current, z64

from tests.conftest import wait_for
from zkfleet.testing.zookeeper import free_port  # noqa: F401  tests take it from here
from zkfleet.zeo.databases import identify
from zkfleet.zeo.storage_server import RepairedServer


@contextlib.contextmanager
def a_server(storage=None, *, address=("127.0.0.1", 0), kind=RepairedServer, **options):
    """A bare storage server on a thread; its one storage is `1`."""
    storage = MappingStorage() if storage is None else storage  # an empty one is false
    if kind is RepairedServer:
        options = {"identities": {"1": identify(storage)}, "may_commit": lambda: True} | options
    else:
        identify(storage)
    server = kind(address, {"1": storage}, **options)
    thread = threading.Thread(target=getattr(server, "serve", server.loop), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        if kind is RepairedServer:
            server.abort()
            thread.join(10)
            assert not thread.is_alive()
            storage.close()
        else:
            server.close()
            thread.join(10)


def a_client(address, **options):
    """A client storage; whoever calls closes it."""
    return ClientStorage(address, **{"wait_timeout": 10} | options)


@contextlib.contextmanager
def a_transaction(storage, description=""):
    """A transaction that a client storage has begun; what it leaves behind is cleared away, however it ends."""
    t = TransactionMetaData("", description)
    try:
        storage.tpc_begin(t)
        yield t
    finally:
        with contextlib.suppress(KeyError):
            storage.tpc_end(t)


@contextlib.contextmanager
def a_holder(address, description="held", **options):
    """A client that has voted, and so keeps everybody else from committing, with its transaction."""
    with contextlib.closing(a_client(address, **options)) as storage, a_transaction(storage, description) as t:
        store_root(storage, t)
        storage.tpc_vote(t)
        yield storage, t


def store_root(storage, t):
    """Store the root again, as it is."""
    data, serial = load_current(storage, z64)
    storage.store(z64, serial, data, "", t)


def store_and_finish(storage):
    """Commit once, from an open client, and return the transaction's id."""
    with a_transaction(storage) as t:
        store_root(storage, t)
        storage.tpc_vote(t)
        return storage.tpc_finish(t)


def commit(address, description="quick", **options):
    """Commit once, from a client of its own, and return the transaction's id."""
    with a_holder(address, description, **options) as (storage, t):
        return storage.tpc_finish(t)


class Stubborn(MappingStorage):
    """A storage that is closed when it may be."""

    def __init__(self):
        super().__init__()
        self.may_close = threading.Event()

    def close(self):
        self.may_close.wait(60)
        super().close()


class Attempt:
    """A function that is under way on a thread."""

    def __init__(self, function, *arguments):
        self._result = None
        self._thread = threading.Thread(target=self._run, args=(function, *arguments), daemon=True)
        self._thread.start()

    def _run(self, function, *arguments):
        try:
            self._result = function(*arguments)
        except Exception as exc:
            self._result = exc

    def outcome(self, timeout=10):
        """Return what it returned or raised; None if it is still under way after the timeout."""
        self._thread.join(timeout)
        return self._result


def a_config(*, address=None, zookeeper=None, path="/databases/main", storage=None, zeo="", more="", eventlog=""):
    """A configuration's text; without a connection string there is no <zookeeper> section."""
    lines = ["<zeo>", f"  address {address}" if address else "", zeo, "</zeo>"]
    if zookeeper:
        lines += ["<zookeeper>", f"  connection {zookeeper}", f"  path {path}", more, "</zookeeper>"]
    lines += [storage or "<mappingstorage 1>\n</mappingstorage>", eventlog]
    return "\n".join(filter(None, lines)) + "\n"


def a_filestorage(file, name="1", blobs=None):
    """The section for one, with a folder for blobs if one is named."""
    return f"<filestorage {name}>\n  path {file}\n{f'  blob-dir {blobs}' if blobs else ''}\n</filestorage>"


SERVE = "from zkfleet.cli import main; main()"


class ServerProcess:
    """`zkfleet zeo serve` with a configuration, in a process that a test may break."""

    def __init__(self, folder: Path, config: str, *arguments: str, hangup=signal.SIG_DFL, code=SERVE):
        folder.mkdir(exist_ok=True, parents=True)
        self.config, self._log = folder / "zeo.conf", folder / "server.log"
        self.config.write_text(config)
        # Whoever started the tests may ignore hangups, as `nohup` does.
        code = f"import signal; signal.signal(signal.SIGHUP, signal.{hangup.name})\n{code}"
        command = [sys.executable, "-c", code, "zeo", "serve", "-C", self.config]
        with self._log.open("a") as log:
            self._process = subprocess.Popen([*command, *arguments], stdout=log, stderr=log, cwd=folder)
        self.pid = self._process.pid

    @property
    def log(self):
        """What it has written so far."""
        return self._log.read_text()

    def says(self, words, timeout=20):
        """Wait until it has written something."""
        wait_for(lambda: words in self.log or self._process.poll() is not None, timeout, f"{words!r} in the log")
        assert words in self.log, self.log

    def signal(self, number):
        self._process.send_signal(number)

    def ends(self, timeout=20):
        """Wait for its end and return its exit code."""
        return self._process.wait(timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        if self._process.poll() is None:
            self.signal(signal.SIGKILL)
        self._process.wait(20)


def addresses(registry, path="/databases/main"):
    """Where servers are registered, as `(host, port)`."""
    with contextlib.closing(registry.providers(path)) as view:
        return sorted((endpoint.host, endpoint.port) for endpoint in view.endpoints)
