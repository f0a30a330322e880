"""Does a Zope fleet lose, double or refuse anything while its ZEO servers fail over?  See docs/reliability.md."""

import argparse
import itertools
import sys
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

from tests.soak import verdict as orders
from tests.soak.zope import logs, verdict
from tests.soak.zope.fleet import FAULTS, ZopeFleet

CALM = 2.0  # seconds of load before each failover


def main():
    arguments = argparse.ArgumentParser(prog="python -m tests.soak.zope", description=__doc__)
    arguments.add_argument("--failovers", type=int, default=10)
    arguments.add_argument("--zookeeper", choices=["dev", "real"], default="real")
    arguments.add_argument("--folder", type=Path, default=None)
    wanted = arguments.parse_args()
    folder = (wanted.folder or Path(tempfile.mkdtemp(prefix="zkfleet-zope-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    print(f"zope: {wanted.failovers} failovers, ZooKeeper: {wanted.zookeeper}, logs in {folder}", flush=True)
    found = run(folder, failovers=wanted.failovers, kind=wanted.zookeeper)
    print("\n".join(f"BREACH: {breach}" for breach in found) or "no breach")
    sys.exit(1 if found else 0)


def run(folder, *, failovers, kind):
    """Run it, print the report, and return what went wrong."""
    fleet = ZopeFleet(folder, kind=kind)
    try:
        fleet.start_clients()
        fleet.wait_until_all_add()
        made = [fail_over(fleet, fault) for fault in itertools.islice(itertools.cycle(FAULTS), failovers)]
        fleet.wait_until_one_stands_by()
        last_fault = time.time()
        fleet.wait_until_all_add()
        histories = fleet.end_load()
        names, count = fleet.read()
    finally:
        fleet.close()
    stored, lines = orders.counted(fleet.stored()), logs.loud(fleet.log_lines())
    failures = [failure for one in fleet.clients for failure in one.failures]
    report(fleet.clients, histories, made, failures, lines)
    found = [
        breach
        for name, history in histories.items()
        for breach in orders.breaches(name, history, stored, names, last_fault=last_fault)
    ]
    if count != len(names):
        found.append(f"the counters say {count}, and there are {len(names)} orders")
    return [*found, *verdict.breaches(failures, lines, made)]


def fail_over(fleet, fault):
    """Have one failover, and return what came of it when all clients add orders again."""
    before = fleet.wait_until_one_stands_by()
    time.sleep(CALM)  # waits for nothing: this long there is load and peace
    began = time.time()
    fault(fleet)
    fleet.wait_until_all_add()
    after = fleet.wait_until_one_stands_by()
    done = verdict.Failover(fault.__name__, began, time.time(), before, after)
    print(f"  {done.what} server {before} -> {after}, {done.ended - began:.1f} s", flush=True)
    return done


def outage(histories, failover):
    """Return the longest time in which a client got no acknowledgement around a failover, in seconds."""
    return max(
        (
            later - earlier
            for one in histories.values()
            for earlier, later in pairwise(one.times)
            if later >= failover.began and earlier < failover.ended
        ),
        default=0.0,
    )


def report(clients, histories, made, failures, lines):
    acknowledged = sum(len(one.acknowledged) for one in histories.values())
    print(f"requests: {sum(one.requests for one in clients)}, orders acknowledged: {acknowledged}")
    print(
        f"orders that were committed, found by Zope when it ran the request again: {sum(one.again for one in clients)}"
    )
    print(
        "| # | failover | server | longest outage | failed requests: conflicts, others | lines of servers | of Zope |"
    )
    print("|--:|---|---|--:|--:|--:|--:|")
    for number, one in enumerate(made, 1):
        failed = [failure for failure in failures if one.has(failure.at)]
        conflicts = sum(failure.is_conflict for failure in failed)
        sizes = Counter()
        for line in lines:
            sizes[line.process[:4]] += line.size * one.has(line.at)
        print(
            f"| {number} | {one.what} | {one.before} to {one.after} | {outage(histories, one):.1f} s "
            f"| {conflicts}, {len(failed) - conflicts} | {sizes['serv']} | {sizes['zope']} |"
        )
    print("lines at WARNING and above:")
    for kind, number in verdict.kinds(lines).most_common():
        print(f"  {number:5d} {kind}: {verdict.is_actionable(kind) or 'UNKNOWN'}")
    print("requests that failed:")
    for what, number in Counter(f"{one.method} {one.status} {one.reason}" for one in failures).most_common():
        print(f"  {number:5d} {what}")


if __name__ == "__main__":
    main()
