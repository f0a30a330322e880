"""Programs that end while a call of theirs is stuck, through every door."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

START = """
import asyncio, logging, sys, time
from ZODB import DB
import zkfleet.workers
from tests.calls.conftest import put
from tests.calls.things import Counter
from zkfleet import calls
from zkfleet.errors import WaitTimedOut

logging.basicConfig(format="%(message)s")
zkfleet.workers.GRACE = 0.3
db = DB(None)
put(db, counter=Counter())
with db.transaction() as connection:
    counter = calls.ref(connection.root()["counter"])

def stuck(counter):
    print("stuck", flush=True)
    time.sleep(1000)

"""
DOORS = {
    "asyncio": """
from zkfleet.calls.asyncio import call
asyncio.run(call(Counter.run, counter, stuck))
""",
    "twisted": """
from twisted.internet import reactor
from zkfleet.calls.twisted import Partial
call = Partial(Counter.run, counter, stuck, threads=True)
reactor.callWhenRunning(lambda: call().addErrback(lambda _: None))
reactor.run()
""",
    "threads": """
from zkfleet.calls import threads
threads.run(Counter.add, counter)
try:
    threads.run(Counter.run, counter, stuck, policy=calls.Policy(deadline=1))
except WaitTimedOut:
    pass
""",
}


@pytest.mark.parametrize("door", DOORS)
def test_a_program_ends_soon_though_a_call_of_its_is_stuck(door):
    program = subprocess.Popen(
        [sys.executable, "-c", START + DOORS[door]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with program:
        try:
            assert program.stdout.readline() == "stuck\n"
            if door != "threads":
                program.send_signal(signal.SIGINT)
            _, said = program.communicate(timeout=30)
        finally:
            program.kill()
    assert program.returncode in ((-signal.SIGINT, 1) if door == "asyncio" else (0,))
    assert "thread_left_behind doing='call of Counter.run, running' seconds=" in said
