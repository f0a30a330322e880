import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os
import signal
from ZODB import DB
from tests.calls.conftest import get, put
from tests.calls.things import Counter
from zkfleet import calls
from zkfleet.calls import counting, pool, remote, threads

in_time = calls.Policy(deadline=5)
db = DB(None)
put(db, counter=Counter())
with db.transaction() as connection:
    counter = calls.ref(connection.root()["counter"])
threads.run(Counter.add, counter, policy=in_time)
slots = [pool.pool_of(db).ask() for _ in range(10)]
with pool.pool_of(db)._lock, pool._making, counting.tally._lock, remote._lock:
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # it would wait for ever
        assert threads.run(Counter.add, counter, policy=in_time) == 2
        assert remote.connection_back([db], 1) is None
        assert (calls.statistics().in_flight, calls.statistics().queued) == (0, 0)
        os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert (pool.pool_of(db).in_flight, pool.pool_of(db).queued) == (7, 3)
"""


@pytest.mark.slow
def test_a_forked_child_begins_with_fresh_locks_slots_and_threads():
    """The parent forks where it hurts: its threads are there, its slots are taken, and its locks are held."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=20
    )
    assert ran.returncode == 0, ran.stderr
