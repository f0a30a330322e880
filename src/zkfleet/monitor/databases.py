"""Which databases does this process have, and how much have they loaded and stored?

    monitor.databases[""] = main            # the main one
    monitor.databases["catalog"] = other

What is put in is counted from then on.  ZODB's own activity monitor is told of
a connection's loads and stores when it closes, and forgets them after an hour;
`Counts` stands before it and keeps the sums, with those of open connections.
This mapping is the one place that commands ask, whoever fills it.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any, Literal, TypeVar

from zkfleet.errors import BadInput
from zkfleet.monitor.health import READINESS
from zkfleet.monitor.history import History

MAIN = ""
NO_NAMES = ("-", "*")
"""What commands call the main database, and all of them."""
Transfers = tuple[int, int]
"""Objects loaded and stored."""
Found = TypeVar("Found")


class Counts:
    """An activity monitor that counts for ever, and hands on to the application's what it is told.

    The database tells this one, whichever the application sets, before or later:
    that one is what it is told of, and what it gets when it asks for it.

    The sums never shrink: a connection that closes is added in the same moment
    in which ZODB sets its own counts back.  What a connection did that nobody
    closed before it was collected is lost.

    Attributes:
        history: what connections tell of their transactions.
    """

    def __init__(self, database: Any, kept: Any, history: History) -> None:
        self._database, self._kept, self.history = database, kept, history
        self._lock = threading.Lock()
        self._loads = self._stores = 0

    def closedConnection(self, connection: Any) -> None:  # noqa: N802  the name is ZODB's
        """Add what a connection did since it was opened.

        ZODB also closes those that waited in the pool, to drop them: they were closed before.
        """
        if connection.opened is None:
            return
        with self._lock:
            loads, stores = connection.getTransferCounts()
            if self._kept is not None:
                self._kept.closedConnection(connection)
            connection.getTransferCounts(True)  # not every monitor sets them back
            self._loads += loads
            self._stores += stores

    def transfers(self) -> Transfers:
        """Return how many objects were loaded and stored since the database is watched."""
        opened = open_connections(self._database)
        with self._lock:
            now = [connection.getTransferCounts() for connection in opened]
            return self._loads + sum(one for one, _ in now), self._stores + sum(one for _, one in now)

    def stand_before_others(self) -> None:
        """Have the database tell this one from now on, and the application's through it."""
        self._database.setActivityMonitor(self)
        self._database.setActivityMonitor, self._database.getActivityMonitor = self._hand_on_to, self._handed_on_to

    def _hand_on_to(self, other: Any) -> None:
        self._kept = other

    def _handed_on_to(self) -> Any:
        return self._kept


def watch(database: Any) -> Counts:
    """Have a database's loads and stores counted, and its transactions heard.

    An activity monitor that it has, or gets, is told all the same.
    """
    return _counts_of(database) or _watch(database)


def _counts_of(database: Any) -> Counts | None:
    found = vars(database).get("_activity_monitor")
    return found if isinstance(found, Counts) else None


def _watch(database: Any) -> Counts:
    with database._lock:  # several threads may ask for one
        return _counts_of(database) or _begin_to_watch(database)


def _begin_to_watch(database: Any) -> Counts:
    from zkfleet.monitor.hearing import hear, history_of

    kept = database.getActivityMonitor()
    if kept is None:
        from ZODB.ActivityMonitor import ActivityMonitor

        kept = ActivityMonitor()
    counts = Counts(database, kept, history_of(database))
    # Before connections that wait in the pool are dropped: `kept` would count them once more.
    counts.stand_before_others()
    hear(database, counts.history)
    return counts


def connections(database: Any) -> list[Any]:
    """Return the connections that there are, in use or waiting in the pool."""
    found: list[Any] = []
    database._connectionMap(found.append)
    return found


def open_connections(database: Any) -> list[Any]:
    """Return the connections in use."""
    return [connection for connection in connections(database) if connection.opened]


def debug_info(connection: Any) -> list[str]:
    """Return what was said with `setDebugInfo`, as far as it is text or a number.

    Zope says a request there, with its cookies and passwords, and with objects
    that would be loaded to be shown: of that its method and path are told.
    """
    return [shown for said in connection.getDebugInfo() if (shown := _shown(said))]


def _shown(said: Any) -> str:
    if isinstance(said, dict):
        return " ".join(text for key in ("REQUEST_METHOD", "PATH_INFO") if isinstance(text := said.get(key), str))
    return str(said) if isinstance(said, str | bytes | int | float) else ""


class Databases(MutableMapping[str, Any]):
    """The databases of a process by name, "" for the main one; any thread may use it."""

    def __init__(self) -> None:
        self._by_name: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        return self._by_name[name]

    def __setitem__(self, name: str, database: Any) -> None:
        """Put a database in.

        Raises:
            BadInput: commands could not say this name.
        """
        if not isinstance(name, str) or name in NO_NAMES:
            raise BadInput(f"no name for a database: {name!r}", hint='write "" for the main one, or another text')
        watch(database)
        self._by_name = {**self._by_name, name: database}

    def __delitem__(self, name: str) -> None:
        left = dict(self._by_name)
        del left[name]
        self._by_name = left

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def named(self, name: str) -> Any:
        """Return an open database; `-` is the main one, too.

        Raises:
            BadInput: there is none of this name, or it is closed.
        """
        name = MAIN if name == "-" else name
        if name not in self._by_name:
            known = ", ".join(sorted(one or "-" for one in self._by_name)) or "none; put some into monitor.databases"
            raise BadInput(f"there is no database {name[:100] or '-'!r}", hint=f"there are: {known}")
        database = self._by_name[name]
        if is_closed(database):
            raise _closed(name)
        return database

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[Any]:
        """Give an open database, and say so if it is closed while one looks at it.

        Raises:
            BadInput: as `named`.
        """
        database = self.named(name)
        try:
            yield database
        except Exception as exc:  # whatever it is that something closed raises
            if is_closed(database):
                raise _closed(name) from exc
            raise

    def seen(self, db: str | None, look: Callable[[str, Any], Iterable[Found]]) -> list[Found]:
        """Return what is seen of one database, or of all that are open and stay so.

        Args:
            db: which one; None for all, in the order of their names.
            look: is given the name to show, and the database.

        Raises:
            BadInput: as `named`, if it is about one.
        """
        if db is not None:
            with self.opened(db) as database:
                return list(look(db or "-", database))
        found: list[Found] = []
        for name in sorted(self):
            with contextlib.suppress(BadInput), self.opened(name) as database:
                found += look(name or "-", database)
        return found

    def problem(self) -> str:
        """Return "" if all databases can be used, else a sentence; asks no server."""
        said = [(name or "-", _problem(database)) for name, database in sorted(self._by_name.items())]
        return "; ".join(f"{name} {what}" for name, what in said if what)


def is_closed(database: Any) -> bool:
    """Tell whether a database was closed, or is being closed; its storage is of no use then."""
    from ZODB.Connection import noop

    # That is the first thing that `DB.close` puts away, and the storage the last.
    return vars(database).get("close") is noop or "storage" not in vars(database)


def _closed(name: str) -> BadInput:
    return BadInput(f"the database {name or '-'!r} is closed")


def _problem(database: Any) -> Literal["", "is closed", "has no server"]:
    if is_closed(database):
        return "is closed"
    storage = vars(database).get("storage")
    is_connected: Callable[[], bool] | None = getattr(storage, "is_connected", None)
    return "" if is_connected is None or is_connected() else "has no server"


databases = Databases()
"""Those of this process."""
READINESS.add("databases", databases.problem)
