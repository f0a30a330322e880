"""How does a ZEO server become a process?

What `zkfleet zeo serve` runs: ZEO's `runzeo`, with its options, its logging and
its pid file, around our server.  SIGTERM and SIGINT drain, a second one ends
it now, SIGHUP drains and exits with 1, so that whoever watches starts it again;
SIGUSR2 opens log files anew.
"""

import signal
import threading
import time
from collections.abc import Callable, Sequence

from ZEO.runzeo import ZEOServer

from zkfleet.errors import BadInput, ZkfleetError
from zkfleet.spelling import get_logger
from zkfleet.zeo.insides import Repair, require
from zkfleet.zeo.server import Server
from zkfleet.zeo.settings import Options

logger = get_logger(__name__)
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LOOK_AGAIN = 0.05
PROCESS = Repair(
    "a process around our server",
    without="none can be started",
    needs=(
        "ZEO.runzeo:ZEOServer(options)",
        "ZEO.runzeo:ZEOServer.__init__ sets server",
        "ZEO.runzeo:ZEOServer.main",
        "ZEO.runzeo:ZEOServer.check_socket",
        "ZEO.runzeo:ZEOServer.clear_socket",
        "ZEO.runzeo:ZEOServer.open_storages",
        "ZEO.runzeo:ZEOServer.setup_signals",
        "ZEO.runzeo:ZEOServer.create_server",
        "ZEO.runzeo:ZEOServer.loop_forever",
        "ZEO.runzeo:ZEOServer.close_server",
        "ZEO.runzeo:ZEOServer.handle_sigterm",
        "ZEO.runzeo:ZEOServer.handle_sigint",
        "ZEO.runzeo:ZEOServer.handle_sighup",
    ),
)
ABORT_WITHIN = 5.0


def options_of(arguments: Sequence[str]) -> Options:
    """Return what a command line and the configuration that it names say; starts the logging.

    Raises:
        BadInput: something in them is wrong.
    """
    options = Options(eventlog=True)
    options.realize(list(arguments))
    return options


class Runner(ZEOServer):  # type: ignore[misc]  # ZEO has no types
    """One server process; everything is done by `main`, on the main thread."""

    def __init__(self, options: Options) -> None:
        require(PROCESS)
        super().__init__(options)
        self._settings = options.settings()
        self._signals: list[str] = []

    def run(self) -> int:
        """Serve until a signal comes, and return the code to exit with."""
        self.main()
        return 1 if self._signals[0] == "SIGHUP" else 0

    # -- what runzeo does itself, and here `Server` does

    def check_socket(self) -> None:
        """Leave it to the server."""

    def clear_socket(self) -> None:
        """Leave it to the server, which removes no socket but its own."""

    def open_storages(self) -> None:
        """Leave it to the server."""

    def create_server(self) -> None:
        """Make the server; it is started where signals are heard meanwhile."""
        self.server = Server(self._settings)

    def close_server(self) -> None:
        """Leave it to `loop_forever`."""

    # -- signals

    def setup_signals(self) -> None:
        """Handle signals, but for those that we were started to ignore, as by `nohup`."""
        ignored = [number for number in ENDING if signal.getsignal(number) is signal.SIG_IGN]
        super().setup_signals()
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)

    def handle_sigterm(self) -> None:
        """Drain; the second time, end now."""
        self._signals.append("SIGTERM")

    def handle_sigint(self) -> None:
        """Drain; the second time, end now."""
        self._signals.append("SIGINT")

    def handle_sighup(self) -> None:
        """Drain, and exit with 1."""
        self._signals.append("SIGHUP")

    # -- from beginning to end

    def loop_forever(self) -> None:
        """Serve until a signal comes, and end."""
        starting = _Task(self.server.start)
        while not self._signals:
            # An Event has a lock, which a signal in the middle of `wait` finds taken.
            time.sleep(LOOK_AGAIN)
            if not starting.is_done:
                continue
            starting.check()
            if self.server.has_ended:
                if isinstance(self.server.problem, BadInput):
                    raise self.server.problem
                reason = f": {self.server.problem}" if self.server.problem else ""
                raise ZkfleetError(f"the server has ended by itself{reason}", hint="its log says more")
        logger.info("ending signal=%s: a second %s ends it at once", self._signals[0], self._signals[0])
        closing = _Task(self.server.close)
        while not closing.is_done:
            time.sleep(LOOK_AGAIN)
            if len(self._signals) > 1:
                logger.warning("ending_now signal=%s", self._signals[1])
                _Task(self.server.abort).wait(ABORT_WITHIN)
                return
        closing.check()


class _Task:
    """A function on a thread, so that the main thread goes on hearing signals."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._function()
        except BaseException as exc:  # it is raised again where it is asked for
            self._problem = exc

    @property
    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def check(self) -> None:
        """Raise what the function raised, if it has ended."""
        if self.is_done and self._problem is not None:
            raise self._problem

    def wait(self, seconds: float) -> None:
        self._thread.join(seconds)
