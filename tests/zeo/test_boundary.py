import threading

from tests.conftest import wait_for
from tests.zeo.making import Attempt
from zkfleet.zeo.boundary import Boundary


def test_one_is_inside_at_a_time_in_the_order_in_which_they_came():
    boundary, went_in = Boundary(), []
    boundary.enter("first")
    waiting = []
    for name in ("second", "third", "fourth"):
        waiting.append(Attempt(lambda name=name: (boundary.enter(name), went_in.append(name))))
        wait_for(lambda: len(boundary._queue) == len(waiting))
    for name, one in zip(("first", "second", "third"), waiting, strict=True):
        boundary.leave("somebody else")
        boundary.leave(name)
        one.outcome()
    assert went_in == ["second", "third", "fourth"]


def test_who_comes_while_it_is_closed_waits_until_it_opens():
    boundary = Boundary()
    boundary.enter("one")
    first = boundary.inside
    boundary.close()
    waiting = Attempt(boundary.enter, "other")
    wait_for(lambda: boundary._queue)
    assert boundary.inside is first
    boundary.leave("one")
    assert waiting.outcome(0.05) is None
    assert boundary.inside is None
    boundary.open()
    wait_for(lambda: boundary.inside)
    assert boundary.inside is not first


def test_many_threads_are_never_inside_while_somebody_thinks_that_it_is_empty():
    boundary, through, go_on, inside, wrong = Boundary(), threading.Event(), threading.Event(), set(), []

    def go_in_and_out(transaction):
        while not through.is_set():
            boundary.enter(transaction)
            inside.add(transaction)
            go_on.wait(0.001)
            if len(inside) > 1:
                wrong.append(set(inside))
            inside.discard(transaction)
            boundary.leave(transaction)

    threads = [threading.Thread(target=go_in_and_out, args=[name]) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for _ in range(50):
        boundary.close()
        wait_for(lambda: boundary.inside is None)
        go_on.wait(0.002)
        wrong += inside
        boundary.open()
    through.set()
    for thread in threads:
        thread.join()
    assert wrong == []
