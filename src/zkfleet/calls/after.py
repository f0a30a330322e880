"""What is to happen when a call is committed, and only then?

Sending mail, answering a request, starting another call: what cannot be undone
must not be done in a transaction that may be aborted or done again.
`after_commit` notes it down; whoever runs the call performs it afterwards, in
the reactor or loop or thread that asked for the call.
"""

import inspect
from collections.abc import Callable, Iterable
from contextvars import ContextVar, Token
from threading import get_ident
from typing import Any, NamedTuple

from zkfleet.errors import BadInput
from zkfleet.spelling import get_logger

logger = get_logger(__name__)


class Action(NamedTuple):
    """What is to be done."""

    function: Callable[..., object]
    args: tuple[Any, ...]
    keywords: dict[str, Any]


class Actions(list[Action]):
    """What was noted down in one attempt.

    A context is copied to threads and callbacks that may outlive the call, or run beside it; these are not
    inside of it.

    Attributes:
        thread: the one in which the call is under way; None before and after.
    """

    thread: int | None = None


_current: ContextVar[Actions | None] = ContextVar("zkfleet.calls.after", default=None)


def enter(actions: Actions) -> Token[Actions | None]:
    """Have actions noted down here from now on, in this thread."""
    actions.thread = get_ident()
    return _current.set(actions)


def leave(actions: Actions, token: Token[Actions | None]) -> None:
    """The call is over."""
    _current.reset(token)
    actions.thread = None


def is_inside_a_call() -> bool:
    """Whether a call is under way in this thread and context."""
    actions = _current.get()
    return actions is not None and actions.thread == get_ident()


def after_commit(function: Callable[..., object], *args: Any, **keywords: Any) -> None:
    """Have something called once the call that is under way is committed.

    It is not called if the call fails or is aborted, and once if it is tried again. Its
    arguments should be plain values or `zkfleet.calls.ref`s: the connection is somebody else's
    by then. An error in it is logged, and changes nothing about the call.

    Raises:
        BadInput: no call is under way here, or it is a coroutine function, which nobody would await.
    """
    actions = _current.get()
    if actions is None or actions.thread != get_ident():
        raise BadInput(
            "after_commit() outside of a call: there is no transaction that it could come after",
            hint="call it in a function that is run by zkfleet.calls, in the same thread",
        )
    if inspect.iscoroutinefunction(function):
        raise BadInput(
            "after_commit() of a coroutine function: nobody would await what it returns",
            hint="pass a plain function, which may begin a task",
        )
    actions.append(Action(function, args, keywords))


def refuse_inside_a_call() -> None:
    """Check that no call is under way in this context, for those who would wait for another one there.

    Raises:
        BadInput: one is.
    """
    if is_inside_a_call():
        raise BadInput(
            "a call inside of a call would wait for a connection while it holds one",
            hint="call the method itself, which makes it part of this transaction, or have the other one begun by "
            "zkfleet.calls.after_commit(), on an event loop or a reactor by the door for that",
        )


def perform(actions: Iterable[Action]) -> None:
    """Do what was noted down, in order.

    Raises:
        BaseException: the first that is no `Exception`, such as `SystemExit`, after all of it is done.
    """
    ending = None
    for action in actions:
        try:
            action.function(*action.args, **action.keywords)
        except Exception:  # the call is committed, and the other actions are wanted all the same
            name = getattr(action.function, "__qualname__", type(action.function).__qualname__)
            logger.exception("after_commit_failed function=%s", name)
        except BaseException as exc:  # the program ends, and these actions would be lost with it
            ending = ending or exc
    if ending is not None:
        raise ending
