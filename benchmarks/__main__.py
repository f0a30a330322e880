"""Run the benchmarks on a real ZooKeeper and print their tables as Markdown."""

import argparse
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from kazoo.client import KazooClient

import zkfleet
from benchmarks import calls, devserver, discovery, latency, links, measure, registrations, starting, trees, zeo
from zkfleet.testing import ZooKeeperServer

PAGE = Path(__file__).parent.parent / "docs/performance.md"
MEASURED = re.compile(r"(<!-- measured -->\n).*(<!-- end -->)", re.DOTALL)
TABLES: dict[str, tuple[str, Callable[[measure.Bench], Iterator[measure.Row]]]] = {
    "trees": ("Trees", trees.rows),
    "discovery": ("Views of many providers", discovery.rows),
    "latency": ("From a create to a callback in another process", latency.rows),
    "registrations": ("Registrations", registrations.rows),
    "links": ("Links that break", links.rows),
    "starting": ("Starting", starting.rows),
    "zeo": ("ZEO clients that follow", zeo.rows),
    "calls": ("Calls", calls.rows),
    "devserver": ("The dev server, beside ZooKeeper itself", devserver.rows),
}


def main() -> None:
    """Measure what is asked for."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    arguments.add_argument("tables", nargs="*", metavar="TABLE", help=f"one of {', '.join(TABLES)}; else all")
    arguments.add_argument("--write", action="store_true", help="put all of them into docs/performance.md")
    wanted = arguments.parse_args()
    if unknown := set(wanted.tables) - TABLES.keys():
        arguments.error(f"there is no table {', '.join(sorted(unknown))}")
    logging.disable(logging.CRITICAL)  # links are broken on purpose here
    with ZooKeeperServer() as server, zkfleet.connect(server.hosts, timeout=60) as registry:
        kazoo = KazooClient(server.hosts)
        kazoo.start()
        bench = measure.Bench(server, registry, kazoo)
        text = [measure.machine(server)]
        print(text[0], flush=True)
        for name in wanted.tables or TABLES:
            title, rows = TABLES[name]
            text.append(f"## {title}\n\n{measure.table(_shown(title, rows(bench)))}")
        kazoo.stop()
    if wanted.write and not wanted.tables:
        PAGE.write_text(MEASURED.sub(lambda found: found[1] + "\n\n".join(text) + "\n" + found[2], PAGE.read_text()))


def _shown(title: str, rows: Iterator[measure.Row]) -> Iterator[measure.Row]:
    """Print rows as they come."""
    print(f"\n## {title}\n\n{measure.HEAD}", flush=True)
    for row in rows:
        print(row, flush=True)
        yield row


if __name__ == "__main__":
    main()
