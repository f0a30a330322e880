"""Is this the thread of an event loop, which must not be blocked?

A call by the door for threads waits in its thread: for a connection, for the database,
for its pauses.  On the thread of a loop or a reactor everything would wait with
it, other calls of that loop included.  Neither asyncio nor Twisted is imported
for the question: who runs one has imported it.
"""

import sys
import weakref
from threading import get_ident
from typing import Any

from zkfleet.errors import BadInput

# Reactors that have made calls, and their threads; an application may have others than Twisted's own.
_reactors: "weakref.WeakKeyDictionary[Any, int]" = weakref.WeakKeyDictionary()


def note_reactor(reactor: Any) -> None:
    """Remember that this is the thread of a reactor."""
    _reactors[reactor] = get_ident()


def refuse_on_a_loop() -> None:
    """Check that no event loop and no reactor runs in this thread.

    Raises:
        BadInput: one does.
    """
    asyncio, own = sys.modules.get("asyncio"), get_ident()
    if asyncio is not None and asyncio._get_running_loop() is not None:
        raise _refusal("an event loop", "await zkfleet.calls.asyncio.call() instead, or begin a task that does")
    if _has_own_reactor() or any(thread == own and _is_running(reactor) for reactor, thread in list(_reactors.items())):
        raise _refusal("a reactor", "call a zkfleet.calls.twisted.Partial instead, which returns a Deferred")


def _has_own_reactor() -> bool:
    """Whether Twisted's own reactor, if there is one, runs in this thread."""
    reactor = sys.modules.get("twisted.internet.reactor")
    return reactor is not None and _is_running(reactor) and sys.modules["twisted.python.threadable"].isInIOThread()


def _is_running(reactor: Any) -> bool:
    return bool(getattr(reactor, "running", False))


def _refusal(whose: str, remedy: str) -> BadInput:
    return BadInput(
        f"a call of the door for threads would block the thread of {whose}, and everything that waits there",
        hint=f"{remedy}; or make the call in a thread of its own",
    )
