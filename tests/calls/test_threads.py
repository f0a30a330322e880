import functools
import threading
import time

import pytest
from BTrees.OOBTree import OOBTree
from ZODB.POSException import ConflictError

from tests.calls.conftest import get, put
from tests.calls.things import Counter
from zkfleet import calls
from zkfleet.calls import threads
from zkfleet.calls.policy import LONGEST
from zkfleet.calls.pool import pool_of
from zkfleet.errors import BadInput, CommitUnknown, EscapedObject, TransactionEnded, WaitTimedOut


def test_a_method_is_called_and_committed(db, counter):
    assert threads.run(counter.add, 3) == 3
    assert get(db) == 3


def test_the_object_of_the_caller_is_left_alone(db, root, counter):
    counter.add(100)
    threads.run(counter.add)
    assert get(db) == 1
    assert counter.count == 100


def test_what_a_failed_call_did_is_undone(db, counter):
    with pytest.raises(KeyError, match="no"):
        threads.run(counter.fail, KeyError("no"))
    assert get(db) == 0


def test_conflicts_are_tried_again(db, counter):
    tries = []

    def meddle(counter):
        tries.append(counter.add())
        if len(tries) < 3:
            put(db, counter=Counter(10))
            raise ConflictError

    threads.run(counter.run, meddle)
    assert len(tries) == 3


def test_after_too_many_conflicts_the_last_one_is_raised(db, counter):
    tries = []

    def conflict(counter):
        tries.append(1)
        raise ConflictError(f"number {len(tries)}")

    with pytest.raises(ConflictError, match="number 5"):
        threads.run(counter.run, conflict)
    with pytest.raises(ConflictError, match="number 7"):
        threads.run(counter.run, conflict, policy=calls.Policy(max_transaction_errors=2))


def test_a_plain_callable_is_simply_called(db):
    assert threads.run(sorted, [2, 1], reverse=True) == [2, 1]
    assert threads.run(threading.get_ident) == threading.get_ident()


def test_builtin_methods_and_slots_of_trees_run_in_their_transaction(db, root):
    put(db, tree=OOBTree())
    root._p_jar.sync()
    tree = root["tree"]
    threads.run(tree.insert, "a", 1)
    threads.run(tree.__setitem__, "b", 2)
    threads.run(functools.partial(tree.update, {"c": 3}))
    assert not tree
    root._p_jar.sync()
    assert dict(tree) == {"a": 1, "b": 2, "c": 3}


def test_a_persistent_result_is_refused_and_nothing_committed(db, counter):
    def work(counter):
        counter.add()
        return {"mine": [counter]}

    with pytest.raises(EscapedObject) as caught:
        threads.run(counter.run, work)
    assert caught.value.place == "result['mine'][0]"
    assert get(db) == 0


def test_a_reference_comes_back_if_asked_for_and_goes_into_other_calls(db, counter):
    ref = threads.run(counter.itself, policy=calls.Policy(results="reference"))
    assert ref == calls.ref(counter)
    assert threads.run(Counter.add, ref, 5) == 5


def test_a_decorated_function_is_a_call_and_inside_of_one_a_part_of_it(db, counter):
    @threads.transactional()
    def twice(counter):
        counter.add()
        return once(counter)

    @threads.transactional()
    def once(counter):
        return counter.add()

    assert twice(counter) == 2
    assert get(db) == 2


def test_a_call_inside_of_a_call_is_refused(db, counter):
    with pytest.raises(BadInput, match="inside of a call"):
        threads.run(counter.run, lambda inner: threads.run(inner.add))


@pytest.mark.parametrize("what", ["commit", "begin"])
def test_a_call_that_ends_its_transaction_is_refused(db, counter, what):
    def work(counter):
        counter.add()
        getattr(counter._p_jar.transaction_manager, what)()

    with pytest.raises(TransactionEnded, match=what):
        threads.run(counter.run, work)
    assert get(db) == 0


