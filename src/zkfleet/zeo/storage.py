"""What does a client hold, and how does it hear from the registry?

A `ClientStorage` whose addresses come from a path of the registry.  The
registry's callbacks tell its link of new lists; what is done about them is told
in `link`.
"""

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from ZEO.asyncio.client import ClientIO, ClientThread
from ZEO.ClientStorage import ClientStorage
from ZEO.Exceptions import ClientDisconnected
from ZODB.POSException import ConflictError, ReadOnlyError
from ZODB.utils import oid_repr, z64

from zkfleet.endpoints import check_servers
from zkfleet.errors import BadInput, WrongDatabase
from zkfleet.registry import InvalidProvider, ProvidersView, Registry
from zkfleet.spelling import get_logger
from zkfleet.zeo import fork, loads
from zkfleet.zeo.boundary import Boundary
from zkfleet.zeo.cache_file import Kept, client_files, remember, remembered
from zkfleet.zeo.candidates import choose
from zkfleet.zeo.described import IDENTITY, TRANSIENT, is_server
from zkfleet.zeo.insides import Repair, is_on, require
from zkfleet.zeo.link import FOLLOWING, Link, LinkThread
from zkfleet.zeo.oids import Oids
from zkfleet.zeo.options import Settings
from zkfleet.zeo.sessions import Shared
from zkfleet.zeo.statistics import Outages

logger = get_logger(__name__)

ONLY_STORAGE = "1"
"""What ZEO calls a storage that nobody gave a name."""
STORAGE = Repair(
    "a client whose servers the registry finds",
    without="there is none",
    needs=(
        "ZEO.ClientStorage:ClientStorage(addr, storage, name, wait, wait_timeout, read_only, read_only_fallback)",
        "ZEO.ClientStorage:ClientStorage(_client_factory)",
        "ZEO.ClientStorage:ClientStorage.__init__ sets _async, _async_iter, _cache, _call, _is_read_only, _server",
        "ZEO.ClientStorage:ClientStorage.__init__ sets _storage, _wait",
        "ZEO.ClientStorage:ClientStorage.__init__ sets _iterator_ids, _iterators",
        "ZEO.ClientStorage:ClientStorage._check_trans(trans, meth)",
        "ZEO.ClientStorage:ClientStorage._forget_iterator(iid)",
        "ZEO.ClientStorage:ClientStorage._iterator_gc(disconnected)",
        "ZEO.ClientStorage:ClientStorage.close",
        "ZEO.ClientStorage:ClientStorage.loadBefore",
        "ZEO.ClientStorage:ClientStorage.new_addr(addr)",
        "ZEO.ClientStorage:ClientStorage.new_oid",
        "ZEO.ClientStorage:ClientStorage.notify_connected(conn, info)",
        "ZEO.ClientStorage:ClientStorage.notify_disconnected",
        "ZEO.ClientStorage:ClientStorage.set_server_addr(addr)",
        "ZEO.ClientStorage:ClientStorage.set_server_addr sets _server_addr",
        "ZEO.ClientStorage:ClientStorage.sortKey",
        "ZEO.ClientStorage:ClientStorage.store(oid, serial, data, version, txn)",
        "ZEO.ClientStorage:ClientStorage.storeBlob(oid, serial, data, blobfilename, version, txn)",
        "ZEO.ClientStorage:ClientStorage.tpc_begin(txn, tid, status)",
        "ZEO.ClientStorage:ClientStorage.tpc_end(txn)",
        "ZEO.ClientStorage:ClientStorage.tpc_vote(txn)",
        "ZEO.asyncio.client:ClientIO.operational",
        "ZEO.asyncio.client:ClientRunner.async_",
        "ZEO.asyncio.client:ClientRunner.is_connected",
        "ZEO.asyncio.client:ClientRunner.wait",
        "ZEO.asyncio.client:ClientRunner.set_options sets timeout",
        "ZEO.asyncio.client:ClientRunner.setup_delegation sets client, io_call",
        "ZEO.asyncio.client:ClientThread(addrs, client, cache, storage_key, read_only, timeout)",
        "ZEO.cache:ClientCache.__init__ sets path",
        "ZEO.cache:ClientCache.close",
    ),
)


