"""What does a ZEO server's log say of whoever connects and does not register?

The health check of a load balancer connects, greets perhaps, and goes, many times a minute.  ZEO logs up to three
lines for each, as for a client.  Here they are for DEBUG, and a client is logged when it has registered.
"""

import logging

from zkfleet.zeo.insides import Repair, is_on

PROBES = Repair(
    "the log has no lines for health checks",
    without="there are up to three lines for each of them",
    needs=(
        "ZEO.asyncio.base:logger",
        "ZEO.asyncio.server:logger",
        "ZEO.asyncio.base:ZEOBaseProtocol.connection_made",
        "ZEO.asyncio.server:ServerProtocol.finish_connection(protocol_version)",
        "ZEO.StorageServer:ZEOStorage.log(msg, level, exc_info)",
    ),
)


def lower_greetings() -> None:
    """Have ZEO log for DEBUG that somebody has come and greeted; may be called again and again."""
    if is_on(PROBES):
        logging.getLogger("ZEO.asyncio.base").addFilter(_lowered)
        logging.getLogger("ZEO.asyncio.server").addFilter(_lowered)


def _lowered(record: logging.LogRecord) -> bool:
    if not (_has_come(record) or _has_greeted(record)):
        return True
    record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
    return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)


def _has_come(record: logging.LogRecord) -> bool:
    # Clients log that they are connected with the same words.
    about = record.args[0] if isinstance(record.args, tuple) and record.args else None
    return record.msg == "Connected %s" and not getattr(about, "has_registered", True)


def _has_greeted(record: logging.LogRecord) -> bool:
    return str(record.msg).startswith("received handshake") and record.name == "ZEO.asyncio.server"
