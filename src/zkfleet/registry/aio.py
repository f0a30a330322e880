"""All of the registry, for asyncio.

A door, and nothing but.  Verbs run on a small pool of threads of this
registry's own, so the loop is never blocked; waiting for views and
registrations is done on the loop itself, so that however many wait, none
keeps a thread from the verbs.  Views are async iterators of snapshots.

A task that is cancelled leaves nothing behind: a registration or a view that
was being opened is closed again, an iterator or a waiter unsubscribes.  A verb
that is on its way to ZooKeeper when its task is cancelled still runs to its end.
"""

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar

from zkfleet.errors import Closed, WaitTimedOut
from zkfleet.registry.claim import Status
from zkfleet.registry.connecting import connect as connect_blocking
from zkfleet.registry.life import Statistics
from zkfleet.registry.locks import Lock
from zkfleet.registry.readings import Origin, Snapshot
from zkfleet.registry.registration import Registration
from zkfleet.registry.registry import Registry
from zkfleet.registry.views import Children, Properties, ProvidersView, Tree, View
from zkfleet.workers import Workers

if TYPE_CHECKING:
    from zkfleet.registry.doctor import Finding
    from zkfleet.registry.trees import Progress
    from zkfleet.registry.walking import Deleted
    from zkfleet.tree import Plan

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V", bound=View[Any])
A = TypeVar("A", bound="AsyncView[Any]")

THREADS = 8

# Views tell of changes, registrations do not, and that a view is no longer
# stale is no change either: whoever waits looks again this often at least.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.002, 0.25


class _Pool:
    """Runs blocking calls off the loop."""

    def __init__(self) -> None:
        self._workers = Workers(THREADS, "zkfleet-aio")
        self.stopped = False

    def _submit(self, call: Callable[[], R]) -> "Future[R]":
        if self.stopped:
            raise Closed("this registry is closed", hint="open another with zkfleet.registry.aio.connect()")
        return self._workers.submit(call)

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.wrap_future(self._submit(partial(function, *args, **kwargs)))

    async def open(self, undo: Callable[[R], object], call: Callable[[], R]) -> R:
        """Run a call that opens something; if we are cancelled meanwhile, what it opened is closed again."""
        future = self._submit(call)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(partial(_take_back, undo))
            raise

    def stop(self) -> None:
        self.stopped = True
        self._workers.shutdown(wait=False)


def _take_back(undo: Callable[[R], object], done: "Future[R]") -> None:
    # This may be the loop's thread, which closing a session would block.
    if not done.cancelled() and done.exception() is None:
        threading.Thread(target=undo, args=[done.result()], name="zkfleet-aio-undo").start()


async def _until(happened: Callable[[], bool], seconds: float, changed: asyncio.Event) -> bool:
    """Wait until `happened()`, asked when `changed` is set and now and then besides; False after the time."""
    deadline, pause = time.monotonic() + seconds, SHORTEST_PAUSE
    while not happened():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(min(pause, left)):
                await changed.wait()
        changed.clear()
        pause = min(pause * 2, LONGEST_PAUSE)
    return True


async def connect(hosts: str | None = None, **options: Any) -> "AsyncRegistry":
    """Open a session; arguments and errors as for `zkfleet.connect`."""
    pool = _Pool()
    try:
        return AsyncRegistry(await pool.open(Registry.close, partial(connect_blocking, hosts, **options)), pool)
    except BaseException:
        pool.stop()
        raise


