import pytest
from BTrees.OOBTree import OOBTree

from tests.calls.conftest import get, put
from tests.calls.things import Counter
from zkfleet import calls
from zkfleet.calls import threads
from zkfleet.errors import BadInput, EscapedObject

REFERENCE = calls.Policy(results="reference")


class Report:
    def __init__(self, counter):
        self.about = {"counter": counter}


async def coroutine():
    pass


@pytest.mark.parametrize(
    ("work", "place"),
    [
        (lambda counter: counter, "result"),
        (lambda counter: [1, (counter,)], "result[1][0]"),
        (lambda counter: counter.add, "result.__self__"),
        (lambda counter: lambda: counter, "result (counter)"),
        (lambda counter: counter._p_jar, "result"),
        (lambda counter: Report(counter), "result.about['counter']"),
        (lambda counter: ValueError("odd", counter), "result.args[1]"),
        (lambda counter: (n for n in [counter.count]), "result"),
        (lambda counter: map(counter.add, [1]), "result"),
        (lambda counter: OOBTree({1: 2}).keys(), "result"),
    ],
)
def test_what_would_escape_is_refused_and_nothing_committed(db, counter, work, place):
    def add_and(counter, work):
        counter.add()
        return work(counter)

    for policy in (calls.Policy(), REFERENCE):
        if place == "result" and policy is REFERENCE and work(counter) is counter:
            continue
        with pytest.raises(EscapedObject) as caught:
            threads.run(counter.run, add_and, work, policy=policy)
        assert caught.value.place == place
        assert caught.value.hint
        assert get(db) == 0


def test_a_coroutine_as_a_result_is_refused(counter):
    made = []

    def work(_counter):
        made.append(coroutine())
        return made[0]

    with pytest.raises(EscapedObject, match="lazy"):
        threads.run(counter.run, work)
    made[0].close()


def test_a_new_object_comes_back_as_a_reference_to_what_was_stored(db, root, counter):
    def make(counter):
        counter.new = new = Counter(1)
        return new

    ref = threads.run(counter.run, make, policy=REFERENCE)
    root._p_jar.sync()
    assert calls.ref(counter.new) == ref
    assert threads.run(Counter.add, ref) == 2


def test_a_new_object_that_nothing_leads_to_comes_back_all_the_same(counter):
    ref = threads.run(counter.run, lambda _: Counter(1), policy=REFERENCE)
    assert threads.run(Counter.add, ref) == 2


def test_references_may_be_returned_in_containers(db, root, counter):
    put(db, other=Counter(10))
    root._p_jar.sync()
    refs = threads.run(counter.run, lambda counter, other: [calls.ref(counter), calls.ref(other)], root["other"])
    assert refs == [calls.ref(counter), calls.ref(root["other"])]


def test_the_error_of_a_call_comes_as_it_is(counter):
    class Odd(Exception):
        def __repr__(self):
            raise RuntimeError("no")

        __str__ = __repr__

        def __reduce__(self):
            raise RuntimeError("neither")

    odd = Odd(lambda: None)
    odd.lock = open  # cannot be pickled either
    with pytest.raises(Odd) as caught:
        threads.run(counter.fail, odd)
    assert caught.value is odd


def test_errors_that_mean_something_to_generators_come_through(counter):
    with pytest.raises(RuntimeError, match="StopIteration"):
        threads.run(counter.fail, StopIteration())
    with pytest.raises(TimeoutError):
        threads.run(counter.fail, TimeoutError(), policy=calls.Policy(deadline=60))


def test_bad_input_of_our_own_in_a_call_is_final(counter):
    with pytest.raises(BadInput, match="not persistent"):
        threads.run(counter.run, lambda _: calls.ref(1))
