"""How is a method of a persistent object called from anywhere, in a transaction of its own?

`run(cart.add, item)` opens a connection, finds the objects there, calls, commits, and
tries again after conflicts and while the database is away; the caller never shares a
connection with anybody.

    policy       how a call is made and how often (a value)
    searching    is anything persistent in here (pure)
    references   what a callable and its arguments become between connections
    deciding     what follows from a failed attempt (pure)
    attempt      one attempt, and how it is abandoned
    results      what may be returned
    after        what is to happen after the commit
    pool         who may have a connection now, who is next
    causes       what an error rests on (pure)
    remote       what is different when the database is on a server
    loops        may this thread be blocked
    running      from request to result, as orders for whoever carries them out
    counting     how calls are doing
    threads      the door for threads
    twisted      the door for Twisted; `reactor` carries out orders for it, `failures` cleans errors
    asyncio      the door for asyncio

Doors are front doors of their own: import `zkfleet.calls.threads`, `.twisted` or `.asyncio`.
"""

from zkfleet.errors import MissingDependency

try:
    import ZODB  # noqa: F401
except ImportError as exc:
    raise MissingDependency("zkfleet.calls stands on ZODB", hint="pip install 'zkfleet[calls]'") from exc

from zkfleet.calls.after import after_commit
from zkfleet.calls.causes import find_commit
from zkfleet.calls.counting import Latencies, Statistics, statistics
from zkfleet.calls.policy import Policy
from zkfleet.calls.pool import limit
from zkfleet.calls.references import Ref, ref

__all__ = ["Latencies", "Policy", "Ref", "Statistics", "after_commit", "find_commit", "limit", "ref", "statistics"]
