"""A talk whose wire and clock are moved by hand."""

import threading

from tests.conftest import wait_for
from zkfleet.monitor import Commands, Limits, lines
from zkfleet.monitor.running import Running
from zkfleet.monitor.talking import Switchboard, Talk


class Wire:
    is_local, unread = True, 0

    def __init__(self):
        self.said, self.is_closed = "", False

    def write(self, data):
        self.said += data.decode()

    def close(self):
        self.is_closed = True

    abort = close


class Clock:
    def __init__(self):
        self.time, self.planned, self.told = 0.0, [], []

    def now(self):
        return self.time

    def later(self, seconds, function):
        entry = (self.time + seconds, function)
        self.planned.append(entry)
        return lambda: self.planned.remove(entry) if entry in self.planned else None

    def from_thread(self, function):
        self.told.append(function)

    def advance(self, seconds):
        self.time += seconds
        for entry in [entry for entry in self.planned if entry[0] <= self.time]:
            self.planned.remove(entry)
            entry[1]()


def begin(commands, **limits):
    clock, wire = Clock(), Wire()
    board = Switchboard(Running(commands, Limits(**limits)), clock)
    talk = Talk(board, wire)
    board.take_in(talk)
    return talk, wire, clock


def test_an_answer_that_comes_as_its_deadline_passes_is_not_taken_for_the_next_one():
    commands, released = Commands(), threading.Event()

    @commands.command("stay", blocks=False)
    def stay():
        from zkfleet.monitor import Mode

        return lines("on", mode=Mode.INTERACTIVE)

    @commands.command("first", deadline=1)
    def first():
        return lines("of the first")

    @commands.command("second", deadline=9)
    def second():
        released.wait(10)
        return lines("of the second")

    talk, wire, clock = begin(commands)
    talk.received(b"stay\nfirst\n")
    wait_for(lambda: clock.told)
    clock.advance(1)
    talk.received(b"second\n")
    clock.told.pop()()
    assert wire.said == "on\nfirst: no answer in 1 s\n"
    released.set()
    wait_for(lambda: clock.told)
    clock.told.pop()()
    assert wire.said.endswith("of the second\n")


def test_nobody_is_looked_after_when_nobody_is_there():
    talk, wire, clock = begin(Commands(), idle=60)
    for _ in range(61):
        clock.advance(1)
    assert wire.said == "closed after 60 s of silence\n"
    assert wire.is_closed
    talk.lost()
    clock.advance(1)
    assert clock.planned == []
