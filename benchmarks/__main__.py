"""Run the benchmarks on a real ZooKeeper and print their tables as Markdown."""

import argparse
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from kazoo.client import KazooClient

import zkfleet
from benchmarks import (
    calls,
    devserver,
    discovery,
    latency,
    links,
    measure,
    monitor,
    registrations,
    restarts,
    starting,
    trees,
    zeo,
)
from zkfleet.testing import ZooKeeperServer

PAGE = Path(__file__).parent.parent / "docs/performance.md"
MEASURED = re.compile(r"(<!-- measured -->\n)(.*)(<!-- end -->)", re.DOTALL)
SECTION = re.compile(r"^## (.+)\n\n(.*?)\n*(?=^## |\Z)", re.DOTALL | re.MULTILINE)
TABLES: dict[str, tuple[str, Callable[[measure.Bench], Iterator[measure.Row]]]] = {
    "trees": ("Trees", trees.rows),
    "discovery": ("Views of many providers", discovery.rows),
    "latency": ("From a create to a callback in another process", latency.rows),
    "registrations": ("Registrations", registrations.rows),
    "links": ("Links that break", links.rows),
    "restart": ("A server that is killed and started again", restarts.rows),
    "starting": ("Starting", starting.rows),
    "zeo": ("ZEO clients that follow", zeo.rows),
    "calls": ("Calls", calls.rows),
    "monitor": ("Monitors, beside zc.monitor", monitor.rows),
    "devserver": ("The dev server, beside ZooKeeper itself", devserver.rows),
}


def main() -> None:
    """Measure what is asked for."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    arguments.add_argument("tables", nargs="*", metavar="TABLE", help=f"one of {', '.join(TABLES)}; else all")
    arguments.add_argument("--write", action="store_true", help="put them into docs/performance.md")
    wanted = arguments.parse_args()
    if unknown := set(wanted.tables) - TABLES.keys():
        arguments.error(f"there is no table {', '.join(sorted(unknown))}")
    logging.disable(logging.CRITICAL)  # links are broken on purpose here
    with ZooKeeperServer() as server, zkfleet.connect(server.hosts, timeout=60) as registry:
        kazoo = KazooClient(server.hosts)
        kazoo.start()
        bench = measure.Bench(server, registry, kazoo)
        measured = {}
        for name in wanted.tables or TABLES:
            title, rows = TABLES[name]
            machine = measure.machine(server)
            measured[title] = f"{machine}\n\n{measure.table(_shown(title, machine, rows(bench)))}"
        kazoo.stop()
    if wanted.write:
        PAGE.write_text(MEASURED.sub(lambda found: found[1] + _page(found[2], measured) + found[3], PAGE.read_text()))


def _page(before: str, measured: dict[str, str]) -> str:
    """Return the tables that were there, with those that were measured in their places."""
    sections = dict(SECTION.findall(before)) | measured
    return "\n\n".join(f"## {title}\n\n{sections[title]}" for title, _ in TABLES.values() if title in sections) + "\n"


def _shown(title: str, machine: str, rows: Iterator[measure.Row]) -> Iterator[measure.Row]:
    """Print rows as they come."""
    print(f"\n## {title}\n\n{machine}\n\n{measure.HEAD}", flush=True)
    for row in rows:
        print(row, flush=True)
        yield row


if __name__ == "__main__":
    main()