def test_a_call_cannot_commit_behind_our_back_either(db, counter):
    def work(counter):
        counter.add()
        counter._p_jar.transaction_manager.get().commit()

    with pytest.raises(TransactionEnded, match="must not commit"):
        threads.run(counter.run, work)
    assert get(db) == 0


class Another:
    """Takes part in a transaction after the database, and fails when that is committed."""

    def __init__(self, manager):
        self.transaction_manager = manager

    def tpc_finish(self, _transaction):
        raise ConflictError

    def _nothing(self, _transaction):
        pass

    abort = tpc_begin = commit = tpc_vote = tpc_abort = _nothing

    def sortKey(self):
        return "~"


def test_a_second_phase_that_fails_is_not_repeated(db, counter):
    def work(counter):
        manager = counter._p_jar.transaction_manager
        manager.get().join(Another(manager))
        counter.add()

    with pytest.raises(CommitUnknown, match="second phase failed with ConflictError"):
        threads.run(counter.run, work)
    assert get(db) == 1


class Listening:
    """Is told of transactions, and does not like it."""

    def __init__(self):
        self.heard = []

    def newTransaction(self, _transaction):
        pass

    beforeCompletion = newTransaction  # noqa: N815

    def afterCompletion(self, transaction):
        self.heard.append(transaction.status)
        raise ConflictError


def test_who_is_told_of_a_commit_cannot_undo_it(db, counter, caplog):
    listening, done = Listening(), []

    def work(counter):
        counter._p_jar.transaction_manager.registerSynch(listening)
        calls.after_commit(done.append, 1)
        return counter.add()

    assert threads.run(counter.run, work) == 1
    assert listening.heard[0] == "Committed"
    assert "after_completion_failed transaction=committed" in caplog.messages
    assert get(db) == 1
    assert done == [1]


def test_a_call_that_aborts_its_transaction_is_told_that_nothing_was_committed(db, counter):
    def work(counter):
        counter.add()
        counter._p_jar.transaction_manager.abort()
        return 1

    with pytest.raises(TransactionEnded, match="not committed"):
        threads.run(counter.run, work)
    assert get(db) == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_goes_before_a_transaction_that_was_ended(db, counter, error):
    def work(counter):
        counter._p_jar.transaction_manager.abort()
        raise error

    with pytest.raises(error):
        threads.run(counter.run, work)
    assert pool_of(db).in_flight == 0


def test_a_doomed_transaction_is_aborted_and_the_result_returned(db, counter):
    done = []

    def work(counter):
        calls.after_commit(done.append, 1)
        counter._p_jar.transaction_manager.doom()
        return counter.add()

    assert threads.run(counter.run, work) == 1
    assert get(db) == 0
    assert not done


def test_a_call_that_blocks_is_left_at_its_deadline_and_never_committed(db, counter):
    go_on, over = threading.Event(), threading.Event()

    def block(counter):
        counter.add()
        calls.after_commit(over.set)
        go_on.wait(60)

    began = time.monotonic()
    with pytest.raises(WaitTimedOut, match="will not be committed"):
        threads.run(counter.run, block, policy=calls.Policy(deadline=0.05))
    assert time.monotonic() - began < 5
    assert pool_of(db).in_flight == 1
    go_on.set()
    pool_of(db).threads.shutdown()
    assert pool_of(db).in_flight == 0
    assert get(db) == 0
    assert not over.is_set()


@pytest.mark.parametrize("deadline", [None, 60])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_a_program_goes_through_and_leaves_nothing_behind(db, counter, error, deadline):
    with pytest.raises(error):
        threads.run(counter.fail, error(), policy=calls.Policy(deadline=deadline))
    assert pool_of(db).in_flight == 0
    assert len(db.pool.available) == 1
    assert get(db) == 0


def test_the_latest_deadline_that_there_can_be_is_waited_for(db, counter):
    assert threads.run(counter.add, policy=calls.Policy(deadline=LONGEST)) == 1
