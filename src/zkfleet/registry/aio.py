"""All of the registry, for asyncio.

A door, and nothing but: every verb runs on a small pool of threads of this
registry's own, so the loop is never blocked, and views become async iterators
of snapshots.  A task that is cancelled leaves nothing behind: a registration
that was being made is closed again, an iterator unsubscribes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, ParamSpec, Self, TypeVar

from zkfleet.registry.connecting import connect as connect_blocking
from zkfleet.registry.readings import Snapshot
from zkfleet.registry.registrar import Registration
from zkfleet.registry.registry import Registry, Statistics
from zkfleet.registry.views import View

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V", bound=View[Any])

THREADS = 8


class _Pool:
    """Runs blocking calls off the loop."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="zkfleet-aio")

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._executor, partial(function, *args, **kwargs))

    async def open(self, undo: Callable[[R], object], function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a call that opens something; if we are cancelled meanwhile, what it opened is closed again."""
        future = self._executor.submit(partial(function, *args, **kwargs))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(lambda done: None if done.cancelled() or done.exception() else undo(done.result()))
            raise

    def stop(self) -> None:
        self._executor.shutdown(wait=False)


async def connect(hosts: str | None = None, **options: Any) -> "AsyncRegistry":
    """Open a session; arguments and errors as for `zkfleet.connect`."""
    pool = _Pool()
    try:
        return AsyncRegistry(await pool.open(Registry.close, connect_blocking, hosts, **options), pool)
    except BaseException:
        pool.stop()
        raise


class AsyncView(Generic[V]):
    """A live view; iterate over it for its snapshots, the present one first.

    A slow consumer gets the last state, and not those in between.  The
    iteration ends when the view is closed.
    """

    def __init__(self, view: V, pool: _Pool) -> None:
        self.view, self._pool = view, pool
        self._waiting: set[asyncio.Event] = set()

    async def __aiter__(self) -> AsyncIterator[Snapshot[Any]]:
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        self._waiting.add(changed)
        subscriber = self.view.subscribe(lambda _view: loop.call_soon_threadsafe(changed.set))
        try:
            seen: Snapshot[Any] | None = None
            while not self.view.closed:
                snapshot = self.view.snapshot
                if seen is None or not snapshot.says_the_same(seen):
                    seen = snapshot
                    yield snapshot
                    continue
                await changed.wait()
                changed.clear()
        finally:
            self.view.unsubscribe(subscriber)
            self._waiting.discard(changed)

    async def wait_until(self, predicate: Callable[[V], object], timeout: float | None = None) -> Self:
        """Wait until `predicate(view)` is true; arguments and errors as for `View.wait_until`."""
        await self._pool.run(self.view.wait_until, predicate, timeout)
        return self

    async def close(self) -> None:
        """Stop following; iterations end."""
        self.view.close()
        for changed in self._waiting:
            changed.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()


class AsyncRegistration:
    """A registration; see `Registration`."""

    def __init__(self, registration: Registration, pool: _Pool) -> None:
        self.registration, self._pool = registration, pool

    async def update(self, **properties: Any) -> None:
        """Set some properties in place."""
        await self._pool.run(self.registration.update, properties)

    async def drain(self) -> None:
        """Say that no new work is wanted."""
        await self._pool.run(self.registration.drain)

    async def wait_until_registered(self, timeout: float | None = None) -> Self:
        """Wait until every endpoint is in ZooKeeper."""
        await self._pool.run(self.registration.wait_until_registered, timeout)
        return self

    async def close(self) -> None:
        """Take the endpoints out of ZooKeeper."""
        await self._pool.run(self.registration.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()


class AsyncRegistry:
    """A registry whose verbs are awaited; see `Registry` for what they do."""

    def __init__(self, registry: Registry, pool: _Pool) -> None:
        self.registry, self._pool = registry, pool

    async def register(self, path: str, address: Any, **options: Any) -> AsyncRegistration:
        """Publish that a service is provided at an address."""
        made = await self._pool.open(Registration.begin_close, self.registry.register, path, address, **options)
        return AsyncRegistration(made, self._pool)

    async def children(self, path: str) -> AsyncView[Any]:
        """Follow the names of a node's children."""
        return AsyncView(await self._pool.open(View.close, self.registry.children, path), self._pool)

    async def providers(self, path: str) -> AsyncView[Any]:
        """Follow a node's children and their properties."""
        return AsyncView(await self._pool.open(View.close, self.registry.providers, path), self._pool)

    async def properties(self, path: str) -> AsyncView[Any]:
        """Follow a node's properties."""
        return AsyncView(await self._pool.open(View.close, self.registry.properties, path), self._pool)

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        """Return one of the plain verbs, awaitable."""
        if verb not in _VERBS:
            raise AttributeError(f"AsyncRegistry has no {verb!r}")
        return partial(self._pool.run, getattr(self.registry, verb))

    async def walk(self, path: str = "/", **options: Any) -> AsyncIterator[Any]:
        """Iterate over the paths of a subtree."""
        steps = self.registry.walk(path, **options)
        end = object()
        while (found := await self._pool.run(next, steps, end)) is not end:
            yield found

    def statistics(self) -> Statistics:
        """Say how the session stands."""
        return self.registry.statistics()

    async def close(self) -> None:
        """Take our registrations out and end the session."""
        try:
            await self._pool.run(self.registry.close)
        finally:
            self._pool.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()


_VERBS = frozenset(
    [
        "resolve",
        "exists",
        "get_properties",
        "change_properties",
        "ln",
        "is_ephemeral",
        "delete_recursive",
        "plan_tree",
        "apply_plan",
        "import_tree",
        "export_tree",
        "doctor",
    ]
)
