"""How is a command run so that nobody else waits for it?

One that cannot block is run at once.  One that may is run on a thread of its
own and has a deadline; when that is over its client is told, and the thread
goes on, counted, until it ends or the process does.  There are so many such
threads and no more.  Whatever a command raises ends here, in one line for the
client and a traceback in the log.
"""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from zkfleet.errors import BadInput
from zkfleet.monitor.answers import Answer
from zkfleet.monitor.asking import Call, Outcome, Reply, failure, refusal, reply, trouble
from zkfleet.monitor.commands import Commands, Says
from zkfleet.monitor.forking import renew_in_children
from zkfleet.monitor.limits import Limits
from zkfleet.spelling import get_logger, spell_exception

logger = get_logger(__name__)

NAME = "zkfleet-monitor"
"""What the names of all threads of monitors begin with."""


@dataclass(slots=True, eq=False)
class Job:
    """A command that is run on a thread of its own.

    Attributes:
        call: what is run.
        seconds: how long its client waits.
        given_up: nobody waits any more; what is told in parts ends.
    """

    call: Call
    seconds: float
    given_up: bool = False


class Running:
    """Runs the commands of one monitor.

    Args:
        commands: those that there are.
        limits: how much of everything.
        actions: whether commands that change something are enabled.

    Attributes:
        jobs: those that are under way on threads of their own.
    """

    def __init__(self, commands: Commands, limits: Limits, *, actions: bool = False) -> None:
        self.commands, self.limits, self.actions = commands, limits, actions
        self.jobs: set[Job] = set()
        self._lock = threading.Lock()
        renew_in_children(self)

    def begin_anew(self) -> None:
        """In a forked child: no job is under way."""
        self.jobs, self._lock = set(), threading.Lock()

    def now(self, call: Call, *, show_traceback: bool = False) -> Reply:
        """Run a command on this thread, and return what is written of its answer, whatever it does."""
        # A KeyboardInterrupt here may be meant for the program whose thread this is.
        return self._said(call, show_traceback, (Exception, SystemExit))

    def begin(self, call: Call, tell: Callable[[Job, Reply], None], *, show_traceback: bool = False) -> Job | None:
        """Run a command on a thread of its own.

        Args:
            call: what is run.
            tell: is given the job and the reply, on that thread; not if it was given up.
            show_traceback: whether the client may see it.

        Returns:
            The job; None if too many are under way.
        """
        job = Job(call, call.command.seconds(call.arguments, self.limits.deadline))
        with self._lock:
            if len(self.jobs) >= self.limits.running:
                return None
            self.jobs.add(job)
        name = f"{NAME}-{call.command.name}"
        thread = threading.Thread(target=self._run, args=(job, tell, show_traceback), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the machine has no more threads for this process
            logger.warning("command_not_run command=%s reason=no thread can be started", call.command.name)
            self.jobs.discard(job)
            return None
        return job

    def _run(self, job: Job, tell: Callable[[Job, Reply], None], show_traceback: bool) -> None:
        try:
            said = self._said(job.call, show_traceback, BaseException, lambda: job.given_up)
        finally:
            with self._lock:
                self.jobs.discard(job)
        if not job.given_up:
            tell(job, said)

    def _said(
        self,
        call: Call,
        show_traceback: bool,
        caught: type[BaseException] | tuple[type[BaseException], ...],
        is_given_up: Callable[[], bool] = lambda: False,
    ) -> Reply:
        limit = self.limits.answer
        try:
            answer = gathered(call.command.function(*call.arguments), limit, is_given_up)
            return shortened(call, reply(call, answer), limit)
        except BadInput as exc:
            return refusal(["json", call.command.name] if call.in_json else [call.command.name], exc)
        except caught as exc:  # a command's fault is not the monitor's
            return self._failed(call, exc, show_traceback)

    def late(self, job: Job) -> Reply:
        """Give a job up, and return what its client is told."""
        job.given_up = True
        logger.warning("command_late command=%s seconds=%g", job.call.command.name, job.seconds)
        return trouble(job.call, f"no answer in {job.seconds:g} s", Outcome.LATE)

    def full(self, call: Call) -> Reply:
        """Return what is told to somebody for whom there is no thread."""
        with self._lock:
            names = ", ".join(sorted(job.call.command.name for job in self.jobs))
        return trouble(call, f"no thread is left for it; not answered yet: {names}", Outcome.LATE)

    def _failed(self, call: Call, exc: BaseException, show_traceback: bool) -> Reply:
        id_ = secrets.token_hex(4)
        logger.error("command_failed id=%s command=%s", id_, call.command.name, exc_info=exc)
        said = failure(call, exc, id_)
        if not show_traceback or call.in_json:
            return said
        return replace(said, text=spell_exception(exc) + said.text)


def gathered(says: Says, limit: int, is_given_up: Callable[[], bool]) -> Answer:
    """Return what a command said as an answer.

    Args:
        says: an answer, a text, or a text in parts, which is read until it ends or is longer than it may be.
        limit: bytes.
        is_given_up: whether nobody waits any more.
    """
    if isinstance(says, Answer):
        return says
    if isinstance(says, str):
        return Answer(text=says)
    size, kept = 0, []
    for part in says:
        size += len(part)
        kept.append(part)
        if size > limit or is_given_up():
            break
    return Answer(text="".join(kept))


def shortened(call: Call, said: Reply, limit: int) -> Reply:
    """Return a reply of so many bytes at most, and a line that says so if there was more."""
    if 4 * len(said.text) <= limit:  # no character has more bytes
        return said
    written = said.text.encode("utf-8", "backslashreplace")
    if len(written) <= limit:
        return said
    if call.in_json:
        return trouble(call, f"the answer has more than {limit} bytes", Outcome.FAILED)
    return replace(said, text=written[:limit].decode("utf-8", "ignore") + f"\n... cut after {limit} bytes\n")
