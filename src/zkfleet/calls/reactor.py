"""How does a reactor carry out the orders of a call, and never wait?

A `Driver` takes the steps of one run.  What blocks is done in a thread of the pool,
unless the call was meant for the reactor's own thread, and what is waited for calls back.
All of it happens in the reactor's thread, in the context of who asked for the call:
steps, the actions after the commit, the Deferred.

A call that is cancelled, or under way when its reactor stops, is left at once: it
leaves the line, or is not committed, or, if that has begun, commits on its own.
"""

import contextvars
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from inspect import GEN_RUNNING, getgeneratorstate
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python import context
from twisted.python.failure import Failure

from zkfleet.calls import after, results
from zkfleet.calls.failures import clean
from zkfleet.calls.loops import note_reactor
from zkfleet.calls.policy import Policy
from zkfleet.calls.references import Request
from zkfleet.calls.running import Reply, Run, Wait, Work
from zkfleet.calls.searching import leave_alone
from zkfleet.errors import CommittedAlready
from zkfleet.spelling import get_logger

logger = get_logger(__name__)
leave_alone(Deferred)
# By reactor: what to leave when it stops.
_under_way: "weakref.WeakKeyDictionary[Any, set[Driver]]" = weakref.WeakKeyDictionary()


class Driver:
    """One call, carried out by a reactor; made and started in its thread.

    Args:
        reactor: whose.
        request: what to call; it has a database.
        policy: how.
        in_threads: whether attempts are made in threads of the pool, or right here.

    Attributes:
        run: the call.
        deferred: fires with the result, in the reactor's thread.
    """

    __slots__ = (
        *(
            "_context",
            "_in_threads",
            "_is_left",
            "_is_reactor_over",
            "_order",
            "_promise",
            "_reactor",
            "_steps",
            "_timer",
        ),
        *("deferred", "run"),
    )

    def __init__(self, reactor: Any, request: Request, policy: Policy, *, in_threads: bool) -> None:
        self._reactor, self._in_threads = reactor, in_threads
        self.run = Run(request, policy, late=self._perform_late)
        self.deferred: Deferred[Any] = Deferred(self._cancel)
        self._steps = self.run.steps()
        self._order: Work | Wait | None = None  # what is being waited for
        self._timer: Any = None
        self._context: contextvars.Context | None = None
        self._promise: Deferred[Any] | None = None
        self._is_left = self._is_reactor_over = False

    def start(self) -> "Deferred[Any]":
        """Begin; what can be done right here is done when this returns.

        Raises:
            BaseException: what is no `Exception`, such as `SystemExit`, if it comes of that.
        """
        note_reactor(self._reactor)
        self._go(self._steps.send, None)
        return self.deferred

    def _go(self, step: Callable[[Any], Work | Wait], value: Any) -> None:
        """Take steps until there is something to wait for."""
        while True:
            try:
                order = step(value)
            except StopIteration as over:
                result = over.value
                break
            except Exception as exc:  # of the call, and who asked for it gets it
                self._fail(exc)
                return
            if isinstance(order, Work) and order.is_attempt and not self._in_threads:
                step, value = self._answer(order.do)
                continue
            try:
                self._begin(order)
                return
            except RuntimeError as exc:  # threads cannot be had any more: the program ends
                step, value = self._steps.throw, exc
        self._deliver(result)

    def _answer(self, do: Callable[[], Any]) -> tuple[Callable[[Any], Any], Any]:
        """Do something, and return how to go on."""
        try:
            return self._steps.send, do()
        except BaseException as exc:  # the run cleans up, and lets it through
            return self._steps.throw, exc

    # -- what is done elsewhere, or later

    def _begin(self, order: Work | Wait) -> None:
        self._context = contextvars.copy_context()
        until = self._until(order)
        self._order = order
        _calls_of(self._reactor).add(self)
        if until is not None:
            until.add_done_callback(lambda done: self._tell(order, done))
        if order.seconds is not None:
            self._timer = self._reactor.callLater(order.seconds, self._hear, order, None)

    def _until(self, order: Work | Wait) -> "Future[Any] | None":
        if isinstance(order, Work):
            return self.run.pool.threads.submit(_in_own_context(order.do), self.run.describe)
        if self._in_threads and order.until is not None and order.attempt is not None:
            do = _in_own_context(order.attempt)
            return self.run.begin_when_granted(order.until, do, is_wanted=self._can_hear)
        return order.until

    def _can_hear(self) -> bool:
        try:
            self._reactor.callFromThread(int)
        except RuntimeError:  # its event loop was closed
            return False
        return True

    def _tell(self, order: Work | Wait, future: "Future[Any]") -> None:
        """Have the reactor hear that a future is done, from any thread."""
        if order is not self._order:
            return
        try:
            self._reactor.callFromThread(self._hear, order, future)
        except RuntimeError:  # its event loop was closed, so nobody else ends this
            self._steps.close()

    def _hear(self, order: Work | Wait, future: "Future[Any] | None") -> None:
        """Go on, because a future is done, or, without one, because time is over."""
        if order is not self._order:
            return  # the other one was first, or the call was cancelled
        self._forget_order()
        step, value = self._steps.send, None
        if isinstance(order, Work) or (self._in_threads and order.attempt is not None):
            step, value = self._answer(future.result) if future else (self._steps.send, Reply.LATE)
        assert self._context is not None
        try:
            self._context.run(self._go, step, value)
        except BaseException as exc:  # a reactor does not end for it; who asked for the call must hear of it
            self._fail(exc)

    def _forget_order(self) -> None:
        self._order = None
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _perform_late(self, actions: Iterable[after.Action]) -> None:
        if self._is_reactor_over:
            logger.error("after_commit_lost reason=%r actions=%d", "the reactor was stopped", len(list(actions)))
            return
        self._reactor.callFromThread(contextvars.copy_context().run, after.perform, actions)

    # -- the end

    def _deliver(self, result: Any) -> None:
        self._over()
        if self.deferred.called:
            return  # it was cancelled by what was called
        if isinstance(result, Failure) and self._is_left and result.check(CancelledError):
            self._fail(CommittedAlready())
        elif isinstance(result, Failure):
            self.deferred.errback(clean(result))
        elif isinstance(result, Deferred):
            self._promise = result
            result.addCallbacks(self._keep, self._deliver)
        else:
            self.deferred.callback(result)

    def _keep(self, value: Any) -> None:
        """Deliver what a Deferred has given that was returned by the call, which is long committed."""
        try:
            self._deliver(results.checked(value, None, as_reference=False))
        except Exception as exc:  # it holds what must not escape
            self._fail(exc)

    def _fail(self, error: BaseException) -> None:
        self._over()
        if not self.deferred.called:
            self.deferred.errback(clean(error))

    def _over(self) -> None:
        if self._context is not None:  # there was something to wait for
            _calls_of(self._reactor).discard(self)

    def _cancel(self, _deferred: "Deferred[Any]") -> None:
        if self._promise is None:
            self._leave_run()
        if self._promise is not None:
            self._cancel_promise(self._promise)

    def _leave_run(self) -> None:
        order, attempt = self._order, self.run.attempt
        if getgeneratorstate(self._steps) == GEN_RUNNING:  # an action after the commit cancels its own call
            assert attempt is not None
            self._deliver(attempt.value)
            return
        self._forget_order()
        self._steps.close()
        self._over()
        if attempt is None:
            return
        if attempt.committed:
            self._deliver(attempt.value)
        elif known := self.run.commit_if_left(order):
            self._fail(known)

    def _cancel_promise(self, promise: "Deferred[Any]") -> None:
        # Who hears "cancelled" believes that nothing was committed, and does it again.
        self._is_left = True
        promise.cancel()
        self._fail(CommittedAlready())

    def leave(self) -> None:
        """Cancel the call, because its reactor stops."""
        self._is_reactor_over = True
        self.deferred.cancel()


def _in_own_context(do: Callable[[], Any]) -> Callable[[], Any]:
    """Return what does something, anywhere, in the contexts that there are now."""
    own = context.theContextTracker.currentContext().contexts[-1]
    return partial(contextvars.copy_context().run, context.call, own, do)


def _calls_of(reactor: Any) -> "set[Driver]":
    there = _under_way.get(reactor)
    if there is None:
        there = _under_way[reactor] = set()
        # Not "before": that is when services save what they have, by calls that the reactor waits for.
        reactor.addSystemEventTrigger("during", "shutdown", _leave_all, there)
    return there


def _leave_all(drivers: "set[Driver]") -> None:
    for driver in list(drivers):
        driver.leave()
