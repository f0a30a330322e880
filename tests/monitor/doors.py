"""Loops that others run, on threads, for monitors in them."""

import asyncio
import contextlib
import threading
from concurrent.futures import Future

from twisted.internet.epollreactor import EPollReactor

from zkfleet.monitor.aio import in_loop
from zkfleet.monitor.threads import in_thread
from zkfleet.monitor.twisted import in_reactor

PATIENCE = 10.0


def _settle(done, function):
    try:
        done.set_result(function())
    except BaseException as exc:
        done.set_exception(exc)


class Loop:
    """A thread that runs a loop; `call` calls a function there."""

    def call(self, function):
        done = Future()
        self.soon(lambda: _settle(done, function))
        return done.result(PATIENCE)


class Asyncio(Loop):
    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.door = in_loop(self.loop)
        self.soon = self.loop.call_soon_threadsafe

    def end(self):
        self.soon(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()


class Twisted(Loop):
    def __init__(self):
        self.reactor = EPollReactor()
        self._thread = threading.Thread(target=self.reactor.run, kwargs={"installSignalHandlers": False})
        self._thread.start()
        self.door = in_reactor(self.reactor)
        self.soon = self.reactor.callFromThread

    def end(self):
        self.soon(self.reactor.stop)
        self._thread.join(PATIENCE)


class Own(Loop):
    """No loop of ours: the monitor has its own thread."""

    door = staticmethod(in_thread)

    def call(self, function):
        return function()

    def end(self):
        pass


LOOPS = {"thread": Own, "asyncio": Asyncio, "twisted": Twisted}


@contextlib.contextmanager
def running(name):
    loop = LOOPS[name]()
    try:
        yield loop
    finally:
        loop.end()
