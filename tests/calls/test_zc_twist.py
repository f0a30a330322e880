"""What the README of zc.twist 1.3.1 promises, by its sections; docs/migration.md tells what has changed."""

import pickle
import threading

import pytest
from BTrees.OOBTree import OOBTree
from twisted.python.failure import Failure
from ZODB.POSException import ConflictError

from tests.calls.conftest import get, put
from tests.calls.things import Counter
from tests.conftest import wait_for
from zkfleet import calls
from zkfleet.calls.pool import pool_of
from zkfleet.calls.twisted import Partial
from zkfleet.errors import BadInput, EscapedObject


@pytest.fixture
def partial(running):
    """Makes a Partial that is called in the reactor's thread: as of old, for a database in memory."""

    def make(function, *args, **keywords):
        return Partial(function, *args, **keywords).setReactor(running.reactor)

    return make


@pytest.fixture
def call(running):
    """Calls a Partial in the reactor's thread, and returns its result."""
    return running.ask


# -- what can be called


def test_a_persistent_callable_is_called(db, counter, call, partial):
    assert call(partial(counter), 1) == 1
    assert get(db) == 1


def test_a_persistent_method_is_called(db, counter, call, partial):
    assert call(partial(counter.add), 1) == 1
    assert get(db) == 1


def test_the_deferred_is_fired_already(db, counter, running, partial):
    def show():
        deferred = partial(counter.add)()
        deferred.addCallback(seen.append)
        return list(seen)

    seen = []
    assert running.ask(show) == [1]


@pytest.mark.parametrize("name", ["__setitem__", "insert"])
def test_a_slot_method_and_a_builtin_one_are_called_on_their_own_connection(db, root, call, partial, name):
    put(db, tree=OOBTree())
    root._p_jar.sync()
    call(partial(getattr(root["tree"], name), "foo", "bar"))
    assert not root["tree"]
    root._p_jar.sync()
    assert root["tree"]["foo"] == "bar"


def test_what_is_not_persistent_is_called_without_a_connection(db):
    assert Partial(lambda: 42)() == 42
    assert pool_of(db).in_flight == 0


# -- arguments


def test_arguments_are_given_when_it_is_made_or_called(counter, call, partial):
    assert call(partial(counter.add, 3)) == 3
    assert call(partial(counter.add, number=3)) == 6
    assert call(partial(counter.add), 3) == 9
    assert call(partial(counter.add), number=3) == 12
    assert call(partial(counter.add, number=100), number=3) == 15
    assert call(partial(Counter.add, counter), 3) == 18


def test_arguments_may_be_persistent(db, root, counter, call, partial):
    put(db, other=Counter())
    root._p_jar.sync()

    def mass_add(one, other, number=1):
        return one.add(number), other.add(number)

    assert call(partial(mass_add, counter, number=4), root["other"]) == (4, 4)
    assert (get(db), get(db, "other")) == (4, 4)


def test_arguments_of_one_call_are_not_those_of_the_next(call, partial, counter):
    """There they grew."""
    show = partial(lambda _counter, *args, **keywords: (args, keywords), counter, 1)
    assert call(show, 2, a=1) == ((1, 2), {"a": 1})
    assert call(show, 3) == ((1, 3), {})


def test_only_options_of_its_own_are_not_passed_on(counter, call, partial):
    with pytest.raises(TypeError):
        call(partial(counter.add, nothing=1))
    assert partial(counter.add, policy=calls.Policy(max_transaction_errors=2)).max_transaction_errors == 2


# -- conflicts


def meddled(db, tries, limit):
    """A call into whose every attempt, up to the limit, somebody else commits: a real conflict."""

    def work(counter):
        result = counter.add()
        tries.append(result)
        if len(tries) <= limit:
            with db.transaction() as connection:
                connection.root()["counter"].count = 5 * len(tries)
        return result

    return work


def test_a_conflict_has_it_tried_again(db, counter, call, partial):
    tries = []
    work = partial(counter.run, meddled(db, tries, 1))
    assert work.attempt_count == 0
    assert call(work) == 6
    assert work.attempt_count == 2
    assert get(db) == 6


def test_after_five_conflicts_it_fails_with_the_last_one(db, counter, call, partial):
    work = partial(counter.run, meddled(db, [], 1000))
    with pytest.raises(ConflictError):
        call(work)
    assert work.attempt_count == 5
    assert get(db) == 25


@pytest.mark.parametrize(("limit", "tries"), [(10, 10), (1, 1), (None, 51)])
def test_how_many_conflicts_there_may_be_is_an_attribute(db, counter, call, partial, limit, tries):
    work = partial(counter.run, meddled(db, [], 50))
    assert work.max_transaction_errors == 5
    work.policy = calls.Policy(conflict_delay=0)
    work.max_transaction_errors = limit
    if limit is None:
        assert call(work) == 251
    else:
        with pytest.raises(ConflictError):
            call(work)
    assert work.attempt_count == tries


