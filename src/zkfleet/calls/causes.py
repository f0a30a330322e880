"""What does an error rest on?

Errors come in chains: each keeps the one that it was raised from.  `find_commit`
reads there what a cancelled call has left in its database.  Pure.
"""

from collections.abc import Iterator

from zkfleet.errors import CommittedAlready, CommitUnknown


def find_commit(error: BaseException | None) -> CommitUnknown | CommittedAlready | None:
    """Return what an error of a call says about its commit; None if nothing was committed, and will not be.

    For who cancels a call of `zkfleet.calls.asyncio`, or lets `asyncio.timeout` do that: the `CancelledError` or
    the `TimeoutError` that comes of it leads to the answer, in different ways in different versions of Python.
    An error of a `TaskGroup` that cancelled a call leads nowhere.

    Args:
        error: what was caught where the call was awaited.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, (CommitUnknown, CommittedAlready)):
            return error
        seen.add(id(error))
        error = error.__cause__ or _cancellation_before(error)
    return None


def _cancellation_before(error: BaseException) -> BaseException | None:
    # Early releases of Python 3.11 raise the error of a timeout while they handle the cancellation, but not from it.
    # A context that is an `Exception` does not count: it may be an error of an earlier call, which was dealt with.
    before = error.__context__
    return before if isinstance(error, TimeoutError) and not isinstance(before, Exception) else None


def errors_behind(error: object) -> Iterator[BaseException]:
    """Give an error and all those that led to it, once each."""
    seen: set[int] = set()
    rest = [error]
    while rest:
        each = rest.pop()
        if isinstance(each, BaseException) and id(each) not in seen:
            seen.add(id(each))
            yield each
            rest += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
