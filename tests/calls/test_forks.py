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
calls.limit(db, queue=50)
slots = [pool.pool_of(db).ask() for _ in range(10)]
with pool.pool_of(db)._lock, pool._making, counting.tally._lock, remote._lock:
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # it would wait for ever
        assert threads.run(Counter.add, counter, policy=in_time) == 2
        assert remote.connection_back([db], 1) is None
        assert pool.pool_of(db).queue == 50
        assert (calls.statistics().in_flight, calls.statistics().queued) == (0, 0)
        os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert (pool.pool_of(db).in_flight, pool.pool_of(db).queued) == (7, 3)
"""


# Calls a counter of a database that was opened before the fork and says what came of it; its parent says what it sees.
CALLING = """
import os
import signal
import sys
from pathlib import Path
from ZEO.ClientStorage import ClientStorage
from ZODB import DB
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage
import zkfleet
from tests.calls.conftest import get, put
from tests.calls.things import Counter
from zkfleet import calls, zeo
from zkfleet.calls import threads
from zkfleet.devserver import DevServer

def following(address):
    registry = zkfleet.connect(DevServer(tick=0.2).__enter__().hosts)
    registry.import_tree("/db\\n")
    registry.register("/db", address)
    return zeo.client(registry, "/db")

policy = calls.Policy(deadline=2)
kind, method, address, folder = sys.argv[1:]
host, _, port = address.partition(":")
db = DB({
    "memory": MappingStorage,
    "demo": DemoStorage,
    "file": lambda: FileStorage(folder + "/Data.fs"),
    "client": lambda: ClientStorage((host, int(port)), wait_timeout=10),
    "following": lambda: following(address),
}[kind]())
put(db, counter=Counter())
with db.transaction() as connection:
    counter = calls.ref(connection.root()["counter"])
child = os.fork()
if child == 0:
    signal.alarm(15)  # it would wait for ever
    db.cacheMinimize()
    if method == "read":
        db.storage._cache.clear()
    try:
        if method == "read":
            print(threads.run(getattr, counter, "count", policy=policy))
        else:
            print(threads.run(Counter.add, counter, policy=policy))
    except Exception as exc:
        print(type(exc).__name__)
    sys.stdout.flush()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(get(db))
sys.stdout.flush()
os._exit(0)
"""


def in_a_process(program, *arguments):
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=40)


@pytest.mark.slow
def test_a_forked_child_begins_with_fresh_locks_slots_and_threads():
    """The parent forks where it hurts: its threads are there, its slots are taken, and its locks are held."""
    ran = in_a_process(PROGRAM)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "method", "told"),
    [
        ("memory", "add", "1"),
        ("demo", "add", "1"),
        ("following", "add", "ForkedSession"),
        ("client", "add", "CommitUnknown"),
        ("client", "read", "WaitTimedOut"),
        ("file", "add", "1"),
    ],
)
def test_what_a_child_gets_from_a_database_that_was_opened_before_the_fork(server, tmp_path, kind, method, told):
    """The parent sees nothing of it, whatever the child is told."""
    ran = in_a_process(CALLING, kind, method, server.text, tmp_path)
    assert ran.stdout.split() == [told, "0"], ran.stderr