class AsyncView(Generic[V]):
    """A live view; iterate over it for its snapshots, the present one first.

    A slow consumer gets the last state, and not those in between.  The
    iteration ends when the view or its registry is closed.

    Attributes:
        view: the view as threads see it; looking at it never blocks.
    """

    def __init__(self, view: V, pool: _Pool, timeout: float) -> None:
        self.view, self._pool, self._timeout = view, pool, timeout
        self._waiting: set[asyncio.Event] = set()

    @property
    def snapshot(self) -> Snapshot[Any]:
        """What was seen last."""
        return self.view.snapshot

    async def __aiter__(self) -> AsyncIterator[Snapshot[Any]]:
        with self._changes() as changed:
            seen: Snapshot[Any] | None = None
            while not self.view.closed:
                snapshot = self.view.snapshot
                if seen is None or not snapshot.says_the_same(seen):
                    seen = snapshot
                    yield snapshot
                    continue
                await changed.wait()
                changed.clear()

    async def wait_until(self, predicate: Callable[[V], object], timeout: float | None = None) -> Self:
        """Wait until `predicate(view)` is true; arguments and errors as for `View.wait_until`.

        The predicate is called on the loop and must not block it.
        """
        seconds = self._timeout if timeout is None else timeout
        with self._changes() as changed:
            if not await _until(lambda: self.view.closed or bool(predicate(self.view)), seconds, changed):
                raise WaitTimedOut(f"{self.view.path}: what was waited for did not happen within {seconds:g} s")
        if self.view.closed:
            raise Closed(f"the view of {self.view.path} is closed")
        return self

    @contextmanager
    def _changes(self) -> Iterator[asyncio.Event]:
        """Have an event that is set on the loop whenever the view changed or was closed."""
        if self.view.closed:
            yield asyncio.Event()
            return
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def wake(_view: object = None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(changed.set)

        subscriber = self.view.subscribe(wake, ended=wake)
        self._waiting.add(changed)
        try:
            yield changed
        finally:
            self._waiting.discard(changed)
            self.view.unsubscribe(subscriber)

    def wake(self) -> None:
        """Have all who wait look again; on the loop only."""
        for changed in self._waiting:
            changed.set()

    async def close(self) -> None:
        """Stop following; iterations end.  Twice is fine."""
        self.view.close()
        self.wake()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()


class AsyncProperties(AsyncView[Properties]):
    """A node's properties, live; see `Properties`."""

    async def update(self, data: Any = None, /, **properties: Any) -> None:
        """Set some properties; the others stay."""
        await self._pool.run(self.view.update, data, **properties)

    async def set(self, data: Any = None, /, **properties: Any) -> None:
        """Set these properties and drop all others."""
        await self._pool.run(self.view.set, data, **properties)

    async def explain(self, name: str) -> Origin:
        """Say which node and links a value comes from."""
        return await self._pool.run(self.view.explain, name)


class Opening(Generic[A]):
    """A view that is yet to be opened: await it, enter it, or iterate over it at once.

    `async with` and `async for` close the view at their end.
    """

    def __init__(self, opened: Callable[[], Generator[Any, None, A]]) -> None:
        self._open = opened

    def __await__(self) -> Generator[Any, None, A]:
        return self._open()

    async def __aenter__(self) -> A:
        self._view = await self
        return self._view

    async def __aexit__(self, *_exc: object) -> None:
        await self._view.close()

    async def __aiter__(self) -> AsyncIterator[Snapshot[Any]]:
        async with self as view:
            async for snapshot in view:
                yield snapshot


class AsyncRegistration:
    """A registration; see `Registration`.

    Attributes:
        registration: as threads see it; `status`, `addresses` and `problem` never block.
    """

    def __init__(self, registration: Registration, pool: _Pool, timeout: float) -> None:
        self.registration, self._pool, self._timeout = registration, pool, timeout

    async def update(self, data: Any = None, /, **properties: Any) -> None:
        """Set some properties in place."""
        await self._pool.run(self.registration.update, data, **properties)

    async def drain(self) -> None:
        """Say that no new work is wanted."""
        await self._pool.run(self.registration.drain)

    async def wait_until_registered(self, timeout: float | None = None) -> Self:
        """Wait until every endpoint is in ZooKeeper; errors as for `Registration.wait_until_registered`."""
        ours, seconds = self.registration, self._timeout if timeout is None else timeout
        ended = (Status.REGISTERED, Status.FAILED, Status.CLOSED)
        if not await _until(lambda: ours.status in ended, seconds, asyncio.Event()):
            what = " ".join(ours.addresses)
            raise WaitTimedOut(f"{what} was not registered within {seconds:g} s: {ours.problem or ours.status.value}")
        ours.wait_until_registered(0)  # which raises what there is to raise
        return self

    async def close(self) -> None:
        """Take the endpoints out of ZooKeeper; they are gone when this returns."""
        if not self._pool.stopped:
            await self._pool.run(self.registration.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()


class AsyncLock(AsyncRegistration):
    """A lock; see `Lock`.

    Attributes:
        lock: as threads see it; `held`, `token` and `subscribe` never block.
    """

    def __init__(self, lock: Lock, pool: _Pool, timeout: float) -> None:
        super().__init__(lock, pool, timeout)
        self.lock = lock

    async def wait_until_held(self, timeout: float | None = None) -> Self:
        """Wait until it is ours; errors as for `Lock.wait_until_held`."""
        return await self.wait_until_registered(timeout)


class AsyncRegistry:
    """A registry whose verbs are awaited; see `Registry` for what they take, do and raise.

    Attributes:
        registry: as threads see it.
    """

    def __init__(self, registry: Registry, pool: _Pool) -> None:
        self.registry, self._pool = registry, pool
        self._views: weakref.WeakSet[AsyncView[Any]] = weakref.WeakSet()

    # -- what is opened

    async def register(self, path: str, address: Any, **options: Any) -> AsyncRegistration:
        """Publish that a service is provided at an address."""
        call = partial(self.registry.register, path, address, **options)
        made = await self._pool.open(Registration.begin_close, call)
        return AsyncRegistration(made, self._pool, self.registry.timeout)

    async def lock(self, path: str, name: str, **options: Any) -> AsyncLock:
        """Ask for a lock."""
        made = await self._pool.open(Lock.begin_close, partial(self.registry.lock, path, name, **options))
        return AsyncLock(made, self._pool, self.registry.timeout)

    def children(self, path: str) -> Opening[AsyncView[Children]]:
        """Follow the names of a node's children."""
        return Opening(lambda: self._follow(AsyncView[Children], self.registry.children, path).__await__())

    def providers(self, path: str) -> Opening[AsyncView[ProvidersView]]:
        """Follow a node's children and their properties."""
        return Opening(lambda: self._follow(AsyncView[ProvidersView], self.registry.providers, path).__await__())

    def properties(self, path: str) -> Opening[AsyncProperties]:
        """Follow a node's properties."""
        return Opening(lambda: self._follow(AsyncProperties, self.registry.properties, path).__await__())

    def tree(self, path: str = "/") -> Opening[AsyncView[Tree]]:
        """Follow a node and everything below it."""
        return Opening(lambda: self._follow(AsyncView[Tree], self.registry.tree, path).__await__())

    async def _follow(self, face: Callable[[V, _Pool, float], A], opened: Callable[[str], V], path: str) -> A:
        view = face(await self._pool.open(View.close, partial(opened, path)), self._pool, self.registry.timeout)
        self._views.add(view)
        return view

    # -- single questions and changes

    async def resolve(self, path: str) -> str:
        """Return the real path of a path with links."""
        return await self._pool.run(self.registry.resolve, path)

    async def exists(self, path: str) -> bool:
        """Tell whether a path leads to a node, links followed."""
        return await self._pool.run(self.registry.exists, path)

    async def get_properties(self, path: str) -> dict[str, Any]:
        """Return a node's properties as they stand in it."""
        return await self._pool.run(self.registry.get_properties, path)

    async def change_properties(self, path: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> tuple[str, int]:
        """Compare and set a node's properties; `change` is called on another thread."""
        return await self._pool.run(self.registry.change_properties, path, change)

    async def make_node(self, path: str, **options: Any) -> bool:
        """Make a persistent node if it is missing; tell whether it was."""
        return await self._pool.run(self.registry.make_node, path, **options)

    async def ln(self, source: str, destination: str) -> None:
        """Make a node link at `destination` that leads to `source`."""
        await self._pool.run(self.registry.ln, source, destination)

    async def unlink(self, path: str) -> bool:
        """Remove the node link at a path; tell whether there was one."""
        return await self._pool.run(self.registry.unlink, path)

    async def is_ephemeral(self, path: str) -> bool:
        """Tell whether the node at a path is ephemeral."""
        return await self._pool.run(self.registry.is_ephemeral, path)

    async def walk(self, path: str = "/", **options: Any) -> AsyncIterator[Any]:
        """Iterate over the paths of a subtree."""
        steps = self.registry.walk(path, **options)
        end = object()
        while (found := await self._pool.run(next, steps, end)) is not end:
            yield found

    async def delete_recursive(self, path: str, **options: Any) -> "Deleted":
        """Delete a node and all below it."""
        return await self._pool.run(self.registry.delete_recursive, path, **options)

    # -- trees

    async def plan_tree(self, text: str, path: str = "/", **options: Any) -> "Plan":
        """Say what importing a tree would change."""
        return await self._pool.run(self.registry.plan_tree, text, path, **options)

    async def apply_plan(self, plan: "Plan", *, progress: "Progress | None" = None) -> None:
        """Carry a plan out; `progress` is called on another thread."""
        await self._pool.run(self.registry.apply_plan, plan, progress=progress)

    async def import_tree(self, text: str, path: str = "/", **options: Any) -> "Plan":
        """Make the nodes below a path be as a text says."""
        return await self._pool.run(self.registry.import_tree, text, path, **options)

    async def export_tree(self, path: str = "/", **options: Any) -> str:
        """Return the text of a subtree."""
        return await self._pool.run(self.registry.export_tree, path, **options)

    async def doctor(self, path: str = "/") -> "list[Finding]":
        """Look for what is wrong below a path."""
        return await self._pool.run(self.registry.doctor, path)

    # -- the session

    def statistics(self) -> Statistics:
        """Say how the session stands; never blocks."""
        return self.registry.statistics()

    async def close(self) -> None:
        """Take our registrations out and end the session; iterations end.  Twice is fine."""
        self._pool.stop()
        try:
            # Not on the pool: its threads may all wait for a server that is silent.
            await asyncio.to_thread(self.registry.close)
        finally:
            for view in list(self._views):
                view.view.close()
                view.wake()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()
