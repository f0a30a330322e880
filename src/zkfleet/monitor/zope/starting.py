"""What happens when a Zope process starts?

Zope opens its databases, reads the ZCML, and says that the root is there, then
that the process starts.  Subscribers, as thin as they can be.
"""

import contextlib
import os
import signal
import threading
from pathlib import Path
from typing import Any, Literal

from ZODB.interfaces import IDatabase
from zope.component import getUtilitiesFor

from zkfleet.errors import BadInput, ZkfleetError
from zkfleet.monitor import plugins
from zkfleet.monitor.commands import COMMANDS
from zkfleet.monitor.databases import MAIN, databases
from zkfleet.monitor.loading import load
from zkfleet.monitor.settings import naming
from zkfleet.monitor.starting import Monitor, start
from zkfleet.monitor.zope import membership
from zkfleet.monitor.zope.configured import NAMES, SPELLING, Configured, configured, line_of
from zkfleet.monitor.zope.interfaces import all_of_them
from zkfleet.spelling import get_logger

logger = get_logger(__name__)

CLOSE_WITHIN = 10.0


def database_opened(event: Any) -> None:
    """Put the main database in as "", and those beside it by their names."""
    main = event.database
    databases[MAIN] = main
    for name, database in main.databases.items():
        if database is not main:
            _add(name, database)


def process_starting(_event: Any) -> None:
    """Add the utilities that there are, and start the monitor."""
    add_utilities()
    place = _place()
    with naming(place) if place else contextlib.nullcontext():
        said = configured(_sections())
        monitor = _start_anywhere() if said is None else _start(said)
    if monitor:
        _close_at_sigterm(monitor)


def _start_anywhere() -> Monitor | Literal[False]:
    try:
        return start()
    except BadInput as exc:
        # The folder is below /tmp, where any user of the machine could make it first.
        logger.warning("monitor_not_started reason=%s", exc)
        return False


def _start(said: Configured) -> Monitor | Literal[False]:
    """Start what a section says; everything that can be wrong with it is looked at before the monitor listens."""
    with naming(said.section):
        begin = said.monitor.starter(SPELLING)
        announcer = None if said.fleet is None else membership.announcer(said.fleet, said.monitor)
        monitor = begin()
    if monitor and announcer is not None and said.fleet is not None:
        monitor.announce(announcer, said.fleet.path)
    return monitor


def add_utilities() -> None:
    """Add IDatabase utilities to the databases, and plugins to the commands; what is there stays."""
    for name, database in getUtilitiesFor(IDatabase):
        if name not in databases:
            _add(name, database)
    load()
    for interface in all_of_them():
        for name, plugin in getUtilitiesFor(interface):
            if COMMANDS.get(name) is not None or len(name.split()) != 1:
                logger.warning("plugin_left_out name=%r reason=taken_or_no_word", name)
            else:
                COMMANDS.add(plugins.as_command(plugin, name))


def _add(name: str, database: Any) -> None:
    try:
        databases[name] = database
    except BadInput as exc:
        logger.warning("database_left_out reason=%s", exc)


def _close(monitor: Monitor) -> None:
    try:
        monitor.close()
    except ZkfleetError as exc:
        logger.warning("monitor_not_closed address=%s reason=%s", monitor.address, exc)


def _sections() -> Any:
    return getattr(_configuration(), "product_config", None) or {}


def _configuration() -> Any:
    # Zope itself: who has none of it says everything by default.
    try:
        from App.config import getConfiguration
    except ImportError:
        return None
    return getConfiguration()


def _place() -> str:
    """Return where the section is, `FILE:LINE`, or "" if that is not known: Zope keeps neither."""
    home = getattr(_configuration(), "instancehome", None)
    try:
        file = Path(home or "", "etc", "zope.conf")
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    lines = [line for name in NAMES if name in _sections() and (line := line_of(f"<product-config {name}>", text))]
    return f"{file}:{lines[0]}" if lines else ""


def _close_at_sigterm(monitor: Monitor) -> None:
    """Close it when the process is ended; Zope leaves SIGTERM to the system, and nothing at exit is run then."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return

    def end(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)  # who asks again does not wait
        # On a thread of its own: the main one may hold what closing waits for.
        closing = threading.Thread(target=_close, args=[monitor], daemon=True)
        closing.start()
        closing.join(CLOSE_WITHIN)
        os.kill(os.getpid(), number)  # the process ends even if a command hangs

    signal.signal(signal.SIGTERM, end)
