"""What of an error may outlive its call?

A Failure is kept: by a Deferred that nobody looks at, in a log, in a queue.  A
traceback keeps frames, and these the objects of a connection that somebody else
has by now.  So it is cleaned: where the error came from is told as text, and no
frame stays, neither the error's own nor that of what caused it.

Pickled, it is a plain Failure of Twisted's, which is read without zkfleet.
"""

import pickle
from contextvars import ContextVar
from typing import Any

from twisted.python.failure import Failure
from twisted.python.reflect import qual, safe_str

from zkfleet.calls.causes import errors_behind
from zkfleet.calls.searching import find

TEXT = 1000
# An error that leads back to its own Failure is tried once.
_trying: ContextVar[bool] = ContextVar("zkfleet.calls.failures", default=False)


class CleanFailure(Failure):
    """A Failure that can be pickled whatever its error holds."""

    def __reduce__(self) -> tuple[Any, ...]:
        make, args, state = super().__reduce__()
        return make, args, state if _trying.get() else _portable(state)


def clean(error: BaseException) -> Failure:
    """Return an error, or a Failure, as a Failure that keeps no frames; the error itself loses them, too."""
    failure = CleanFailure(error)
    for each in errors_behind(failure.value):
        # Not by its attribute: there are classes whose instances refuse to be changed.
        BaseException.with_traceback(each, None)
    failure.cleanFailure()
    return failure


def _portable(state: dict[str, Any]) -> dict[str, Any]:
    """The state, with a stand-in for an error that cannot be pickled; `check()` goes by names, and is as before."""
    error = state["value"]
    if find(error, "error", attributes=True) is None and _survives(error):
        return state
    stand_in = Exception(f"{qual(type(error))}: {safe_str(error)[:TEXT]}")
    return {**state, "value": stand_in, "type": Exception}


def _survives(error: Any) -> bool:
    token = _trying.set(True)
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  it is our own
    except Exception:  # whatever its class does then
        return False
    finally:
        _trying.reset(token)
    return True
