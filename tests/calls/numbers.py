"""What `calls.statistics()` says, in a process in which there are no other calls."""

import pytest
import transaction
from ZODB import DB
from ZODB.POSException import ConflictError

from tests.calls.conftest import put
from tests.calls.test_running import a_run, throw
from tests.calls.things import Counter
from zkfleet import calls
from zkfleet.calls import threads


def check_that_they_add_up(counter):
    errors = [ConflictError()]
    threads.run(counter.run, lambda _: throw(errors.pop()) if errors else None)
    with pytest.raises(KeyError):
        threads.run(counter.fail, KeyError())
    with pytest.raises(ConflictError):
        threads.run(counter.fail, ConflictError(), policy=calls.Policy(max_transaction_errors=1))
    now = calls.statistics()
    assert (now.calls, now.failed, now.attempts) == (3, 2, 4)
    assert now.conflicts == {"ConflictError": 2}
    assert now.latencies.count == now.calls
    assert 0 < now.latencies.median <= now.latencies.p95 <= now.latencies.p99 <= now.latencies.longest
    assert now.latencies.longest <= now.latencies.total


def check_that_what_waits_is_shown(db, counter):
    calls.limit(db, connections=1)
    one, other = a_run(counter.add).steps(), a_run(counter.add).steps()
    one.send(None)
    other.send(None)
    now = calls.statistics()
    assert (now.in_flight, now.queued) == (1, 1)
    one.close()
    other.close()
    now = calls.statistics()
    assert (now.in_flight, now.queued) == (0, 0)


if __name__ == "__main__":
    db = DB(None)
    put(db, counter=Counter())
    counter = db.open(transaction.TransactionManager()).root()["counter"]
    check_that_they_add_up(counter)
    check_that_what_waits_is_shown(db, counter)
