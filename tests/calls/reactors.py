"""Real reactors of several kinds, each on a thread of its own."""

import asyncio
import threading
from concurrent.futures import Future

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.selectreactor import SelectReactor

# Seconds until a test gives up; no test is about speed, and machines may be busy.
PATIENCE = 300
KINDS = {"epoll": EPollReactor, "select": SelectReactor, "asyncio": AsyncioSelectorReactor}


class RunningReactor:
    """A reactor that runs as long as this is entered."""

    def __init__(self, kind):
        self._loop = asyncio.SelectorEventLoop() if kind == "asyncio" else None
        self.reactor = KINDS[kind](self._loop) if self._loop else KINDS[kind]()
        self._thread = threading.Thread(target=self.reactor.run, kwargs={"installSignalHandlers": False}, daemon=True)

    @property
    def thread(self):
        """What `threading.get_ident` says in it."""
        return self._thread.ident

    def begin(self, function, *args, **keywords):
        """Have something called in the reactor; return a future of its result, or of that of its Deferred."""
        future = Future()

        def begin():
            maybeDeferred(function, *args, **keywords).addCallbacks(
                future.set_result, lambda failure: future.set_exception(failure.value)
            )

        self.reactor.callFromThread(begin)
        return future

    def ask(self, function, *args, **keywords):
        """Have something called in the reactor, and wait for its result."""
        return self.begin(function, *args, **keywords).result(PATIENCE)

    def stop(self):
        self.reactor.callFromThread(self.reactor.stop)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exc):
        if self._thread.is_alive():
            self.stop()
        if self._loop:
            self._loop.close()
