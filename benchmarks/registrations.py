"""How long does one process need for 1,000 registrations?

Peers: as many `create` calls of kazoo, one after the other, and Curator's
`registerService`.
"""

import statistics
from collections.abc import Iterator

import zkfleet
from benchmarks import curator
from benchmarks.measure import Bench, Row, ratio, rounds, shown, times

ROOT = "/r"
NUMBER = 1000


def rows(bench: Bench) -> Iterator[Row]:
    """Yield the lines of this table."""
    bench.kazoo.ensure_path(ROOT)
    made: list[zkfleet.Registration] = []

    def remove() -> None:
        for registration in made:
            registration.begin_close()
        for registration in made:
            registration.close()
        made.clear()
        for name in bench.kazoo.get_children(ROOT):
            bench.kazoo.delete(f"{ROOT}/{name}")

    def ours() -> None:
        made[:] = [bench.registry.register(ROOT, f"h:{port}", wait=False) for port in range(1, NUMBER + 1)]
        for registration in made:
            registration.wait_until_registered(30)

    def one_by_one() -> None:
        for port in range(1, NUMBER + 1):
            bench.kazoo.create(f"{ROOT}/h:{port}", b'{"pid":1}', ephemeral=True)

    mine, theirs = rounds(5, (remove, ours), (remove, one_by_one))
    yield times("1,000 registrations", mine, "kazoo `create`, one by one", theirs, at_most=1)
    remove()
    for name, seconds in curator.registers(bench.hosts, f"{ROOT}/curator", NUMBER):
        part = ratio(mine, [seconds] * len(mine))
        yield Row("the same", shown(statistics.median(mine)), name, shown(seconds), f"{part:.2f}")
    bench.clear(ROOT)
