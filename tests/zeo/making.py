"""What tests of ZEO servers are made with: servers on threads and in processes, clients that commit or hang."""

import contextlib
import threading

from ZEO.ClientStorage import ClientStorage
from ZODB.Connection import TransactionMetaData
from ZODB.MappingStorage import MappingStorage
from ZODB.utils import load_current, z64

from zkfleet.zeo.databases import identify
from zkfleet.zeo.storage_server import RepairedServer


@contextlib.contextmanager
def a_server(storage=None, *, address=("127.0.0.1", 0), kind=RepairedServer, **options):
    """A bare storage server on a thread; its one storage is `1`."""
    storage = storage or MappingStorage()
    if kind is RepairedServer:
        options = {"identities": {"1": identify(storage)}, "may_commit": lambda: True} | options
    else:
        identify(storage)
    server = kind(address, {"1": storage}, **options)
    thread = threading.Thread(target=server.loop, daemon=True)
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
def a_holder(address, description="held", **options):
    """A client that has voted, and so keeps everybody else from committing, with its transaction."""
    storage = a_client(address, **options)
    t = begun(description)
    try:
        vote(storage, t)
        yield storage, t
    finally:
        storage.close()
        with contextlib.suppress(KeyError):
            storage.tpc_end(t)  # its buffer is a file


def begun(description="quick"):
    """A transaction, as a storage wants it."""
    return TransactionMetaData("", description)


def vote(storage, t):
    """Store the root again, and vote."""
    storage.tpc_begin(t)
    data, serial = load_current(storage, z64)
    storage.store(z64, serial, data, "", t)
    storage.tpc_vote(t)


def commit(address, description="quick", **options):
    """Commit once, from a client of its own, and return the transaction's id."""
    with a_holder(address, description, **options) as (storage, t):
        return storage.tpc_finish(t)


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


def descriptions(storage):
    """Those of all transactions of the root, newest first."""
    return [revision["description"] for revision in storage.history(z64, size=100)]
