"""How does a server say what was wrong with a request?

ZooKeeper's error codes, and the exception that carries one to the reply.

Source: `KeeperException.Code` of ZooKeeper 3.8.
"""

from enum import IntEnum


class Code(IntEnum):
    """The outcome of one request."""

    OK = 0
    RUNTIME_INCONSISTENCY = -2
    MARSHALLING_ERROR = -5
    UNIMPLEMENTED = -6
    BAD_ARGUMENTS = -8
    NO_NODE = -101
    NO_AUTH = -102
    BAD_VERSION = -103
    NO_CHILDREN_FOR_EPHEMERALS = -108
    NODE_EXISTS = -110
    NOT_EMPTY = -111
    SESSION_EXPIRED = -112
    INVALID_ACL = -114
    AUTH_FAILED = -115
    NO_WATCHER = -121
    RECONFIG_DISABLED = -123


class Refused(Exception):
    """A request that is answered with an error code and changes nothing."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code
