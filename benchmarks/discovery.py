"""How soon is a view of many providers there, what does it read, and how big is it?

Peers: kazoo with all its requests sent before the first answer is awaited, and
Curator's cache of the same nodes.
"""

import statistics
import tracemalloc
from collections.abc import Iterator

from benchmarks import curator
from benchmarks.measure import Bench, Row, bounded, nothing, ratio, rounds, shown, times
from zkfleet.registry.wire import MultiRead

ROOT = "/p"


def a_service(number: int, root: str = ROOT) -> str:
    """Return the tree of a service with so many providers."""
    return f"{root}\n" + "".join(f"  /h:{n}\n    pid = {n}\n    weight = 1\n" for n in range(1, number + 1))


def rows(bench: Bench) -> Iterator[Row]:
    """Yield the lines of this table."""
    bench.clear(ROOT)
    bench.registry.import_tree(a_service(1000))

    def pipelined() -> None:
        for waiting in [bench.kazoo.get_async(f"{ROOT}/{name}") for name in bench.kazoo.get_children(ROOT)]:
            waiting.get()

    ours, theirs = rounds(15, (nothing, lambda: bench.registry.providers(ROOT).close()), (nothing, pipelined))
    yield bounded("`providers()` of 1,000 ready", statistics.median(ours) * 1000, 25, "ms")
    yield times("the same", ours, "kazoo, pipelined", theirs)
    for name, seconds in curator.fills(bench.hosts, ROOT):
        yield Row("the same", shown(statistics.median(ours)), name, shown(seconds), f"{_part(ours, seconds):.2f}")
    yield from _reads(bench)
    yield _memory(bench)
    bench.clear(ROOT)


def _part(ours: list[float], seconds: float) -> float:
    return ratio(ours, [seconds] * len(ours))


def _reads(bench: Bench) -> Iterator[Row]:
    """Count what travels: for the whole view, and when one provider joins."""
    sent: list[MultiRead] = []
    send = bench.registry.session.send

    def counting(request: object, then: object) -> None:
        if isinstance(request, MultiRead):
            sent.append(request)
        send(request, then)  # type: ignore[arg-type]

    bench.registry.session.send = counting  # type: ignore[method-assign,assignment]
    try:
        view = bench.registry.providers(ROOT)
        yield bounded("round trips for it", len(sent), 3)
        sent.clear()
        bench.kazoo.create(f"{ROOT}/new:1", b'{"pid":1}')
        view.wait_until(lambda view: "new:1" in view)
        yield bounded("znodes read when one joins", sum(len(request.reads) for request in sent), 1)
        bench.kazoo.delete(f"{ROOT}/new:1")
        view.close()
    finally:
        bench.registry.session.send = send  # type: ignore[method-assign]


def _memory(bench: Bench) -> Row:
    bench.registry.import_tree(a_service(10_000))
    tracemalloc.start()
    view = bench.registry.providers(ROOT)
    size = tracemalloc.get_traced_memory()[0] / len(view)
    tracemalloc.stop()
    view.close()
    return bounded("memory of 10,000, each", round(size), 2048, "bytes")
