"""How does a call get from its request to its result?

A `Run` is told once, as a generator of orders, and knows nothing of how they are
carried out: a thread blocks for them, an event loop does not.  There are two, `Work`
(something that blocks) and `Wait`; with that, a door is a few lines.

Whoever drives a run on a thread must end it on any way out: by sending replies until it is
over, by throwing in what cancels it, or by closing it.  Then no slot is lost.
"""

import random
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from enum import Enum
from typing import Any, NamedTuple

from zkfleet.calls import after, remote
from zkfleet.calls.attempt import Attempt, Stage
from zkfleet.calls.counting import tally
from zkfleet.calls.deciding import (
    Answer,
    AskOutcome,
    AwaitConnection,
    Course,
    Fail,
    Failure,
    Finish,
    Order,
    Retry,
    Trouble,
)
from zkfleet.calls.policy import Policy
from zkfleet.calls.pool import Slot, State, pool_of
from zkfleet.calls.references import Request
from zkfleet.errors import CommittedAlready, CommitUnknown, WaitTimedOut
from zkfleet.spelling import get_logger

logger = get_logger(__name__)


class Reply(Enum):
    """What a driver answers instead of a result."""

    LATE = "late"
    DONE = "done"


class Work(NamedTuple):
    """Call this, which may block, and reply what it returns.

    Attributes:
        do: what to call, in the context of the caller; what it raises goes to the caller, and ends the run.
        seconds: after which to reply `Reply.LATE` while it goes on elsewhere; None for never. Who
            does it where it cannot be left may ignore this.
        is_attempt: whether it is an attempt at the call, which belongs where the door says; anything
            else is done by whichever thread may block.
    """

    do: Callable[[], Any]
    seconds: float | None
    is_attempt: bool = True


class Wait(NamedTuple):
    """Wait until this is done, or so many seconds, whichever comes first.

    Attributes:
        until: never to be cancelled; None to wait for the time alone.
        seconds: None for ever.
        attempt: what to do as soon as `until` is done. Who waits on a loop has the thread begin it that grants the
            slot (`Run.begin_when_granted`), waits for that, too, and replies `Reply.DONE` or `Reply.LATE`: a loop
            that is busy must not keep slots from others. Who can do it without delay waits for `until` alone, and
            its reply does not matter.
    """

    until: "Future[Any] | None"
    seconds: float | None
    attempt: Callable[[], object] | None = None


Steps = Generator[Work | Wait, Any, Any]


