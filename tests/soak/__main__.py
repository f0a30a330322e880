"""Is nothing lost that was acknowledged, whatever breaks?  See docs/reliability.md."""

import argparse
import itertools
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.soak.fleet import Fleet, plan
from tests.soak.verdict import breaches, counted, history, outages

CALM = 20.0  # seconds after the last fault in which everybody must commit again


def main():
    arguments = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    arguments.add_argument("--seconds", type=float, default=60.0)
    arguments.add_argument("--seed", type=int, default=None)
    arguments.add_argument("--zookeeper", choices=["dev", "real"], default="dev")
    arguments.add_argument("--folder", type=Path, default=None)
    wanted = arguments.parse_args()
    seed = random.randrange(1 << 32) if wanted.seed is None else wanted.seed
    folder = wanted.folder or Path(tempfile.mkdtemp(prefix="zkfleet-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"soak: seed {seed}, {wanted.seconds:g} s, ZooKeeper: {wanted.zookeeper}, logs in {folder}", flush=True)
    found = run(folder, seconds=wanted.seconds, seed=seed, kind=wanted.zookeeper)
    print("\n".join(f"BREACH: {breach}" for breach in found) or "no breach")
    sys.exit(1 if found else 0)


def run(folder, *, seconds, seed, kind):
    """Run it, print the report, and return what went wrong."""
    fleet, made = Fleet(folder, kind=kind), Counter()
    try:
        fleet.wait_until_one_serves()
        deadline = time.monotonic() + seconds
        for rest, fault, fleet.random in plan(seed):
            if time.monotonic() + rest > deadline:
                break
            time.sleep(rest)  # waits for nothing: how long there is peace is a part of what the seed decides
            print(f"{deadline - time.monotonic():8.1f} {fault.__name__} after {rest:.2f} s", flush=True)
            fault(fleet)
            made[fault.__name__] += 1
        last_fault = time.monotonic()
        time.sleep(CALM)
        crashed = list(fleet.crashed())
        fleet.stop_writers(CALM)
        fleet.kill_all()
        read = fleet.read()
    finally:
        fleet.close()
    histories = {name: history((folder / f"{name}.log").open()) for name in fleet.writers}
    stored = counted(fleet.stored())
    report(made, histories)
    wrong = [breaches(name, found, stored, read, last_fault=last_fault) for name, found in histories.items()]
    return [*crashed, *itertools.chain.from_iterable(wrong)]


def report(made, histories):
    acknowledged = sum(len(found.acknowledged) for found in histories.values())
    tried = sum(len(found.tried) for found in histories.values())
    said = Counter(outcome for found in histories.values() for _, outcome in found.outcomes)
    waits = [wait for found in histories.values() for wait in outages(found)]
    long = [wait for wait in waits if wait > 1]
    print("faults:", ", ".join(f"{name} {number}" for name, number in sorted(made.items())))
    print(f"transactions: {tried} tried, {acknowledged} acknowledged")
    print(
        "outcomes that were asked for:",
        ", ".join(f"{name} {number}" for name, number in sorted(said.items())) or "none",
    )
    print(f"longest outage of a writer: {max(waits, default=0):.1f} s")
    if long:
        print(f"outages over 1 s: {len(long)}, median {statistics.median(long):.1f} s")


if __name__ == "__main__":
    main()
