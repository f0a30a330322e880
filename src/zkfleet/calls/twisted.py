"""How does a Twisted program call a persistent object?

The door for Twisted, and what `zc.twist` had: a `Partial` is made of a callable
and arguments, and answers each call with a Deferred that fires in the reactor's
thread.  What may block is done in threads of the pool; databases in memory are
called right in the reactor's thread, as of old, unless one says otherwise.

No reactor is installed by importing this.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

from zkfleet.errors import MissingDependency

try:
    import twisted.internet.defer  # noqa: F401
except ImportError as exc:
    raise MissingDependency(
        "zkfleet.calls.twisted stands on Twisted", hint="pip install 'zkfleet[calls,twisted]'"
    ) from exc

from ZODB.DemoStorage import DemoStorage
from ZODB.MappingStorage import MappingStorage

from zkfleet.calls.after import refuse_inside_a_call
from zkfleet.calls.policy import Policy, checked
from zkfleet.calls.reactor import Driver
from zkfleet.calls.references import Request

__all__ = ["Partial"]


class _OfPolicy:
    """An attribute of old that is a field of the policy now."""

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    def __get__(self, partial: "Partial | None", owner: "type[Partial]") -> Any:
        return getattr((owner if partial is None else partial).policy, self._name)

    def __set__(self, partial: "Partial", value: Any) -> None:
        partial.policy = replace(partial.policy, **{self._name: value})


class Partial:
    """A call that is made once, and carried out as often as it is called.

    What it holds are places in the database, not objects. Called, it returns a Deferred, and any
    error of the call is a Failure of that, without frames. If there is nothing persistent about it
    it is simply called, and returns or raises what comes of it.

    Args:
        function: a method of a persistent object, or any other callable.
        args: its positional arguments.
        policy: how often it is tried, and how long.
        reactor: that of the Deferreds; None for `twisted.internet.reactor`.
        threads: whether calls are made in threads of the pool, or in the reactor's. None leaves it to the
            database: those in memory (MappingStorage, DemoStorage) in the reactor's, all others in threads.
        keywords: keyword arguments of the function.

    Attributes:
        policy, threads: as given; they count for calls to come.
        max_transaction_errors, initial_backoff, backoff_increment, max_backoff: those of the policy;
            whoever sets one gets a policy of his own.

    Raises:
        BadInput: an argument that cannot be had on another connection.
    """

    policy = Policy()
    threads: bool | None = None
    max_transaction_errors = _OfPolicy()
    initial_backoff = _OfPolicy()
    backoff_increment = _OfPolicy()
    max_backoff = _OfPolicy()

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Put the attributes of old that a class sets into its policy."""
        super().__init_subclass__(**keywords)
        said = {name: value for name, value in vars(cls).items() if isinstance(vars(Partial).get(name), _OfPolicy)}
        for name in said:
            delattr(cls, name)
        cls.policy = replace(cls.policy, **said)

    def __init__(
        self,
        function: Callable[..., Any],
        /,
        *args: Any,
        policy: Policy | None = None,
        reactor: Any = None,
        threads: bool | None = None,
        **keywords: Any,
    ) -> None:
        if policy is not None:
            self.policy = checked(policy)
        if threads is not None:
            self.threads = threads
        self._reactor = reactor
        self._request = Request(function, args, keywords, allow_containers=self.policy.allow_containers)
        self._last: Driver | None = None

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """Call it, in the reactor's thread.

        Args:
            args: more positional arguments, after the first ones.
            keywords: more keyword arguments, and others for those that are there.

        Returns:
            A Deferred. Its result is what the function returned, after it was committed; if that is a
            Deferred, what that gives; if that is a Failure, it fails with that. Cancelling it
            keeps the call from committing; if that has begun it fails with `CommitUnknown`.

        Raises:
            BadInput: an argument that cannot be had on another connection, or a call inside of a call.
            BaseException: what is no `Exception`, such as `SystemExit`, if the call was made right here.
        """
        request = self._request.with_more(args, keywords) if args or keywords else self._request
        if request.database is None:
            function, positional, named = request.on(None)
            return function(*positional, **named)
        refuse_inside_a_call()
        in_threads = not _is_in_memory(request.database) if self.threads is None else self.threads
        self._last = Driver(self.getReactor(), request, self.policy, in_threads=in_threads)
        return self._last.start()

    @property
    def attempt_count(self) -> int:
        """How many attempts the call needed until now that was begun last."""
        return self._last.run.attempts if self._last else 0

    def setReactor(self, reactor: Any) -> Self:  # noqa: N802  its old name
        """Have Deferreds fire in this reactor; None for Twisted's own.  Returns the partial."""
        self._reactor = reactor
        return self

    def getReactor(self) -> Any:  # noqa: N802  its old name
        """Return the reactor in which Deferreds fire."""
        if self._reactor is not None:
            return self._reactor
        from twisted.internet import reactor

        return reactor


def _is_in_memory(database: Any) -> bool:
    """Whether a call to a database, and those that it can reach, never blocks."""
    return all(_never_blocks(each.storage) for each in database.databases.values())


def _never_blocks(storage: Any) -> bool:
    if isinstance(storage, MappingStorage):
        return True
    return isinstance(storage, DemoStorage) and _never_blocks(storage.base) and _never_blocks(storage.changes)