class FollowingStorage(ClientStorage):  # type: ignore[misc]  # ZEO has no types
    """A storage on whichever server is registered under a path.

    Made by `zkfleet.zeo.client`.  Like every `ClientStorage` it may be used
    from any thread; after a fork, by the parent alone.

    Args:
        registry: where servers are registered.
        path: their node; links are followed.
        settings: how to follow.
        session: to be closed at the end, or None for a registry that is the caller's.
        options: those of `ClientStorage` but for the address.

    Attributes:
        path: where it follows.
        outages: since when there is a server, and how long there was none.
    """

    def __init__(
        self,
        registry: Registry,
        path: str,
        settings: Settings,
        *,
        session: Shared | None = None,
        wait: bool = True,
        **options: Any,
    ) -> None:
        self.path, self._settings = path, settings
        self._boundary = Boundary()
        self.outages = Outages()
        self._fresh_oids, self._new = Oids(), set[bytes]()
        self._ending = contextlib.ExitStack()
        self._is_empty, self._not_preferred, self._sort_key = False, "", ""
        self._place = _place(registry.session.hosts, path)
        with contextlib.ExitStack() as undo:
            if session is not None:
                undo.callback(session.close)
            require(STORAGE)
            self._providers = undo.enter_context(contextlib.closing(registry.providers(path)))
            storage = options.get("storage") or ONLY_STORAGE
            options["name"] = options.get("name") or f"{storage}@{registry.session.hosts}{path}"
            with client_files(options):
                super().__init__([], wait=False, _client_factory=self._start_thread, **options)
            undo.callback(super().close)
            fork.disable_in_children(self)
            loads.shorten_failures()
            self._check_path()
            self._providers(self._on_change)
            if self._not_preferred:
                raise BadInput(f"prefer= fails for {self._not_preferred}", hint="give a key for whatever is registered")
            if wait:
                self._wait()
            self._ending = undo.pop_all()

    def _start_thread(self, addresses: Any, storage: Any, cache: Any, *args: Any, **options: Any) -> ClientThread:
        if not is_on(FOLLOWING):
            return ClientThread(addresses, storage, cache, *args, **options)
        told, kept = self._settings.database, remembered(cache)
        if told and kept.database and told != kept.database:
            cache.close()
            raise WrongDatabase(cache.path, found=kept.database, expected=told)
        options |= {"settings": self._settings, "boundary": self._boundary, "kept": kept}
        return LinkThread(addresses, storage, cache, *args, **options)

    # -- following

    def _check_path(self) -> None:
        """Refuse the root if it has no servers: its path was forgotten.  Elsewhere they may come yet."""
        try:
            check_servers(self.path, set(self._providers) - {"zookeeper"})
        except BadInput as exc:
            if self.path == "/":
                raise
            logger.warning("zeo_path_doubted reason=%s; %s", exc, exc.hint)

    def _on_change(self, providers: ProvidersView) -> None:
        entries = {name: entry for name, entry in providers.items() if is_server(entry)}
        said = {name: entry for name, entry in entries.items() if not isinstance(entry, InvalidProvider)}
        self._tell_if_empty(said)
        choice = choose(said, storage=self._storage, mode=self._settings.mode, prefer=self._settings.prefer)
        self._tell_if_not_preferred(choice.not_preferred)
        if isinstance(self._server, LinkThread):
            self._server.follow(choice)
            return
        # The registry's callbacks may go on for a moment after the end.
        with contextlib.suppress(ClientDisconnected):
            self.new_addr([one.address for one in choice.candidates])

    def _tell_if_empty(self, said: Mapping[str, Any]) -> None:
        if bool(said) == self._is_empty:
            self._is_empty = not said
            if said:
                logger.info(
                    "zeo_servers_registered path=%s storage=%s servers=%s",
                    self.path,
                    self._storage,
                    ",".join(sorted(said)),
                )
            else:
                logger.warning(
                    "zeo_no_servers path=%s storage=%s: waiting until one registers", self.path, self._storage
                )

    def _tell_if_not_preferred(self, problem: str) -> None:
        if problem and problem != self._not_preferred:
            logger.warning(
                "zeo_preference_failed path=%s storage=%s reason=%s: tried last", self.path, self._storage, problem
            )
        self._not_preferred = problem

    # -- what ZEO asks and tells

    def notify_connected(self, conn: ClientIO, info: dict[str, Any]) -> None:
        """Go on with a server; a cache that is kept remembers what database it is of."""
        if isinstance(conn, Link):
            conn.database = conn.database or str(info.get(IDENTITY, ""))
            conn.transient = info.get(TRANSIENT) is True
        self._sort_key = self._sort_key or self.database or f"{self._storage}:{self._place}"
        self._fresh_oids.change_server()
        super().notify_connected(conn, info)
        self.outages.over(time.monotonic())
        remember(self._cache, Kept(self.database, bool(getattr(conn, "transient", False))))

    def notify_disconnected(self) -> None:
        """Take note that there is no server."""
        self.outages.begun(time.monotonic())
        super().notify_disconnected()

    def notify_left(self) -> None:
        """Take note that a server is left for another one, which goes on at once: that is no outage.

        What is open at the old one, such as an iterator, is not at the new one.
        """
        super().notify_disconnected()

    # An iterator knows its connection by its number.  So the iterators are not gone
    # through here, which fails when a thread begins one meanwhile.
    def _iterator_gc(self, disconnected: bool = False) -> None:
        if disconnected and isinstance(self._server, LinkThread):
            self._iterators.clear()
            self._iterator_ids.clear()
        else:
            super()._iterator_gc(disconnected)

    def _forget_iterator(self, iid: int) -> None:
        self._iterators.pop(iid, None)
        self._iterator_ids.discard(iid)  # the server may have been lost, or left, since its last answer

    def set_server_addr(self, addr: Any) -> None:
        """Take note of the server's address, without looking up a name for it."""
        self._server_addr = str(addr)

    # The identity is what all clients of a database agree on, however each
    # of them spells hosts and path.  Where there is none, the place must do.
    # Whichever it is when a server is first met, it stays: processes that
    # change their minds in the middle would wait for each other's locks.
    def sortKey(self) -> str:  # noqa: N802  the name is ZODB's
        """Return what orders this storage among others in a transaction: the same for all clients of a database."""
        if not self._sort_key:
            raise ClientDisconnected(f"{self.path}: no server was met yet")
        return self._sort_key

    def tpc_begin(self, txn: Any, tid: bytes | None = None, status: str = " ") -> None:
        """Begin a transaction; waits for a server as reading does."""
        if self._has_begun(txn):
            super().tpc_begin(txn, tid, status)  # which refuses it
            return
        deadline = time.monotonic() + self._server.timeout
        self._boundary.enter(txn)
        # The server may have been lost, or left, while others were inside.
        while not self._server.is_connected():
            self._boundary.leave(txn)
            self._server.wait(max(deadline - time.monotonic(), 0))
            self._boundary.enter(txn)
        self._new.clear()
        try:
            super().tpc_begin(txn, tid, status)
        except BaseException:
            self._boundary.leave(txn)
            raise

    def _check_trans(self, trans: Any, meth: str) -> Any:
        try:
            return super()._check_trans(trans, meth)
        except ClientDisconnected as exc:
            loss = getattr(self._server.client, "loss", "") or "the connection was lost"
            raise ClientDisconnected(f"{loss}; {meth} of a transaction that began there") from exc

    def _has_begun(self, txn: Any) -> bool:
        try:
            return txn.data(self) is not None
        except (AttributeError, KeyError):
            return False

    def tpc_end(self, txn: Any) -> None:
        """End a transaction, however it went."""
        super().tpc_end(txn)
        self._boundary.leave(txn)

    # -- new objects

    def new_oid(self) -> bytes:
        """Return an id for a new object, from the server in use."""
        if self._is_read_only:
            raise ReadOnlyError()
        while (oid := self._fresh_oids.take()) is None:
            server = self._fresh_oids.server
            self._fresh_oids.add(self._call("new_oids"), server)
        return oid

    def store(self, oid: bytes, serial: bytes, data: bytes, version: str, txn: Any) -> None:
        """Store an object."""
        self._check_new(oid, serial)
        super().store(oid, serial, data, version, txn)

    def storeBlob(  # noqa: N802  the name is ZODB's
        self, oid: bytes, serial: bytes, data: bytes, blobfilename: str, version: str, txn: Any
    ) -> Any:
        """Store a blob."""
        self._check_new(oid, serial)
        return super().storeBlob(oid, serial, data, blobfilename, version, txn)

    # The server in use may have given the same id to somebody else, who may not
    # have committed it yet.  A plain ConflictError, because a server in between
    # hands no other error on that its clients would take for one to try again.
    def _check_new(self, oid: bytes, serial: bytes) -> None:
        if serial != z64:
            return
        if self._fresh_oids.is_former(oid):
            raise ConflictError(
                f"the new object {oid_repr(oid)} has an id of a server that was left: try again", oid=oid
            )
        self._new.add(oid)

    def tpc_vote(self, txn: Any) -> Any:
        """Vote on a transaction."""
        try:
            return super().tpc_vote(txn)
        except ConflictError as exc:
            if exc.oid in self._new:  # others like it would be in conflict, too
                self._fresh_oids.drop()
            raise

    @property
    def database(self) -> str:
        """The identity of the database that is followed, or ""."""
        thread = getattr(self, "_server", None)
        return str(getattr(thread and thread.client, "database", ""))

    def close(self) -> None:
        """Stop following, and close.  Twice is fine."""
        fork.forget(self)
        self._ending.close()


def _place(hosts: str, path: str) -> str:
    """Return where a path is, the same in whatever order hosts are given, and whether or not with a chroot."""
    members, slash, chroot = hosts.partition("/")
    return ",".join(sorted(set(members.lower().split(",")))) + slash + chroot + path
