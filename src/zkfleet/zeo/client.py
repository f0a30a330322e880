"""How do I get a database whose server the registry finds?

The doors: a storage, a database or a connection on a path.  What they hold is
told in `storage`.
"""

from typing import Any

import ZODB
from ZODB.Connection import Connection

from zkfleet import paths
from zkfleet.registry import Registry
from zkfleet.zeo.options import split
from zkfleet.zeo.sessions import share
from zkfleet.zeo.storage import FollowingStorage


def client(registry_or_hosts: Registry | str | None, path: str, **options: Any) -> FollowingStorage:
    """Open a ZEO client storage on the servers that are registered under a path.

    Args:
        registry_or_hosts: a registry, or a connection string for one that clients
            of this process share; None for what `zkfleet.connect` takes by default.
        path: the node whose children are the servers; links are followed.
        options: those of `ZEO.ClientStorage.ClientStorage`, and:
            prefer: `name=value` of a property, such as `zone=eu-1`, a list of
                these, or a key function of a server's properties: who has the
                smallest key is tried first, the others half a second later.
            on_delisted: when the server in use is registered no more: `leave` it
                for another one between two transactions, or `stay`.
            leave_after: seconds for which it must have been gone (5).
            on_behind: a server that lacks transactions that were seen here:
                `wait` for it, `refuse` it, or `clear` the cache and go back in time.
            database: the identity of the database that is expected.
            ping_interval, ping_timeout: seconds of silence before a server is
                asked for a word, and that it may take to answer (5 and 5); None
                for an interval turns that off.

    Raises:
        NodeNotFound: there is no such path.
        ConnectFailed: ZooKeeper cannot be reached.
        ClientDisconnected: no server could be had within `wait_timeout`; the
            message says what is wrong with each.
        WrongDatabase, ServerBehind: see `database` and `on_behind`.
        BadInput: an option is wrong, or does nothing today.
    """
    settings, theirs = split(options)
    paths.check(path)
    if isinstance(registry_or_hosts, Registry):
        return FollowingStorage(registry_or_hosts, path, settings, **theirs)
    timeout = theirs.get("wait_timeout") or 30
    registry, session = share(registry_or_hosts, timeout=timeout)
    return FollowingStorage(registry, path, settings, session=session, **theirs)


def DB(registry_or_hosts: Registry | str | None, path: str, **options: Any) -> ZODB.DB:  # noqa: N802  the name is ZEO's
    """Open a database; arguments and errors as for `client`."""
    storage = client(registry_or_hosts, path, **options)
    try:
        return ZODB.DB(storage)
    except BaseException:
        storage.close()
        raise


def connection(registry_or_hosts: Registry | str | None, path: str, **options: Any) -> Connection:
    """Open a connection whose database is closed with it; arguments and errors as for `client`."""
    database = DB(registry_or_hosts, path, **options)
    try:
        return database.open_then_close_db_when_connection_closes()
    except BaseException:
        database.close()
        raise
