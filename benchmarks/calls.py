"""What does a call cost beside the loop that one writes by hand?

In a thread, on a database in memory; from coroutines, on a ZEO server near by
and on one that is far away; and what a thousand do that call at once.
"""

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ZEO
import ZODB

from benchmarks import by_hand
from benchmarks.by_hand import Counter, filled
from benchmarks.measure import Bench, Row, bounded, nothing, rates, rounds, times
from benchmarks.zeo import Server
from zkfleet import calls
from zkfleet.calls.asyncio import call
from zkfleet.calls.pool import pool_of

ROUNDS = 9
CALLERS, COMMITS, TURNS = 8, 20, 25
AWAY, LOADS = 0.020, 10
CROWD, CONNECTIONS, CALLS_OF_EACH = 1000, 8, 5


def rows(_bench: Bench) -> Iterator[Row]:
    """Yield the lines of this table."""
    yield from _in_a_thread()
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        yield from _on_a_server(server)
        yield from _far_away(server)
    yield from _crowd()


# -- near by


def _in_a_thread() -> Iterator[Row]:
    done = subprocess.run([sys.executable, "-m", "benchmarks.by_hand"], stdout=subprocess.PIPE, check=True)
    mine, its = json.loads(done.stdout)
    peer, number = "open, begin, call, commit, close by hand", by_hand.CALLS
    yield rates("calls in a thread, in memory", mine, peer, its, number=number, at_least=1 / 1.5)
    mine, its = by_hand.compare()
    yield rates("the same, in a program that uses ZEO as well", mine, peer, its, number=number)


def _on_a_server(server: Server) -> Iterator[Row]:
    ours, plain = ZEO.DB(server.address), ZEO.DB(server.address)
    places = filled(ours, 2 * CALLERS)
    plain.storage.ping()

    def coroutines() -> None:
        async def add(place: calls.Ref) -> None:
            for _ in range(COMMITS):
                await call(Counter.add, place)

        asyncio.run(_all(add(place) for place in places[:CALLERS]))

    def executor() -> None:
        with ThreadPoolExecutor(CALLERS) as pool:

            async def add(place: calls.Ref) -> None:
                for _ in range(COMMITS):
                    await asyncio.get_running_loop().run_in_executor(pool, by_hand.count, plain, place.oid, 1)

            asyncio.run(_all(add(place) for place in places[CALLERS:]))

    def plain_threads() -> None:
        with ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(lambda place: by_hand.count(plain, place.oid, COMMITS), places[CALLERS:]))

    calls.limit(ours, connections=CALLERS)
    plain.setPoolSize(CALLERS)
    mine, its, loops = rounds(TURNS, (nothing, coroutines), (nothing, plain_threads), (nothing, executor))
    ours.close()
    plain.close()
    what, number = f"commits of {CALLERS} coroutines on a ZEO server", CALLERS * COMMITS
    yield rates(what, mine, f"{CALLERS} threads by hand", its, number=number, at_least=0.9)
    yield rates("the same", mine, "`run_in_executor` by hand", loops, number=number)


async def _all(coroutines: Iterator[Coroutine[Any, Any, None]]) -> None:
    await asyncio.gather(*coroutines)


# -- far away


def _far_away(server: Server) -> Iterator[Row]:
    with contextlib.closing(ZEO.DB(server.address)) as database:
        places = filled(database, LOADS)
    command = [sys.executable, "-m", "benchmarks.relay", str(server.port), str(AWAY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as relay:
        assert relay.stdout
        address = ("127.0.0.1", int(relay.stdout.readline()))
        idle = [_stall(address, lambda _database, _root: asyncio.sleep(LOADS * 2 * AWAY)) for _ in range(ROUNDS)]
        called = [_stall(address, lambda _database, root: call(_load, root, places)) for _ in range(ROUNDS)]
        blocking = [_stall(address, lambda database, _: _load_here(database, places)) for _ in range(3)]
        relay.kill()
    what = f"{LOADS} cold loads, {2000 * AWAY:g} ms away: the longest stall of the loop"
    middle, theirs = statistics.median(called) * 1000, f"{statistics.median(blocking) * 1000:.0f} ms"
    yield bounded(f"{what}, median of {ROUNDS}", middle, 5, "ms", peer="in the loop", theirs=theirs)
    yield times("the same, worst", [max(called)], "a loop that only sleeps", [max(idle)])


def _load(root: Any, places: list[calls.Ref]) -> None:
    for place in places:
        root._p_jar.get(place.oid).count  # noqa: B018  is loaded


async def _load_here(database: ZODB.DB, places: list[calls.Ref]) -> None:
    with database.transaction() as connection:
        _load(connection.root(), places)


def _stall(address: tuple[str, int], load: Callable[[ZODB.DB, calls.Ref], Coroutine[Any, Any, None]]) -> float:
    """Return by how many seconds the loop was late at most, while something was loaded that is in no cache."""

    async def main() -> float:
        loading, longest = asyncio.create_task(load(database, root)), 0.0
        while not loading.done():
            begun = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - begun - 0.001)
        await loading
        return longest

    with contextlib.closing(ZEO.DB(address)) as database:
        with database.transaction() as connection:
            root = calls.ref(connection.root())
        return asyncio.run(main())


# -- many


def _crowd() -> Iterator[Row]:
    database = ZODB.DB(None, pool_size=CONNECTIONS)
    [place] = filled(database, 1)
    fair = []
    for _ in range(ROUNDS):
        waits = asyncio.run(_waits(place))
        fair.append(max(waits) / statistics.mean(waits))
    what = f"{CROWD:,} coroutines on {CONNECTIONS} connections: longest wait / mean"
    yield bounded(what, statistics.median(fair), 2)
    yield bounded("memory of each that waits", asyncio.run(_memory(database, place)) / 1024, 20, "KiB")
    database.close()


async def _waits(place: calls.Ref) -> list[float]:
    """Return how long calls waited until they were begun, when the crowd is there."""
    waits = []

    async def call_often() -> None:
        for turn in range(CALLS_OF_EACH):
            asked = time.perf_counter()
            begun = await call(Counter.begun, place)
            if turn:
                waits.append(begun - asked)

    await asyncio.gather(*[call_often() for _ in range(CROWD)])
    return waits


async def _memory(database: ZODB.DB, place: calls.Ref) -> float:
    """Return the bytes that one takes who waits."""
    held = [pool_of(database).ask() for _ in range(CONNECTIONS)]
    tracemalloc.start()
    waiting = [asyncio.create_task(call(Counter.begun, place)) for _ in range(CROWD)]
    while pool_of(database).queued < CROWD:
        await asyncio.sleep(0)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for slot in held:
        slot.give_back()
    await asyncio.gather(*waiting)
    return size / CROWD