class Run:
    """One call.

    Args:
        request: what to call; it has a database.
        policy: how.
        late: performs the actions of a call that was committed when nobody waited for it any more,
            on any thread; a door with a loop has it done there.
        clock: seconds that never go back.
        chance: random numbers from 0 to 1.

    Attributes:
        attempts: how many were begun.
        attempt: the last of them, or None.
        unknown: says of which commit nobody knows whether it happened; None if there is no such one.
    """

    def __init__(
        self,
        request: Request,
        policy: Policy,
        *,
        late: Callable[[after.Actions], object] = after.perform,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._request, self._policy, self._late = request, policy, late
        self._clock, self._chance = clock, chance
        self._course: Course | None = None  # most calls meet no error
        self._began = clock()
        self._deadline = None if policy.deadline is None else self._began + policy.deadline
        self.attempts = 0
        self.attempt: Attempt | None = None
        self.unknown: CommitUnknown | None = None
        self.pool = pool_of(request.database)

    def steps(self) -> Steps:
        """Run; the orders come out, their results are sent in, and the result of the call is returned.

        Raises:
            Exception: what the call raised, when its policy gives up.
            CommitUnknown: nobody knows whether it was committed.
            WaitTimedOut: the deadline passed, and it was not and will not be committed.
            QueueFull: too many wait already.
        """
        well = False
        try:
            attempt = yield from self._try_until_done()
            well = True
        except Exception as exc:
            # Done again or not: what an earlier attempt did may be committed, and the error says that nothing is.
            if self.unknown is None or isinstance(exc, CommitUnknown):
                raise
            raise self.unknown from exc
        finally:
            tally.over(self._clock() - self._began, self.attempts, failed=not well)
        after.perform(attempt.actions)
        return attempt.value

    def describe(self) -> str:
        """Say in a few words which call it is, and how far."""
        stage = self.attempt.stage.value if self.attempt else Stage.NEW.value
        return f"call of {self._request.name}, {stage}"

    def begin_when_granted(
        self, granted: "Future[Any]", do: Callable[[], object], *, is_wanted: Callable[[], bool]
    ) -> "Future[Reply]":
        """Have an attempt begun by whoever grants its slot, in a thread of the pool; return what is done at its end.

        Args:
            granted: done when the slot is there.
            do: makes the attempt.
            is_wanted: whether anybody will hear of it, asked just before.
        """
        over: Future[Reply] = Future()

        def tell(done: "Future[Any]") -> None:
            error = done.exception()
            if error is None:
                over.set_result(Reply.DONE)
            else:
                over.set_exception(error)

        def begin(_: object) -> None:
            if not is_wanted():
                over.set_result(Reply.LATE)
                return
            try:
                self.pool.threads.submit(do, self.describe).add_done_callback(tell)
            except RuntimeError as exc:  # threads cannot be had any more: the program ends
                over.set_exception(exc)

        granted.add_done_callback(begin)
        return over

    def commit_if_left(self, order: Work | Wait | None) -> CommitUnknown | CommittedAlready | None:
        """Return what who left it must know of its commit, when its steps are closed; None if nothing is committed.

        Args:
            order: what was being done when it was left.
        """
        attempt = self.attempt
        if attempt is None:
            return None
        if attempt.committed:
            return CommittedAlready()
        if isinstance(order, Work) and not order.is_attempt:
            return CommitUnknown("it was cancelled while it was asked what became of its commit", attempt.marker)
        if attempt.left_at is Stage.COMMITTING:
            return CommitUnknown("it was cancelled while its commit was under way", attempt.marker)
        if attempt.left_at is Stage.OVER and attempt.failure is not None and attempt.failure.committing:
            return CommitUnknown("it was cancelled when the reply to its commit was lost", attempt.marker)
        return self.unknown

    def _try_until_done(self) -> Generator[Work | Wait, Any, Attempt]:
        while True:
            slot = self.pool.ask(again=self.attempts > 0)
            attempt = self.attempt = Attempt(self._request, slot, self._policy, self._late)
            try:
                reply = yield from self._make(attempt, slot)
            except BaseException:
                if attempt.abandon() is Stage.OVER and attempt.committed:
                    self._late(attempt.actions)
                raise
            if reply is Reply.LATE:
                self._leave(attempt)
            # An error holds the frames that it came through, and these hold the attempt: the circle
            # is broken here, or objects of the connection would live until somebody collects garbage.
            failure, attempt.failure = attempt.failure, None
            if failure is None:
                return attempt
            try:
                finished = yield from self._next(failure)
            finally:
                del failure
            if finished:
                attempt.committed = True
                return attempt

    def _make(self, attempt: Attempt, slot: Slot) -> Generator[Work | Wait, Any, Any]:
        """Have an attempt made when its slot is there; return the driver's reply."""
        reply = None
        if slot.granted is not None:
            reply = yield Wait(slot.granted, self._left(), attempt.run)
            if slot.state is State.WAITING:
                raise self._late_error(f"it waited for one of {self.pool.connections} connections")
        self.attempts += 1
        return reply if isinstance(reply, Reply) else (yield Work(attempt.run, self._left()))

    def _leave(self, attempt: Attempt) -> None:
        stage = attempt.abandon()
        if stage is Stage.COMMITTING:
            tally.unknown()
            raise CommitUnknown(
                f"its commit was under way at its deadline of {self._policy.deadline:g} s", attempt.marker
            )
        if stage is not Stage.OVER:
            raise self._late_error("it was under way, goes on in its thread, and will not be committed")

    # -- what follows from a failure

    def _next(self, failure: Failure) -> Generator[Work | Wait, Any, bool]:
        """Do what follows from a failure, and return whether it was none after all."""
        course = self._course = self._course or Course(self._policy)
        order = course.failed(failure, chance=self._chance())
        if isinstance(order, AskOutcome):
            order = yield from self._ask(failure, course)
        if failure.trouble is Trouble.CONFLICT or isinstance(order, Retry):
            tally.conflict(failure.error)
        try:
            match order:
                case Fail(CommitUnknown() as error):
                    raise error from failure.error
                case Fail():
                    if order.note:
                        order.error.add_note(order.note)
                    raise order.error
                case Retry(seconds):
                    logger.debug("call_conflict attempt=%d error=%s", self.attempts, type(failure.error).__name__)
                    yield from self._pause(seconds, failure.error)
                case AwaitConnection(at_least, at_most):
                    tally.disconnected()
                    yield from self._await_connection(at_least, at_most, failure.error)
            return isinstance(order, Finish)
        finally:
            del failure, order

    def _ask(self, failure: Failure, course: Course) -> Generator[Work | Wait, Any, Order]:
        left, timeout = self._left(), self._policy.outcome_timeout
        timeout = timeout if left is None else min(left, timeout)
        database, marker = self._request.database, failure.marker
        reply: Any
        if failure.trouble is Trouble.DISCONNECTED:
            reply = yield Work(lambda: remote.ask(database, marker, timeout), left, is_attempt=False)
        else:  # some of what took part may be committed, and some not
            reply = Answer.UNKNOWN, f"its second phase failed with {type(failure.error).__name__}"
        answer, reason = (Answer.UNKNOWN, "the deadline passed") if reply is Reply.LATE else reply
        if answer is Answer.UNKNOWN:
            tally.unknown()
            self.unknown = CommitUnknown(reason, marker)
            logger.warning("call_outcome_unknown database=%s reason=%s", database.database_name, reason)
        return course.told(answer, reason, failure, chance=self._chance())

    def _await_connection(self, at_least: float, at_most: float, error: Exception) -> Generator[Work | Wait, Any, None]:
        self._request.open_database()
        began, left = self._clock(), self._left()
        back = remote.connection_back(self._request.databases, at_most)
        if back is not None:
            yield Wait(back, at_most if left is None else min(left, at_most))
            if back.done():
                back.result()
        yield from self._pause(began + at_least - self._clock(), error)

    def _pause(self, seconds: float, error: Exception) -> Generator[Work | Wait, Any, None]:
        left = self._left()
        if left is not None and left <= max(0.0, seconds):
            raise self._late_error(f"it was tried {self.attempts} times", error) from error
        # For no time at all, too: a reactor in whose thread the call is made does something else meanwhile.
        yield Wait(None, max(0.0, seconds))

    # -- the deadline

    def _left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - self._clock())

    def _late_error(self, what: str, error: Exception | None = None) -> WaitTimedOut:
        last = f"; the last error was {type(error).__name__}" if error else ""
        return WaitTimedOut(
            f"the call was not done within {self._policy.deadline:g} s: {what}{last}",
            hint="give it a later deadline, or more connections with zkfleet.calls.limit()",
        )
