import contextvars
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from ZODB.POSException import ConflictError

from tests.calls.conftest import get
from zkfleet import calls
from zkfleet.calls import threads
from zkfleet.errors import BadInput


def test_actions_are_performed_after_the_commit_in_order(db, counter):
    seen = []

    def work(counter):
        calls.after_commit(lambda: seen.append(get(db)))
        calls.after_commit(seen.append, "then")
        counter.add()
        assert not seen
        return "result"

    assert threads.run(counter.run, work) == "result"
    assert seen == [1, "then"]


def test_actions_of_attempts_that_failed_are_forgotten(counter):
    seen = []

    def work(_counter):
        calls.after_commit(seen.append, "once")
        tries.append(1)
        if len(tries) < 3:
            raise ConflictError

    tries = []
    threads.run(counter.run, work)
    assert seen == ["once"]


def test_actions_of_a_call_that_failed_are_not_performed(counter):
    def work(_counter):
        calls.after_commit(pytest.fail, "performed")
        raise KeyError("no")

    with pytest.raises(KeyError):
        threads.run(counter.run, work)


def test_an_action_that_fails_is_logged_and_harms_nobody(db, counter, caplog):
    seen = []

    def work(counter):
        calls.after_commit(int, "no number")
        calls.after_commit(seen.append, 1)
        return counter.add()

    with caplog.at_level(logging.ERROR):
        assert threads.run(counter.run, work) == 1
    assert [record.getMessage() for record in caplog.records] == ["after_commit_failed function=int"]
    assert seen == [1]
    assert get(db) == 1


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_an_action_that_ends_the_program_does_so_after_the_others(db, counter, error):
    seen = []

    def end():
        raise error

    def work(counter):
        calls.after_commit(end)
        calls.after_commit(seen.append, 1)
        return counter.add()

    with pytest.raises(error):
        threads.run(counter.run, work)
    assert seen == [1]
    assert get(db) == 1


def test_an_action_that_would_have_to_be_awaited_is_refused(db, counter):
    async def action():
        pytest.fail("performed")

    def work(counter):
        counter.add()
        calls.after_commit(action)

    with pytest.raises(BadInput, match="nobody would await") as caught:
        threads.run(counter.run, work)
    assert "begin a task" in caught.value.hint
    assert get(db) == 0


def test_an_action_may_make_another_call(db, counter):
    ref = calls.ref(counter)

    def work(counter):
        counter.add()
        calls.after_commit(threads.run, type(counter).add, ref, 10)

    threads.run(counter.run, work)
    assert get(db) == 11


@pytest.mark.parametrize("deadline", [None, 60])
def test_actions_are_performed_in_the_thread_that_asked(counter, deadline):
    seen = []

    def work(_counter):
        calls.after_commit(lambda: seen.append(threading.get_ident()))
        return threading.get_ident()

    worked = threads.run(counter.run, work, policy=calls.Policy(deadline=deadline))
    assert seen == [threading.get_ident()]
    assert (worked == threading.get_ident()) == (deadline is None)


def test_outside_of_a_call_there_is_nothing_to_come_after(counter):
    with pytest.raises(BadInput, match="outside of a call"):
        calls.after_commit(print)
    with pytest.raises(BadInput, match="outside of a call"):
        threads.run(calls.after_commit, print)


def test_another_thread_with_the_context_of_a_call_is_outside_of_it(counter):
    def work(counter):
        context = contextvars.copy_context()
        with ThreadPoolExecutor(1) as pool, pytest.raises(BadInput, match="outside of a call"):
            pool.submit(context.run, calls.after_commit, print).result(60)

    threads.run(counter.run, work)


def test_a_call_with_a_deadline_sees_the_callers_context(counter):
    variable = contextvars.ContextVar("variable")
    variable.set("seen")
    assert threads.run(counter.run, lambda _: variable.get(), policy=calls.Policy(deadline=60)) == "seen"


def test_a_context_that_was_copied_in_a_call_is_outside_of_it_afterwards(db, counter):
    """As those of things that an event loop is to call later."""
    copied = []

    def work(counter):
        copied.append(contextvars.copy_context())
        copied[-1].run(calls.after_commit, int)
        return counter.add()

    threads.run(counter.run, work)
    with pytest.raises(BadInput, match="outside of a call"):
        copied[0].run(calls.after_commit, print)
    assert copied[0].run(threads.run, counter.run, lambda counter: counter.add()) == 2
