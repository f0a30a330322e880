"""What does a forked child find of its parent's client storages?

The thread that does the work is not there, the connection and the cache's file
are the parent's, and nobody tells the child of changes: what it reads would be
old for as long as it lives.  So whatever it does with them raises
`ForkedSession`: beginning, reading and storing, also of objects that were in
memory when it was forked.  What only ends or closes is let through.

All of this happens in the child before `os.fork` returns there, and takes no
lock: a thread that is not there may hold it.
"""

import contextlib
import inspect
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Any, NoReturn

import transaction
from ZODB.Connection import Connection
from ZODB.mvccadapter import MVCCAdapter

from zkfleet.errors import ForkedSession
from zkfleet.zeo.connected import client_storage
from zkfleet.zeo.insides import Repair, is_on

ADAPTER = "ZODB.mvccadapter:"
CACHED_OBJECTS = Repair(
    "databases in a forked child",
    "a child is refused only when it needs the server",
    (
        "ZEO.ClientStorage:ClientStorage.registerDB sets _db",
        ADAPTER + "MVCCAdapter.__init__ sets _instances, _lock",
        ADAPTER + "MVCCAdapter.new_instance",
        ADAPTER + "MVCCAdapterInstance.__init__ sets _lock",
        ADAPTER + "MVCCAdapterInstance.poll_invalidations",
        ADAPTER + "MVCCAdapterInstance.sync(force)",
        "transaction._manager:TransactionManager.__init__ sets _synchs",
    ),
)

_storages: "weakref.WeakSet[Any]" = weakref.WeakSet()


def disable_in_children(storage: Any) -> None:
    """Have a client storage refuse all work in children that are forked from now on."""
    _storages.add(storage)


def forget(storage: Any) -> None:
    """Take note that a client storage is closed."""
    _storages.discard(storage)


def _disable_all() -> None:
    ours = list(_storages)
    _storages.clear()
    for storage in ours:
        _disable(storage)
    for storage in ours:
        _empty_object_caches(storage)


os.register_at_fork(after_in_child=_disable_all)


def _disable(storage: Any) -> None:
    server, cache = storage._server, storage._cache
    server.client.operational = False
    server.io_call = server.async_ = server.async_iter = _refuse
    storage._async = storage._async_iter = storage.tpc_begin = storage.sync = _refuse
    storage._cache = storage._fresh_oids = _Refusing()
    if storage.fshelper is not None:
        storage.fshelper = _Refusing()
    storage._ending = contextlib.ExitStack()
    for number in _open_files(server.client, cache):
        _let_go(number)
    if is_on(CACHED_OBJECTS) and isinstance(storage._db, MVCCAdapter):
        # Whoever told of changes when the child was forked had these locks, and is not here.
        storage._db._lock = threading.Lock()
        storage._db.new_instance = _refuse
        for instance in list(storage._db._instances):
            _Ending(instance)


def _refuse(*arguments: Any, **_options: Any) -> NoReturn:
    for one in arguments:
        if inspect.iscoroutine(one):
            one.close()  # nobody will await it
    raise ForkedSession(
        "this ZEO client belongs to the parent process", hint="open the database after the fork, in each child"
    )


class _Refusing:
    """Something of the parent's."""

    def __getattr__(self, name: str) -> NoReturn:
        _refuse()


class _Ending:
    """A connection's view of a storage in a child: its transactions may end, and none begins.

    ZODB looks for changes when a transaction begins, when it is over, and when
    a connection is opened; only of the second it says which it is.
    """

    def __init__(self, instance: Any) -> None:
        self._is_over = False
        instance._lock = threading.Lock()
        instance.afterCompletion = self._complete
        instance.sync = self._sync
        instance.poll_invalidations = lambda: None  # forget all objects

    def _complete(self) -> None:
        self._is_over = True

    def _sync(self, force: bool = True) -> None:
        if force or not self._is_over:
            _refuse()
        self._is_over = False


# Until the transaction ends nothing asks the storage for objects that are in
# memory.  Other threads, and the connections that they use, are not here.
def _empty_object_caches(storage: Any) -> None:
    if not is_on(CACHED_OBJECTS):
        return
    for reference in transaction.manager.manager._synchs.as_weakref_list():
        connection = reference()
        if isinstance(connection, Connection) and client_storage(connection.db().storage) is storage:
            # An object of the application may refuse, and the others are to be forgotten all the same.
            with contextlib.suppress(Exception):
                connection.cacheMinimize()


# -- files and sockets

# What the parent's end would close, a child must not keep open: the server
# would take the client for alive, and the cache's file would stay locked.  To
# close them is not enough: their owners would write to them, or unlock them, as
# they are collected.  So each becomes the null device.


def _open_files(client: Any, cache: Any) -> Iterator[int]:
    for peer in {*client.protocols, client.protocol} - {None}:
        transport = getattr(getattr(peer, "sm_protocol", None), "transport", None)
        socket = transport and transport.get_extra_info("socket")
        if socket is not None:
            yield socket.fileno()
    lock = getattr(cache, "_lock_file", None)
    for file in (cache.f, getattr(lock, "_fp", None)):
        if file is not None and not file.closed:
            yield file.fileno()


def _let_go(number: int) -> None:
    if number >= 0:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, number, inheritable=False)
        os.close(null)
