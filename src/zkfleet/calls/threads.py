"""How does a thread call a persistent object?

The door for WSGI programs and scripts: the thread that asks makes the call, and waits
where there is something to wait for.  A call with a deadline is made in a thread of the
pool instead, because it could not be left otherwise.
"""

import contextvars
import functools
import time
from collections.abc import Callable
from concurrent.futures import wait
from typing import Any, ParamSpec, TypeVar

from zkfleet.calls.after import is_inside_a_call, refuse_inside_a_call
from zkfleet.calls.loops import refuse_on_a_loop
from zkfleet.calls.policy import Policy, checked
from zkfleet.calls.references import Request
from zkfleet.calls.running import Reply, Run, Wait, Work

P = ParamSpec("P")
T = TypeVar("T")
DEFAULT = Policy()


def run(function: Callable[..., T], /, *args: Any, policy: Policy = DEFAULT, **keywords: Any) -> T:
    """Call something in a transaction of its own, on a connection of its own.

    Persistent objects in the callable and among the arguments are found again on that
    connection; if there are none, it is simply called.

    Args:
        function: a method of a persistent object, or any other callable.
        args: its positional arguments.
        policy: how often it is tried, and how long.
        keywords: its keyword arguments; `functools.partial` passes on one that is called `policy`.

    Returns:
        What it returned, after it was committed.

    Raises:
        BadInput: an argument that cannot be had on another connection, or this is the thread of an event loop or a
            reactor, which would wait.
        EscapedObject: it returned something persistent.
        CommitUnknown, WaitTimedOut, QueueFull: see `Policy` and `zkfleet.calls.limit`.
        Exception: what it raised itself; nothing was committed then.
    """
    request = Request(function, args, keywords, allow_containers=checked(policy).allow_containers)
    if request.database is None:
        return function(*args, **keywords)
    refuse_inside_a_call()
    refuse_on_a_loop()
    result: T = drive(Run(request, policy))
    return result


def transactional(*, policy: Policy = DEFAULT) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make a function that is run as a call whenever it is called; inside of a call it is part of that.

    Raises:
        BadInput: as `run`; the function's arguments say which database it is about.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def called(*args: P.args, **keywords: P.kwargs) -> T:
            if is_inside_a_call():
                return function(*args, **keywords)
            return run(functools.partial(function, *args, **keywords), policy=policy)

        return called

    return decorate


def drive(run: Run) -> Any:
    """Carry out the orders of a run in this thread, and return its result."""
    steps, reply = run.steps(), None
    try:
        while True:
            order = steps.send(reply)
            if isinstance(order, Wait):
                reply = _wait(order)
            elif order.seconds is None:
                reply = order.do()
            else:
                reply = _work(order, run)
    except StopIteration as over:
        return over.value
    finally:
        steps.close()


def _wait(order: Wait) -> Any:
    if order.until is not None:
        wait([order.until], order.seconds)
    elif order.seconds is not None:
        time.sleep(order.seconds)


def _work(order: Work, run: Run) -> Any:
    future = run.pool.threads.submit(functools.partial(contextvars.copy_context().run, order.do), run.describe)
    wait([future], order.seconds)
    return future.result() if future.done() else Reply.LATE
