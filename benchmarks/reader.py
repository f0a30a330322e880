"""Follow a service in another process and say when each change was heard of.

`python -m benchmarks.reader zkfleet|kazoo HOSTS PATH` prints `ready`, and then
for every callback the monotonic clock in nanoseconds and whether `new:1` is
among the providers; it ends with its standard input.
"""

import sys
import time
from collections.abc import Collection

from kazoo.client import KazooClient

import zkfleet

NEW = "new:1"


def tell(names: Collection[str]) -> None:
    """Write one line."""
    now = time.monotonic_ns()
    sys.stdout.write(f"{now} {int(NEW in names)}\n")
    sys.stdout.flush()


def main(kind: str, hosts: str, path: str) -> None:
    """Follow until nobody listens any more."""
    if kind == "kazoo":
        client = KazooClient(hosts)
        client.start()
        client.ChildrenWatch(path, tell)
        print("ready", flush=True)
        sys.stdin.read()
        client.stop()
        return
    with zkfleet.connect(hosts) as registry:
        view = registry.providers(path)
        view(tell)
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
