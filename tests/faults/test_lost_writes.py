"""Does every write happen as often as its client is told, whatever its link loses?

Several processes write at random, each behind a relay of its own that cuts,
swallows requests, swallows replies, or is silent; one of them is killed.  What is
there in the end is compared with what they were told.  For longer:

    ZKFLEET_HISTORY_SECONDS=600 python -m pytest tests/faults/test_lost_writes.py
"""

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

import zkfleet
from tests.conftest import with_own_chroot
from tests.faults import client
from tests.faults.history import breaches, read_log
from zkfleet.testing import Proxy

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(0)]
SECONDS = float(os.environ.get("ZKFLEET_HISTORY_SECONDS", "5"))
CLIENTS = 4
FAULTS = ["cut"] * 3 + ["requests", "replies", "replies"] * 3 + ["silence", "refuse"]


def disturb(relay, chance, end):
    """Break one link again and again until it is time to end."""
    while time.monotonic() < end:
        threading.Event().wait(chance.uniform(0.01, 0.25))
        match chance.choice(FAULTS):
            case "cut":
                relay.cut()
            case "requests":
                relay.swallow(requests=True)
                threading.Event().wait(chance.uniform(0.01, 0.15))
            case "replies":
                relay.swallow(replies=True)
                threading.Event().wait(chance.uniform(0.01, 0.15))
            case "silence":
                relay.black_hole()
                threading.Event().wait(chance.uniform(0.05, 0.3))
                relay.cut()
            case "refuse":
                # Now and then for longer than the session.
                relay.refuse()
                threading.Event().wait(chance.choice([0.1, 0.3, 1.0, 1.5 * client.SESSION_TIMEOUT]))
        relay.heal()


def begin(folder, hosts, name, seed):
    arguments = [hosts, name, str(seed), str(SECONDS), str(folder / name)]
    with (folder / f"{name}.err").open("wb") as errors:
        return subprocess.Popen([sys.executable, "-m", "tests.faults.client", *arguments], stderr=errors)


class Links:
    """One client's relays, one to each member, which break together."""

    def __init__(self, server):
        self._relays = [Proxy(member.port) for member in getattr(server, "members", [server])]
        self.hosts = ",".join(relay.hosts for relay in self._relays)

    def __getattr__(self, name):
        return lambda **options: [getattr(relay, name)(**options) for relay in self._relays]


def test_every_write_happens_as_often_as_its_client_is_told(zookeeper, tmp_path):
    compare(zookeeper, tmp_path)


def test_the_same_holds_on_an_ensemble_whose_members_lag_behind_each_other(ensemble, tmp_path):
    compare(ensemble, tmp_path)


def compare(server, tmp_path):
    """Have clients write, and compare what they were told with what is there."""
    seed = int(os.environ.get("ZKFLEET_HISTORY_SEED", random.randrange(10**6)))
    chance = random.Random(seed)
    links = [Links(server) for _ in range(CLIENTS)]
    hosts = with_own_chroot(server.hosts)
    names = [f"c{number}" for number in range(CLIENTS)]
    with zkfleet.connect(hosts) as watcher:
        watcher.import_tree(client.TREE)
        at = hosts[hosts.index("/") :]
        processes = [
            begin(tmp_path, link.hosts + at, name, chance.randrange(10**9))
            for link, name in zip(links, names, strict=True)
        ]
        end = time.monotonic() + SECONDS
        threads = [threading.Thread(target=disturb, args=(link, random.Random(chance.random()), end)) for link in links]
        for thread in threads:
            thread.start()
        threading.Event().wait(SECONDS * 0.8)
        processes[0].kill()
        for thread in threads:
            thread.join()
        ended = [process.wait(30) for process in processes]
        for link in links:
            link.stop()
        assert ended == [-9, 0, 0, 0], [(tmp_path / f"{name}.err").read_text()[-2000:] for name in names]
        operations = [operation for name in names for operation in history(tmp_path / name)]
        told = Counter(operation.outcome for operation in operations)
        print(f"seed={seed} {dict(told)}")
        found = list(breaches(operations, **what_is_there(watcher)))
    assert not found, f"seed={seed} {dict(told)}:\n" + "\n".join(found)
    assert told["done"] > 5


def history(path: Path):
    with path.open(encoding="utf-8") as lines:
        return list(read_log(lines))


def what_is_there(watcher):
    appended = []
    for number in range(client.COUNTERS):
        appended += watcher.get_properties(f"/log{number}")["names"]
        appended += [f"counter{number}"] * watcher.get_properties(f"/counter{number}")["n"]
    links = [name.removesuffix(" ->") for name in watcher.get_properties("/links")]
    return {"appended": appended, "present": {*watcher.get_properties("/set"), *links, *watcher.children("/nodes")}}
