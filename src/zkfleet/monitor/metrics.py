"""What do all commands say in numbers, now?

`Collector` asks every command that has numbers and needs no arguments, all at
the same time, and waits for none longer than the monitor's deadline.  One that
is late, or fails, is missing, and that is told; the others are there.

    REGISTRY.register(zkfleet.monitor.metrics.Collector())    # beside the application's own

Who is late has a thread until it ends, and is not asked again before: there is
never more than one thread for a command, and nobody waits for it once more.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from zkfleet.errors import BadInput, MissingDependency
from zkfleet.monitor.answers import Answer
from zkfleet.monitor.asking import Call, Outcome
from zkfleet.monitor.commands import COMMANDS, Command
from zkfleet.monitor.families import PREFIX, Family, families, told
from zkfleet.monitor.forking import renew_in_children
from zkfleet.monitor.limits import Limits
from zkfleet.monitor.loading import load
from zkfleet.monitor.running import NAME, Running
from zkfleet.spelling import get_logger

try:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector as PrometheusCollector
except ImportError as exc:
    raise MissingDependency("metrics stand on prometheus-client", hint="pip install 'zkfleet[monitor]'") from exc

logger = get_logger(__name__)

SECONDS_TO_WRITE = 1.0


@dataclass(frozen=True, slots=True)
class Said:
    """What came of a command.

    Attributes:
        answer: what it said; None if it failed or had nothing to say.
        seconds: how long it took.
        has_nothing: it says that it is not for this process: there is no such database here, or no server.
    """

    answer: Answer | None = None
    seconds: float = 0.0
    has_nothing: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A command that is run for whoever scrapes.

    Attributes:
        said: what comes of it.
        end: when nobody waits for it any more, on the monotonic clock.
    """

    said: "Future[Said]"
    end: float

    def wait(self) -> Said | None:
        """Return what came of it; None if that is late."""
        try:
            return self.said.result(max(0.0, self.end - time.monotonic()))
        except TimeoutError:
            return None


class Collector(PrometheusCollector):
    """The numbers of all commands, for prometheus-client; any thread may collect, and several at a time.

    Args:
        running: what runs the commands; None for all commands of this process.
    """

    def __init__(self, running: Running | None = None) -> None:
        if running is None:
            load()
        self._running = running or Running(COMMANDS, Limits())
        self._asked: dict[str, Asked] = {}
        self._doubtful: set[str] = set()
        self._lock = threading.Lock()
        renew_in_children(self)

    def begin_anew(self) -> None:
        """In a forked child: nothing has been asked."""
        self._asked, self._lock = {}, threading.Lock()

    def describe(self) -> list[Family]:
        """Return all metrics, without a number in them; no command is run."""
        return [*(one for command in told(self._running.commands) for one in families(command)), *_about_commands()]

    def collect(self) -> Iterator[Family]:
        """Yield all metrics, after at most the monitor's deadline."""
        asked = [(command, self._ask(command)) for command in told(self._running.commands)]
        answered, well, seconds = about = _about_commands()
        for command, one in asked:
            said = one.wait()
            if said is not None and said.has_nothing:
                continue
            found = None if said is None or said.answer is None else self._families(command, said.answer)
            answered.add_metric([command.name], found is not None)
            if said is not None and said.answer is not None and found is not None:
                well.add_metric([command.name], said.answer.ok)
                seconds.add_metric([command.name], said.seconds)
                yield from found
        yield from about

    def _families(self, command: Command, answer: Answer) -> list[Family] | None:
        try:
            return families(command, answer)
        except BadInput as exc:
            if command.name not in self._doubtful:
                self._doubtful.add(command.name)
                logger.warning("metrics_left_out command=%s reason=%s", command.name, exc)
            return None

    def _ask(self, command: Command) -> Asked:
        with self._lock:
            under_way = self._asked.get(command.name)
            if under_way is not None and not under_way.said.done():
                return under_way
            future: Future[Said] = Future()
            asked = Asked(future, time.monotonic() + self._running.limits.deadline)
            self._asked[command.name] = asked
        if not command.blocks:
            self._run(command, future)
            return asked
        thread = threading.Thread(
            target=self._run, args=(command, future), name=f"{NAME}-metrics-{command.name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the machine has no more threads for this process
            future.set_result(Said())
        return asked

    def _run(self, command: Command, future: "Future[Said]") -> None:
        begun, said = time.monotonic(), Said()
        try:
            reply = self._running.now(Call(command, ()))
            said = Said(reply.answer, time.monotonic() - begun, reply.outcome is Outcome.REFUSED)
        finally:
            future.set_result(said)


def _about_commands() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
    answered = "Whether the command answered in time; 0 if it did not, or failed."
    seconds = "Time that the command took."
    well = "Whether the command found everything as it should be."
    return (
        GaugeMetricFamily(f"{PREFIX}_command_answered", answered, labels=["command"]),
        GaugeMetricFamily(f"{PREFIX}_command_ok", well, labels=["command"]),
        GaugeMetricFamily(f"{PREFIX}_command_duration_seconds", seconds, labels=["command"]),
    )


def scraping(running: Running) -> Command:
    """Return the command that tells all metrics as Prometheus reads them; it is none of those that lines ask for."""
    registry = CollectorRegistry()
    registry.register(Collector(running))
    return Command(
        "metrics", lambda: generate_latest(registry).decode(), deadline=running.limits.deadline + SECONDS_TO_WRITE
    )
