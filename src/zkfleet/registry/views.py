"""What do the children, providers, properties or nodes below a path look like now?

The live views that users hold: read-only, always one whole snapshot, never
blank because the link is down.  How they are kept true is told in `following`.

A view that has subscribers lives until it is closed; one that has none stops
watching when the last reference to it is gone.
"""

import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from zkfleet import paths
from zkfleet.endpoints import Endpoint
from zkfleet.errors import Closed, NodeNotFound, WaitTimedOut, ZkfleetError
from zkfleet.registry import readings
from zkfleet.registry.following import Following, Subscriber
from zkfleet.registry.formats import UNKNOWN, Instance, read_instance
from zkfleet.registry.readings import Configuration, InvalidProvider, Providers, Snapshot
from zkfleet.registry.subtree import Subtree, tree_of
from zkfleet.tree import Node, decode, render

if TYPE_CHECKING:
    from zkfleet.registry.registry import Registry

T = TypeVar("T")


class View(Generic[T]):
    """What all live views have in common.

    Call a view with a function to subscribe: the function is called with the
    view, at once and after every change, on a thread of the registry's own,
    one call at a time.  The view is returned, so it serves as a decorator.
    A callback may call the registry, and may close it.
    """

    def __init__(self, registry: "Registry", following: Following[T]) -> None:
        self._registry, self._following = registry, following
        self._release = weakref.finalize(self, following.close)
        self._release.atexit = False

    @property
    def path(self) -> str:
        """The path that was asked for."""
        return self._following.path

    @property
    def snapshot(self) -> Snapshot[T]:
        """What was seen last, with its zxid and the time it was read: immutable.

        Raises:
            ForkedSession: this is a child of the process that opened the view.
        """
        self._registry.check_fork()
        snapshot = self._following.snapshot
        assert snapshot is not None, "a view is handed out when its first snapshot is there"
        return snapshot

    @property
    def real_path(self) -> str | None:
        """Where the path leads at the moment, None if it leads nowhere."""
        return self.snapshot.real_path

    @property
    def problem(self) -> ZkfleetError | None:
        """Why the path leads nowhere at the moment, or None."""
        return self._following.problem

    @property
    def stale_since(self) -> float | None:
        """When we lost sight of the ensemble (seconds since 1970), None while in sight."""
        self._registry.check_fork()
        return self._following.stale_since

    @property
    def age(self) -> float:
        """Seconds since the snapshot was read."""
        return time.monotonic() - self.snapshot.read_at

    def __call__(self, callback: Callable[[Self], object]) -> Self:
        """Subscribe a function; returns when it has been called for the first time.

        It waits for the callbacks' thread, at most the registry's timeout.
        Inside a callback it calls the function itself, unless callbacks of this
        view are running on another thread: then they go on with it.
        """
        inside = self._registry.in_callback()
        subscriber = self.subscribe(callback, here=inside)
        if not inside:
            subscriber.called.wait(self._registry.timeout)
        self._check_open()
        return self

    def subscribe(
        self, callback: Callable[[Self], object], *, here: bool = False, ended: Callable[[], object] = lambda: None
    ) -> Subscriber[T]:
        """Subscribe a function without waiting for its first call; `unsubscribe` takes what is returned.

        Args:
            callback: called with the view.
            here: this is a callback, and the first call may be made on its thread.
            ended: called on any thread when the view is closed.
        """
        self._check_open()
        if not callable(callback):
            raise TypeError(f"a view is called with a function to subscribe, not {callback!r}")
        subscriber: Subscriber[T] = Subscriber(callback, self, ended)
        self._following.subscribe(subscriber, here=here)
        return subscriber

    def unsubscribe(self, subscriber: Subscriber[T]) -> None:
        """Call a subscriber no more."""
        self._following.unsubscribe(subscriber)

    @property
    def closed(self) -> bool:
        """Whether the view was closed."""
        return self._following.closed

    def wait_until(self, predicate: Callable[[Self], object], timeout: float | None = None) -> Self:
        """Wait until `predicate(view)` is true.

        Args:
            predicate: called when the snapshot was replaced, and at first.
            timeout: seconds; None for the registry's timeout.

        Raises:
            WaitTimedOut: it was not true in all that time.
            Closed: the view was closed meanwhile.
            ForkedSession: this is a child of the process that opened the view.
        """
        self._registry.check_fork()
        seconds = self._registry.timeout if timeout is None else timeout
        if not self._following.wait_until(lambda: bool(predicate(self)), seconds):
            raise WaitTimedOut(f"{self.path}: what was waited for did not happen within {seconds:g} s")
        self._check_open()
        return self

    def close(self) -> None:
        """Stop following; the last snapshot stays readable.  Twice is fine."""
        self._release()

    def _check_open(self) -> None:
        self._registry.check_fork()
        if self._following.closed:
            raise Closed(f"the view of {self.path} is closed")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}: {len(self)}>"  # type: ignore[arg-type]


class Children(View[tuple[str, ...]], Sequence[str]):
    """The names of a node's children, sorted."""

    __hash__ = object.__hash__

    def __len__(self) -> int:
        return len(self.snapshot.content)

    def __getitem__(self, index: Any) -> Any:
        return self.snapshot.content[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self.snapshot.content)


