import threading

from tests.conftest import wait_for
from zkfleet.zeo.boundary import Boundary


def test_who_comes_while_it_is_closed_waits_until_it_opens():
    boundary, one, other = Boundary(), object(), object()
    assert boundary.enter(one, 0)
    boundary.close()
    assert boundary.inside
    assert not boundary.enter(other, 0.01)
    went_in = []
    waiting = threading.Thread(target=lambda: went_in.append(boundary.enter(other, 10)))
    waiting.start()
    boundary.leave(one)
    assert not boundary.inside
    assert went_in == []
    boundary.open()
    waiting.join()
    assert went_in == [True]
    boundary.leave(other)
    boundary.leave(other)
    assert not boundary.inside


def test_many_threads_are_never_inside_while_somebody_thinks_that_it_is_empty():
    boundary, through, inside, wrong = Boundary(), threading.Event(), set(), []

    def go_in_and_out(transaction):
        while not through.is_set():
            assert boundary.enter(transaction, 10)
            inside.add(transaction)
            inside.discard(transaction)
            boundary.leave(transaction)

    threads = [threading.Thread(target=go_in_and_out, args=[name]) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for _ in range(50):
        boundary.close()
        wait_for(lambda: not boundary.inside)
        wrong += inside
        boundary.open()
    through.set()
    for thread in threads:
        thread.join()
    assert wrong == []
