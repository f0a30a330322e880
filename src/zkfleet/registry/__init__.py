"""Who provides what, where, and how is the system configured?

The room that speaks with ZooKeeper, and the only one that knows kazoo.  Enter
here: `connect` opens a session and returns a `Registry`, whose verbs return
live views, registrations and plans.

    connecting, hosts        which ensemble, and how it is reached
    session, tap, wire       the link, and what travels on it
    patience, pacing         how long a member is waited for (pure), and the shell that waits
    refusals                 why no member lets us in
    reads, readings, subtree what is asked in one breath; views, links and trees as such questions (pure)
    formats                  where a provider of any library listens (pure)
    hub, callbacks           the threads: one that owns all state, one for users' callbacks
    agenda, following, views live views: what to read next (pure), keeping it, the faces
    claim, operations        registrations: what to do next, and by which requests (pure)
    registrar, registration  doing it, the face
    identity, acls           which process wrote a registration; who may change it
    locks, guard             locks, names that are waited for; what proves that a look still holds (pure)
    writing, marks, proof    each write once: sending it, its mark, what the mark proves (pure)
    changing, applying, trees, walking, doctor    what is asked or changed once
    announcer                registers a server, however late ZooKeeper comes
    life, registry           the session from its beginning to its end; the object that users hold
    aio                      all of it for asyncio
"""

from zkfleet.registry.claim import Status
from zkfleet.registry.connecting import connect
from zkfleet.registry.formats import Instance
from zkfleet.registry.hosts import TLS
from zkfleet.registry.life import Followed, Statistics, open_registries
from zkfleet.registry.locks import Lock, Standing
from zkfleet.registry.readings import InvalidProvider, Origin, Snapshot
from zkfleet.registry.registration import Registering, Registration, registering
from zkfleet.registry.registry import Registry
from zkfleet.registry.views import Children, Properties, ProvidersView, Tree

__all__ = [
    "TLS",
    "Children",
    "Followed",
    "Instance",
    "InvalidProvider",
    "Lock",
    "Origin",
    "Properties",
    "ProvidersView",
    "Registering",
    "Registration",
    "Registry",
    "Snapshot",
    "Standing",
    "Statistics",
    "Status",
    "Tree",
    "connect",
    "open_registries",
    "registering",
]
