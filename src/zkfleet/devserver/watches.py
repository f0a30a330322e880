"""Who wants to hear of what?

The watches of all connections.  A standard one fires once; a persistent one
stays; a recursive one hears of everything below, but not of lists of children.
Pure: whoever makes a change asks who must be told, and tells them.

As in ZooKeeper 3.8 there are two tables, for data and for children, and a
connection has one mode a path in each: a standard watch takes the place of a
persistent one there (ZOOKEEPER-4466, mended in 3.9).

Source: `WatchManager`, `WatcherModeManager` and `DataTree` of ZooKeeper 3.8.
"""

from enum import IntEnum

from zkfleet import paths
from zkfleet.devserver.database import Event


class Mode(IntEnum):
    """How long a watch lives, and how far it sees."""

    STANDARD = -1
    PERSISTENT = 0
    RECURSIVE = 1


class Kind(IntEnum):
    """Which watches a request is about."""

    CHILDREN = 1
    DATA = 2
    ANY = 3


class _Table:
    def __init__(self) -> None:
        self.by_path: dict[str, dict[int, Mode]] = {}
        self.by_connection: dict[int, set[str]] = {}
        self.recursive = 0

    def add(self, path: str, connection: int, mode: Mode) -> None:
        before = self.by_path.setdefault(path, {}).get(connection)
        self.by_path[path][connection] = mode
        self.by_connection.setdefault(connection, set()).add(path)
        self.recursive += (mode is Mode.RECURSIVE) - (before is Mode.RECURSIVE)

    def remove(self, path: str, connection: int) -> bool:
        mode = self.by_path.get(path, {}).pop(connection, None)
        if mode is None:
            return False
        self.recursive -= mode is Mode.RECURSIVE
        if not self.by_path[path]:
            del self.by_path[path]
        self.by_connection[connection].discard(path)
        if not self.by_connection[connection]:
            del self.by_connection[connection]
        return True

    def drop(self, connection: int) -> None:
        for path in list(self.by_connection.get(connection, ())):
            self.remove(path, connection)

    def fire(self, event: Event, path: str) -> set[int]:
        """Return who must be told; their standard watches are gone then."""
        told = set()
        for connection, mode in list(self.by_path.get(path, {}).items()):
            if mode is Mode.STANDARD:
                self.remove(path, connection)
            elif mode is Mode.RECURSIVE and event is Event.CHILDREN:
                continue
            told.add(connection)
        if self.recursive and event is not Event.CHILDREN:
            for above in paths.ancestors(path):
                watching = self.by_path.get(above, {})
                told.update(connection for connection, mode in watching.items() if mode is Mode.RECURSIVE)
        return told


class Watches:
    """The watches of all connections, which are known by number."""

    def __init__(self) -> None:
        self._data, self._children = _Table(), _Table()

    def watch_data(self, path: str, connection: int) -> None:
        """Tell of the next change of a znode's data, or of its creation or end."""
        self._data.add(path, connection, Mode.STANDARD)

    def watch_children(self, path: str, connection: int) -> None:
        """Tell of the next change of a znode's children, or of its end."""
        self._children.add(path, connection, Mode.STANDARD)

    def add(self, path: str, connection: int, mode: Mode) -> None:
        """Tell of everything at a path from now on."""
        self._data.add(path, connection, mode)
        self._children.add(path, connection, mode)

    def remove(self, path: str, connection: int, kind: Kind) -> bool:
        """Take watches back; tell whether there was one."""
        removed = [table.remove(path, connection) for table in self._tables(kind)]
        return any(removed)

    def exists(self, path: str, kind: Kind) -> bool:
        """Tell whether there is a watch at a path: as in ZooKeeper 3.8, anybody's."""
        return any(path in table.by_path for table in self._tables(kind))

    def drop(self, connection: int) -> None:
        """Forget a connection."""
        for table in self._tables(Kind.ANY):
            table.drop(connection)

    def fire(self, event: Event, path: str) -> set[int]:
        """Return which connections must be told of an event, each once."""
        if event is Event.CHILDREN:
            return self._children.fire(event, path)
        told = self._data.fire(event, path)
        if event is Event.DELETED:
            told |= self._children.fire(event, path)
        return told

    def _tables(self, kind: Kind) -> tuple[_Table, ...]:
        both = ((Kind.CHILDREN, self._children), (Kind.DATA, self._data))
        return tuple(table for own, table in both if kind in (own, Kind.ANY))

    # -- for the words that operators ask with

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(len(watching) for table in self._tables(Kind.ANY) for watching in table.by_path.values())

    # As in the real server these tell of the watches of data alone.

    def by_connection(self) -> dict[int, set[str]]:
        """Return what each connection watches."""
        return self._data.by_connection

    def by_path(self) -> dict[str, dict[int, Mode]]:
        """Return who watches each path."""
        return self._data.by_path
