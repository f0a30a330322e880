"""How do ZEO servers and their clients find each other, and never lose their way?

Servers register under a path, clients follow what is registered there.  What
ZEO 6 does not do right when servers come, go or fall silent is repaired here,
and this is the only room that knows ZEO's insides.

    insides                  what we expect of ZEO, and what becomes of a repair without it
    described                what a server says of itself in its node (pure)
    client, config, options  the doors for clients: in programs, in files and URIs; what they may be told
    sessions                 which clients share a session with ZooKeeper
    storage                  what a client holds, and how it hears from the registry
    oids                     which ids it may still give to new objects
    cache_file, blobs        which files it keeps; is its folder for blobs the server's
    downloads                is a blob that came over a connection whole
    fork                     what a forked child finds of it
    candidates               whom it may try, and whom first (pure)
    link, peer               the connection in use and the one to each server, on ZEO's thread
    requests                 how requests get to the one in use
    move                     from one server to another so that nobody notices
    reasons                  why each server could not be had, and until when it rests (pure)
    loads                    what ZODB's log says of a load without a server
    silence, boundary        is the other side there (pure); is no transaction under way
    kernel                   what the kernel does about silence, and knows of a connection
    connected                when a storage is connected again
    statistics               what a client knows of its cache, and of its server
    outcomes                 whether a commit happened whose reply was lost
    packs, pack_guard        which storages a server packs; no pack outlives its server
    packer                   packing the database of a path
    asking, surveying        what a server says of itself, asked from outside; and all of a path
    status, checking         what to make of it: a table, a Nagios plugin's answer (pure)
    earlier                  what was said the last time
    connections, storage_server    ZEO's server, repaired, on a loop of its own
    messages, arrivals       what clients may send; how many there may be, and by when they have registered
    ports                    one port for IPv4 and IPv6
    probes, conflicts        what the log says of health checks, and of a class that a server lacks
    inside                   what goes on in the servers of this process
    databases                which database a storage holds: its identity
    roots, sidecar           how the identity is kept in the data, and beside them
    identities               which identity the data and the servers have, for people, who may change it
    oid_supply               which ids a storage gives to new objects
    transience               which storages are new databases at each start
    server, runner           the door for those who embed a server; a process of it
    settings, monitored      how a server and its monitor are configured
    openings                 why a storage does not open
    service                  what is opened and closed with it:
    serving, announcing      storages on a thread; how the world learns of them
    lease, duty, standby     one of several servers serves: until when, what to do (both pure), doing it
"""

from zkfleet.errors import MissingDependency

try:
    import ZEO  # noqa: F401
except ImportError as exc:
    from zkfleet.zeo.insides import is_in, not_imported

    if not is_in("ZEO", exc.name):
        raise not_imported("ZEO", exc) from exc
    # ZConfig, which imports this for a configuration, shows the message alone.
    raise MissingDependency(
        "zkfleet.zeo needs ZEO, which comes with the extra zkfleet[zeo]", hint="pip install 'zkfleet[zeo]'"
    ) from exc
else:
    from zkfleet.zeo.insides import IMPORTED, require

    require(IMPORTED)

from ZEO.Exceptions import ClientDisconnected

from zkfleet.zeo.client import DB, client, connection
from zkfleet.zeo.connected import client_storage, wait_until_connected
from zkfleet.zeo.inside import Inside, kick, look_inside
from zkfleet.zeo.outcomes import Marker, Outcome, Verdict, mark, outcome
from zkfleet.zeo.server import Server
from zkfleet.zeo.statistics import CacheState, ClientState, cache_state, cache_statistics, client_state
from zkfleet.zeo.storage import FollowingStorage

__all__ = [
    "DB",
    "CacheState",
    "ClientDisconnected",
    "ClientState",
    "FollowingStorage",
    "Inside",
    "Marker",
    "Outcome",
    "Server",
    "Verdict",
    "cache_state",
    "cache_statistics",
    "client",
    "client_state",
    "client_storage",
    "connection",
    "kick",
    "look_inside",
    "mark",
    "outcome",
    "wait_until_connected",
]