def test_conflicts_of_one_call_do_not_count_for_the_next(db, counter, call, partial):
    """There they did: a Partial that had met four gave up at the next one."""
    tries = []
    work = partial(counter.run, meddled(db, tries, 4))
    call(work)
    assert work.attempt_count == 5
    tries.clear()
    call(work)
    assert work.attempt_count == 5


# -- a server that is away


def test_backoffs_are_attributes(counter, partial):
    call = partial(counter.add)
    assert (call.initial_backoff, call.backoff_increment, call.max_backoff) == (5, 5, 60)
    call.initial_backoff, call.backoff_increment, call.max_backoff = 4, 2, 21
    assert call.policy == calls.Policy(initial_backoff=4, backoff_increment=2, max_backoff=21)
    with pytest.raises(BadInput, match="max_backoff is -1"):
        call.max_backoff = -1
    assert partial(counter.add).max_backoff == 60


def test_attributes_of_a_class_are_its_defaults(counter):
    class Patient(Partial):
        max_transaction_errors = None
        max_backoff = 10

    class Hasty(Patient):
        policy = calls.Policy(deadline=1)
        max_backoff = 7

    call = Patient(counter.add)
    assert call.policy == calls.Policy(max_transaction_errors=None, max_backoff=10)
    assert (Partial.max_backoff, Patient.max_backoff, Hasty.max_backoff) == (60, 10, 7)
    assert Hasty.policy == calls.Policy(deadline=1, max_backoff=7)
    call.max_backoff = 11
    assert Patient(counter.add).max_backoff == 10


# -- errors


def test_errors_are_failures_that_are_sanitised(counter, call, partial):
    failures = []
    call(lambda: partial(counter.add)("no number").addErrback(failures.append))
    (failure,) = failures
    assert failure.check(TypeError)
    assert failure.tb is None
    text = failure.getTraceback()
    assert "in add" in text
    assert "no number" not in text
    pickled = pickle.dumps(failure)
    assert len(pickled) < 2000
    again = pickle.loads(pickled)
    assert type(again) is Failure
    assert again.getTraceback() == text
    assert again.getErrorMessage() == failure.getErrorMessage()


def test_what_ends_the_program_ends_the_call_first(db, counter, running, partial):
    def attempt():
        with pytest.raises(KeyboardInterrupt):
            partial(counter.fail, KeyboardInterrupt())()

    running.ask(attempt)
    assert get(db) == 0
    assert pool_of(db).in_flight == 0


# -- a good citizen


def test_a_call_waits_for_a_connection(db, counter, running, partial):
    calls.limit(db, connections=1)
    slot = pool_of(db).ask()
    add = partial(counter.add)
    result = running.begin(add)
    wait_for(lambda: pool_of(db).queued == 1)
    assert add.attempt_count == 0
    calls.limit(db, connections=2)
    assert result.result(60) == 1
    assert add.attempt_count == 1
    slot.give_back()


def test_a_reactor_can_be_set(counter, running):
    add = Partial(counter.add)
    assert add.setReactor(running.reactor) is add
    assert add.getReactor() is running.reactor
    assert running.ask(lambda: add().addCallback(lambda _: threading.get_ident())) == running.thread


# -- gotchas


def test_a_collection_of_persistent_objects_is_refused_or_resolved(counter, call, partial):
    with pytest.raises(BadInput, match=r"argument 0\[0\] is a persistent") as caught:
        partial(counter.sum_of, [counter])
    assert "allow_containers=True" in caught.value.hint
    counter_sum = partial(counter.sum_of, [counter], policy=calls.Policy(allow_containers=True))
    assert call(counter_sum) == 0


def test_what_is_not_committed_is_refused(root, partial):
    root["new"] = new = Counter()
    with pytest.raises(BadInput, match="no transaction has stored"):
        partial(new.add)
    root._p_jar.add(new)
    with pytest.raises(BadInput, match="no transaction has stored"):
        partial(new.add)


def test_a_persistent_result_is_an_error(counter, call, partial):
    with pytest.raises(EscapedObject):
        call(partial(counter.itself))


def test_another_call_is_made_after_the_commit_and_only_then(db, counter, call, running, partial):
    seen, again = [], partial(Counter.add, counter, 10)
    tries = []

    def work(counter):
        calls.after_commit(lambda: seen.append(get(db)))
        calls.after_commit(again)
        tries.append(counter.add())
        if len(tries) < 2:
            raise ConflictError

    call(partial(counter.run, work))
    wait_for(lambda: get(db) == 11)
    assert seen == [1]


def test_who_ends_the_transaction_himself_finds_it_on_the_object(db, counter, call, partial):
    def work(counter):
        counter.add()
        counter._p_jar.transaction_manager.doom()
        return "result"

    assert call(partial(counter.run, work)) == "result"
    assert get(db) == 0
