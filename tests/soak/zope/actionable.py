"""What does an operator do about a log line of a failover?  Pure; docs/reliability.md tells it to people.

A pattern is matched with the beginning of a line's kind, which is its level, its
logger and its event.  What is not here is a line that nobody can act on.
"""

ACTIONABLE = {
    "WARNING zkfleet.zeo.databases database_is_new": "right for a new site; else correct the storage's path",
    "WARNING zkfleet.zeo.storage zeo_no_servers": "if no zeo_servers_registered follows, start a server",
    "WARNING zkfleet.zeo.link zeo_server_lost": "the reason says why; see the log of that server",
    "WARNING zkfleet.zeo.standby storage_locked": "the process by_pid has the file; kill -9 it if it is frozen",
    "WARNING zkfleet.zeo.standby standby_aborted": "the lease was lost; see link_lost, or raise session-timeout",
    "WARNING zkfleet.zeo.connections commit_refused": "a commit after the lease was lost; see standby_aborted",
    "WARNING zkfleet.registry.hub link_lost": "if no link_restored follows, look at the ensemble",
    "WARNING zkfleet.registry.hub session_assumed_expired": "see link_lost, or raise session-timeout",
    "WARNING zkfleet.registry.hub session_replaced": "see link_lost, or raise session-timeout",
    "WARNING ZODB.Connection Couldn't load state": "the reason is at the end; the request is run again",
    "WARNING ZODB.FileStorage .*truncated": "kill -9 broke a commit off; it was not acknowledged; remove Data.fs.trN",
    "ERROR waitress Exception while serving .*ConflictError": "raise max-conflict-retries, or share fewer objects",
    "ERROR stderr Starting server in PID": "Zope has started",
    "CRITICAL txn": "the reply to a commit was lost: Zope runs the request again, see docs/zeo.md",
    "CRITICAL ZEO.asyncio.client .*dropping stale cache": "raise invalidation-queue-size of the ZEO servers",
}
