"""How does a coroutine call a persistent object?

The door for asyncio, and for uvloop, which is no different: calls are made in
threads of the pool, and waited for on the loop, which is never blocked.  What
happens after the commit happens on the loop, in the context of who asked.

A task that is cancelled has its call abandoned at once, wherever it is: it
leaves the line, or is not committed, or, if its commit is under way already,
ends that in its thread, unseen.  No slot is lost, whether the loop ends or
the call does.
"""

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Generic, TypeVar

from zkfleet.calls import after
from zkfleet.calls.policy import Policy, checked
from zkfleet.calls.references import Request
from zkfleet.calls.running import Reply, Run, Steps, Wait, Work
from zkfleet.spelling import get_logger

logger = get_logger(__name__)
T = TypeVar("T")
DEFAULT = Policy()


async def call(function: Callable[..., T], /, *args: Any, policy: Policy = DEFAULT, **keywords: Any) -> T:
    """Call something in a transaction of its own, on a connection of its own.

    It runs in a thread, with the context variables of who asks. If there is nothing
    persistent about it, it is simply called, here, and awaited if there is something to await.

    Args:
        function: a method of a persistent object, or any other callable.
        args: its positional arguments.
        policy: how often it is tried, and how long.
        keywords: its keyword arguments.

    Returns:
        What it returned, after it was committed.

    Raises:
        BadInput: an argument that cannot be had on another connection.
        EscapedObject: it returned something persistent.
        CommitUnknown, WaitTimedOut, QueueFull: see `Policy` and `zkfleet.calls.limit`.
        CancelledError: nothing was committed, and will not be, unless its commit was under way, or over: then its
            `__cause__` is a `CommitUnknown`, or `CommittedAlready`.
        Exception: what it raised itself; nothing was committed then.
    """
    request = Request(function, args, keywords, allow_containers=checked(policy).allow_containers)
    result: T = await _carry_out(request, policy)
    return result


class Partial(Generic[T]):
    """A call that is made once and awaited as often as you like; arguments may be added each time.

    What it holds are places in the database, not objects: it may be kept, and used by several tasks and
    loops at once.

    Args:
        function, args, policy, keywords: as for `call`.

    Raises:
        BadInput: an argument that cannot be had on another connection.
    """

    __slots__ = ("_policy", "_request")

    def __init__(self, function: Callable[..., T], /, *args: Any, policy: Policy = DEFAULT, **keywords: Any) -> None:
        self._policy = policy
        self._request = Request(function, args, keywords, allow_containers=checked(policy).allow_containers)

    async def __call__(self, *args: Any, **keywords: Any) -> T:
        """Call it, as `call` does; positional arguments come after the first ones, keywords replace them."""
        request = self._request.with_more(args, keywords) if args or keywords else self._request
        result: T = await _carry_out(request, self._policy)
        return result


async def _carry_out(request: Request, policy: Policy) -> Any:
    if request.database is None:
        function, args, keywords = request.on(None)
        result = function(*args, **keywords)
        return await result if inspect.isawaitable(result) else result
    after.refuse_inside_a_call()
    late = partial(_perform_on, asyncio.get_running_loop(), contextvars.copy_context())
    return await drive(Run(request, policy, late=late))


async def drive(run: Run) -> Any:
    """Carry out the orders of a run without blocking the loop, and return its result."""
    steps, reply, order = run.steps(), None, None
    cancelled_before = _count_cancels()
    try:
        while True:
            try:
                order = steps.send(reply)
            except StopIteration as over:
                if _count_cancels() > cancelled_before:
                    # By an action after the commit. The error is to come here, where it is told what is committed.
                    await asyncio.sleep(0)
                return over.value
            reply = await (_wait(order, run, steps) if isinstance(order, Wait) else _work(order, run, steps))
    except asyncio.CancelledError as cancelled:
        steps.close()
        known = run.commit_if_left(order)
        if known is not None:
            raise cancelled from known
        raise
    finally:
        steps.close()


def _count_cancels() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


async def _wait(order: Wait, run: Run, steps: Steps) -> Any:
    if order.until is not None and order.attempt is not None:
        attempt = partial(contextvars.copy_context().run, order.attempt)
        is_wanted = partial(_is_open, asyncio.get_running_loop())
        over = run.begin_when_granted(order.until, attempt, is_wanted=is_wanted)
        return await _result_of(over, order.seconds, steps)
    if order.until is not None:
        await _until_done(order.until, order.seconds, steps)
    elif order.seconds is not None:
        await asyncio.sleep(order.seconds)
    return None


async def _work(order: Work, run: Run, steps: Steps) -> Any:
    future = run.pool.threads.submit(partial(contextvars.copy_context().run, order.do), run.describe)
    return await _result_of(future, order.seconds, steps)


async def _result_of(future: "Future[Any]", seconds: float | None, steps: Steps) -> Any:
    await _until_done(future, seconds, steps)
    return future.result() if future.done() else Reply.LATE


def _until_done(future: "Future[Any]", seconds: float | None, steps: Steps) -> Awaitable[None]:
    """Wait until a future of other threads is done, or so many seconds; it may be shared, and is left alone."""
    loop = asyncio.get_running_loop()
    woken = loop.create_future()

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    def tell(_: object) -> None:
        if not _tell(loop, wake):
            steps.close()  # nobody else would, before somebody collects garbage

    future.add_done_callback(tell)
    if seconds is not None:
        timer = loop.call_later(seconds, wake)
        woken.add_done_callback(lambda _: timer.cancel())
    return woken


def _is_open(loop: asyncio.AbstractEventLoop) -> bool:
    return not loop.is_closed()


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], object], **options: Any) -> bool:
    """Have something called on a loop, from any thread; return whether there is the loop still."""
    try:
        loop.call_soon_threadsafe(what, **options)
    except RuntimeError:  # it was closed, and takes what waited there with it
        return False
    return True


def _perform_on(loop: asyncio.AbstractEventLoop, context: contextvars.Context, actions: after.Actions) -> None:
    """Perform the actions of a call that was committed when nobody waited for it any more."""
    if actions and not _tell(loop, partial(after.perform, actions), context=context):
        logger.error("after_commit_lost reason=loop_closed actions=%d", len(actions))
