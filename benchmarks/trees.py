"""How fast does a text become a part of the tree, and the other way round?

The peer is kazoo: one node at a time, and in multis of the same bytes, cut as
we cut them, and in thousands and hundreds.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from kazoo.protocol.serialization import Create, Transaction
from kazoo.security import OPEN_ACL_UNSAFE

from benchmarks.measure import Bench, Row, bounded, nothing, rates, rounds, times
from zkfleet.registry import applying

NODES = 5000
ONE_BY_ONE = 1000
ROOT = "/big"
ROUNDS = 7


def rows(bench: Bench) -> Iterator[Row]:
    """Yield the lines of this table."""
    text = a_tree()
    clean = partial(bench.clear, ROOT)
    clean()
    plan = bench.registry.plan_tree(text)
    made = [(step.path, step.data) for step in plan.steps if isinstance(step, applying.Create)]
    ours, one_by_one = rounds(
        ROUNDS,
        (clean, lambda: bench.registry.import_tree(text)),
        (clean, lambda: [bench.kazoo.create(path, data) for path, data in made[:ONE_BY_ONE]]),
    )
    yield rates(
        "import 5,000 nodes", ours, "kazoo `create`", one_by_one, number=NODES, theirs_number=ONE_BY_ONE, at_least=20
    )
    yield from _applied(bench, clean, plan, made)
    yield from _read(bench, text, [path for path, _ in made])
    clean()


def a_tree() -> str:
    """Return the text of 5,000 nodes: fifty services with ninety-nine each."""
    lines = [f"{ROOT}\n"]
    for service in range(NODES // 100):
        lines.append(f"  /s{service} : service\n    threads = {service}\n")
        lines += [f"    /n{number}\n      value = {number}\n      name = 'node {number}'\n" for number in range(99)]
    return "".join(lines)


def _applied(
    bench: Bench, clean: Callable[[], None], plan: applying.Plan, made: Sequence[tuple[str, bytes]]
) -> Iterator[Row]:
    cuts = [[(step.path, step.data) for step in run] for run in applying.pack(plan.steps)]  # type: ignore[union-attr]
    peers = {"cut as ours": cuts}
    for size in (1000, 100):
        peers[f"of {size:,}"] = [list(made[begin : begin + size]) for begin in range(0, len(made), size)]
    ours, *theirs = rounds(
        ROUNDS,
        (clean, lambda: bench.registry.apply_plan(plan)),
        *((clean, partial(_multis, bench, runs)) for runs in peers.values()),
    )
    for name, seconds in zip(peers, theirs, strict=True):
        wanted = 0.7 if name == "cut as ours" else None
        yield rates("apply alone", ours, f"kazoo multis {name}", seconds, number=NODES, at_least=wanted)


def _multis(bench: Bench, runs: Sequence[Sequence[tuple[str, bytes]]]) -> None:
    for run in runs:
        result = bench.kazoo.handler.async_result()
        bench.kazoo._call(Transaction([Create(path, data, OPEN_ACL_UNSAFE, 0) for path, data in run]), result)
        result.get()


def _read(bench: Bench, text: str, where: Sequence[str]) -> Iterator[Row]:
    bench.registry.import_tree(text)

    def one_by_one() -> None:
        for path in where[:ONE_BY_ONE]:
            bench.kazoo.get(path)
            bench.kazoo.get_children(path)

    ours, theirs = rounds(ROUNDS, (nothing, lambda: bench.registry.export_tree(ROOT)), (nothing, one_by_one))
    yield rates(
        "export them", ours, "kazoo `get` + `get_children`", theirs, number=NODES, theirs_number=ONE_BY_ONE, at_least=20
    )
    before = _last_change(bench)
    again, export = rounds(
        3 * ROUNDS,
        (nothing, lambda: bench.registry.import_tree(text)),
        (nothing, lambda: bench.registry.export_tree(ROOT)),
    )
    yield times("import them again, unchanged", again, "our export", export, at_most=1)
    yield bounded("writes of all those imports", _last_change(bench) - before - 1, 0)


def _last_change(bench: Bench) -> int:
    """Return the zxid of a write made now."""
    return int(bench.kazoo.set("/", b"").mzxid)
