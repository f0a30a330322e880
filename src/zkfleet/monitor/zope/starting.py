"""What happens when a Zope process starts?

Zope opens its databases, reads the ZCML, and says that the root is there, then
that the process starts.  Subscribers, as thin as they can be.
"""

import logging
import os
import signal
import threading
from typing import Any

from ZODB.interfaces import IDatabase
from zope.component import getUtilitiesFor

from zkfleet.errors import BadInput
from zkfleet.monitor import plugins
from zkfleet.monitor.commands import COMMANDS
from zkfleet.monitor.databases import MAIN, databases
from zkfleet.monitor.loading import load
from zkfleet.monitor.starting import Monitor, start
from zkfleet.monitor.zope.configured import address
from zkfleet.monitor.zope.interfaces import all_of_them

logger = logging.getLogger(__name__)


def database_opened(event: Any) -> None:
    """Put the main database in as "", and those beside it by their names."""
    main = event.database
    databases[MAIN] = main
    for name, database in main.databases.items():
        if database is not main:
            databases[name] = database


def process_starting(_event: Any) -> None:
    """Add the utilities that there are, and start the monitor."""
    add_utilities()
    where = address(_sections())
    try:
        monitor = start(where)
    except BadInput as exc:
        if where is not None:
            raise
        # The default one's folder is below /tmp, where any user of the machine could make it first.
        logger.warning("monitor_not_started reason=%s", exc)
        return
    if monitor:
        _close_at_sigterm(monitor)


def add_utilities() -> None:
    """Add IDatabase utilities to the databases, and plugins to the commands; what is there stays."""
    for name, database in getUtilitiesFor(IDatabase):
        if name not in databases:
            databases[name] = database
    load()
    for interface in all_of_them():
        for name, plugin in getUtilitiesFor(interface):
            if COMMANDS.get(name) is not None or len(name.split()) != 1:
                logger.warning("plugin_left_out name=%r reason=taken_or_no_word", name)
            else:
                COMMANDS.add(plugins.as_command(plugin, name))


def _sections() -> Any:
    # Zope itself: who has none of it says everything by default.
    try:
        from App.config import getConfiguration
    except ImportError:
        return {}
    return getattr(getConfiguration(), "product_config", None) or {}


def _close_at_sigterm(monitor: Monitor) -> None:
    """Close it when the process is ended; Zope leaves SIGTERM to the system, and nothing at exit is run then."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return

    def end(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)  # who asks again does not wait
        try:
            monitor.close()
        finally:  # the process ends even if a command hangs
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, end)
