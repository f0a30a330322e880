import gc
import threading
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from ZODB import DB

from zkfleet import calls
from zkfleet.calls.pool import Pool, State, pool_of
from zkfleet.errors import BadInput, QueueFull

SIZE, QUEUE = 3, 4


class Line(RuleBasedStateMachine):
    """Whatever is asked and given back, in whatever order: all slots are somewhere, and turns are kept."""

    def __init__(self):
        super().__init__()
        self.pool = Pool(SIZE, QUEUE)
        self.held, self.new, self.again, self.size = [], [], [], SIZE

    @rule(again=st.booleans())
    def ask(self, again):
        room = len(self.held) < self.size and not self.new and not self.again
        if not (again or room) and len(self.new) >= QUEUE:
            with pytest.raises(QueueFull):
                self.pool.ask()
            return
        slot = self.pool.ask(again=again)
        (self.held if room else self.again if again else self.new).append(slot)

    @rule(data=st.data(), twice=st.booleans())
    def give_back(self, data, twice):
        slots = self.held + self.again + self.new
        if not slots:
            return
        slot = data.draw(st.sampled_from(slots))
        for line in (self.held, self.again, self.new):
            if slot in line:
                line.remove(slot)
        slot.give_back()
        if twice:
            slot.give_back()
        self.move_up()

    @rule(size=st.integers(1, 5))
    def change_the_limit(self, size):
        self.size = size
        self.pool.limit(connections=size)
        self.move_up()

    def move_up(self):
        while len(self.held) < self.size and (self.again or self.new):
            self.held.append((self.again or self.new).pop(0))

    @invariant()
    def all_is_as_it_should_be(self):
        assert self.pool.in_flight == len(self.held)
        assert self.pool.queued == len(self.new) + len(self.again)
        for slot in self.held:
            assert slot.state is State.HELD
            assert slot.granted is None or slot.granted.done()
        for slot in self.new + self.again:
            assert slot.state is State.WAITING
            assert not slot.granted.done()


TestLine = pytest.mark.slow(Line.TestCase)


def test_a_database_has_one_pool_which_goes_with_it():
    db = DB(None, pool_size=3)
    pool = pool_of(db)
    assert pool_of(db) is pool
    assert pool.connections == 3
    db.close()
    gone = weakref.ref(pool)
    del db, pool
    gc.collect()
    assert gone() is None


def test_the_limits_of_a_database_can_be_set(db):
    calls.limit(db, connections=20, queue=1)
    assert (pool_of(db).connections, pool_of(db).queue, db.getPoolSize()) == (20, 1, 20)
    calls.limit(db, connections=2)
    assert (pool_of(db).connections, pool_of(db).queue, db.getPoolSize()) == (2, 1, 20)


@pytest.mark.parametrize(
    "limits", [{"connections": 0}, {"queue": -1}, {"connections": "3"}, {"queue": 1.5}, {"connections": True}]
)
def test_limits_that_there_cannot_be_are_refused(db, limits):
    with pytest.raises(BadInput):
        calls.limit(db, **limits)


def test_limits_are_of_a_database_and_nothing_else(db):
    with pytest.raises(BadInput, match=r"no ZODB\.DB"):
        calls.limit(db.storage, connections=1)


def test_threads_that_wait_leave_and_ask_lose_no_slot():
    pool, busy, most = Pool(4), [], []
    lock = threading.Lock()

    def use(number):
        slot = pool.ask()
        if number % 5 == 0:
            slot.give_back()
            return
        if slot.granted:
            slot.granted.result(60)
        with lock:
            busy.append(number)
            most.append(len(busy))
        with lock:
            busy.remove(number)
        slot.give_back()

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(use, range(3000)))
    assert (pool.in_flight, pool.queued) == (0, 0)
    assert max(most) <= 4


def test_threads_that_were_got_before_a_change_of_the_limit_take_work_and_end_afterwards():
    pool = Pool(2)
    threads = pool.threads
    pool.limit(connections=3)
    thread = threads.submit(threading.current_thread).result(60)
    assert pool.threads is not threads
    del threads
    thread.join(10)
    assert not thread.is_alive()


def test_what_is_granted_may_be_given_back_by_who_is_told(db):
    """A callback of the grant that gives the slot back at once, on the thread of who gave it back."""
    pool = Pool(1)
    first, order = pool.ask(), []
    for number in range(100):
        slot = pool.ask()
        slot.granted.add_done_callback(lambda _, slot=slot, number=number: (order.append(number), slot.give_back()))
    first.give_back()
    assert order == list(range(100))
    assert pool.in_flight == 0


def test_a_place_in_the_line_is_small():
    pool = Pool(1)
    pool.ask()
    tracemalloc.start()
    waiting = [pool.ask() for _ in range(1000)]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / len(waiting) < 2000
