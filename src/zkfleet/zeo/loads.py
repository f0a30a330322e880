"""What does ZODB's log say of an object that could not be loaded because no server was reached?

ZODB logs each such load as an error with a traceback of forty lines, and raises
the exception as well: a failover under load drowns its own reason.  Here it
becomes one line, a warning that ends with the reason.  All other failures, such
as a damaged object, stay as they are.
"""

import logging

from ZEO.Exceptions import ClientDisconnected

LOGGER = "ZODB.Connection"


def shorten_failures() -> None:
    """Have ZODB log a load that failed for want of a server in one line; may be called again and again."""
    logging.getLogger(LOGGER).addFilter(_shortened)


def _shortened(record: logging.LogRecord) -> bool:
    reason = record.exc_info[1] if record.exc_info else None
    if isinstance(reason, ClientDisconnected):
        record.msg, record.args = f"{record.getMessage()}: %s", (reason or type(reason).__name__,)
        record.exc_info, record.exc_text = None, None
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
    return True