class ProvidersView(View[Providers], Mapping[str, Mapping[str, Any] | InvalidProvider]):
    """A node's children with their properties: endpoint text to properties."""

    __hash__ = object.__hash__

    def __len__(self) -> int:
        return len(self.snapshot.content)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.snapshot.content))

    def __getitem__(self, name: str) -> Mapping[str, Any] | InvalidProvider:
        return self.snapshot.content[name].said

    @property
    def instances(self) -> dict[str, Instance]:
        """Who each of the providers is, zkfleet's and those of other formats, by the znode's name, sorted."""
        return {
            name: Instance(UNKNOWN, None, entry.said.error, broken=True)
            if isinstance(entry.said, InvalidProvider)
            else read_instance(name, entry.said)
            for name, entry in sorted(self.snapshot.content.items())
        }

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where providers can be called, in the order of their names: those that are readable and want to be called."""
        found = (instance.endpoint for instance in self.instances.values())
        return tuple(dict.fromkeys(endpoint for endpoint in found if endpoint is not None))


class Properties(View[Configuration], Mapping[str, Any]):
    """A node's properties, with those that property links bring.

    Writing goes to the node itself, by compare-and-set that is tried again
    when somebody else wrote meanwhile, so nothing of either writer is lost.
    """

    __hash__ = object.__hash__

    def __len__(self) -> int:
        return len(self._values())

    def __iter__(self) -> Iterator[str]:
        return iter(self._values())

    def __getitem__(self, name: str) -> Any:
        values = self._values()
        if name not in values:
            raise KeyError(name) from self.snapshot.content.broken.get(name)
        return values[name]

    def _values(self) -> Mapping[str, Any]:
        return self.snapshot.content.values

    @property
    def broken(self) -> Mapping[str, ZkfleetError]:
        """The property links that lead nowhere, by name, with what is wrong."""
        return self.snapshot.content.broken

    def update(self, data: Any = None, /, **properties: Any) -> None:
        """Set some properties; the others stay.

        Args:
            data: a mapping or pairs.
            **properties: more of them; they take precedence.

        Raises:
            NodeNotFound: the path leads nowhere.
            BadProperties: JSON cannot hold one of them.
        """
        changes = {**dict(data or {}), **properties}
        self._write(lambda current: {**current, **changes})

    def set(self, data: Any = None, /, **properties: Any) -> None:
        """Set these properties and drop all others; arguments as for `update`."""
        wanted = {**dict(data or {}), **properties}
        self._write(lambda _current: wanted)

    def __setitem__(self, name: str, value: Any) -> None:
        self._write(lambda current: {**current, name: value})

    def __delitem__(self, name: str) -> None:
        def without(current: dict[str, Any]) -> dict[str, Any]:
            del current[name]
            return current

        self._write(without)

    def _write(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._check_open()
        _, zxid = self._registry.change_properties(self.path, change)
        # Read your writes: wait for the view to catch up, if it still follows.
        self._following.wait_until(lambda: self._following.snapshot_zxid() >= zxid, self._registry.timeout)

    def explain(self, name: str) -> readings.Origin:
        """Say which node and links a value comes from.

        Raises:
            KeyError: there is no such property.
            NodeNotFound, LinkLoop: its link leads nowhere.
        """
        if name not in self and name not in self.broken:
            raise KeyError(name)
        return self._registry.read(lambda: readings.read_origin(self.path, name)).found()


class FrozenProperties(Properties):
    """Properties as they were when asked for: they can be written but not followed."""

    def __init__(self, registry: "Registry", following: Following[Configuration], snapshot: Snapshot[Configuration]):
        super().__init__(registry, following)
        following.snapshot = snapshot
        following.stale_since = None

    def __call__(self, callback: Callable[[Self], object]) -> Self:
        """Refuse: nothing would ever call it."""
        raise TypeError("Can't set callbacks without watching.")

    def _write(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._registry.change_properties(self.path, change)
        self._following.snapshot = self._registry.read(lambda: readings.read_properties(self.path))


class Tree(View[Subtree], Mapping[str, Mapping[str, Any]]):
    """A node and everything below it: real path to properties as they stand there."""

    __hash__ = object.__hash__

    def __len__(self) -> int:
        return len(self.snapshot.content.znodes)

    def __iter__(self) -> Iterator[str]:
        return iter(self.snapshot.content.znodes)

    def __getitem__(self, path: str) -> Mapping[str, Any]:
        return decode(self.snapshot.content.znodes[path].data)

    @property
    def refused(self) -> tuple[str, ...]:
        """Nodes that we may not read, and know nothing of what is below."""
        return self.snapshot.content.refused

    @property
    def root(self) -> Node:
        """The node at the path, ephemeral nodes included."""
        snapshot = self.snapshot
        return tree_of(snapshot.content.znodes, snapshot.real_path or "/", ephemeral=True)

    @property
    def text(self) -> str:
        """The tree as text, under the name that the path ends with."""
        return render(self.root, paths.split(self.path)[1] or None) if self.real_path else ""


def ready(following: Following[T], timeout: float) -> None:
    """Wait for a view's first snapshot.

    Raises:
        NodeNotFound, LinkLoop, AccessDenied: the path cannot be followed.
        WaitTimedOut: no answer in time.
    """
    there = following.wait_until(lambda: following.snapshot is not None or following.error is not None, timeout)
    problem = following.error or following.problem
    if isinstance(problem, NodeNotFound):
        raise NodeNotFound(problem.path, problem.missing)
    if problem is not None:
        raise problem
    if following.closed:
        raise Closed("this registry is closed", hint="open another with zkfleet.connect()")
    if not there or following.snapshot is None:
        why = "" if following.hub.connected else ": no link to ZooKeeper"
        raise WaitTimedOut(f"{following.path} could not be read within {timeout:g} s{why}")
