"""zkfleet run: start any server, register it while it serves, deregister before it stops."""

import contextlib
import queue
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from zkfleet import paths
from zkfleet.cli import launcher
from zkfleet.cli.launcher import Launcher, Order
from zkfleet.cli.options import Ensemble, Seconds, on_signals, report, with_ensemble, with_errors
from zkfleet.cli.output import say
from zkfleet.endpoints import Endpoint, addresses_to_advertise, parse_endpoint
from zkfleet.errors import BadAddress, BadInput, NodeNotFound, NotConnected, ZkfleetError
from zkfleet.registry.identity import check_not_ours
from zkfleet.spelling import get_logger
from zkfleet.tree import parse_assignments

if TYPE_CHECKING:
    from zkfleet.registry import Registration, Registry

logger = get_logger(__name__)
PROBE_PAUSE = 0.05
LOOK_AGAIN = 0.2
RETRY_AFTER = 1.0
DEREGISTER_WITHIN = 2.0
LAST_WORDS = 10.0


@click.command("run")
@click.argument("path")
@click.option(
    "--address", required=True, metavar="HOST:PORT", help="Where the server listens; :PORT for all addresses."
)
@click.option("--property", "assignments", multiple=True, metavar="NAME=LITERAL", help="Say this of it, too.")
@click.option(
    "--advertise", metavar="ADDRESS", help="Publish this instead: a name, an address, an interface, a network."
)
@click.option("--wait-port", type=Seconds(min=0), default=60.0, show_default=True, help="Seconds to start in.")
@with_ensemble
@with_errors
@click.argument("command", nargs=-1, required=True)
def run_command(
    ensemble: Ensemble,
    path: str,
    address: str,
    assignments: tuple[str, ...],
    advertise: str | None,
    wait_port: float,
    command: tuple[str, ...],
) -> None:
    """Start COMMAND, and keep its address registered at PATH while it serves.

    It is registered once its port takes connections, and deregistered before
    it is told to stop.  Signals are passed on; the exit code is the server's.
    """
    paths.check(path)
    endpoint = parse_endpoint(address)
    if not endpoint.port:
        raise BadAddress(
            f"{address}: port 0 is not possible here", hint="only the server knows the port that it got: choose one"
        )
    addresses_to_advertise(endpoint, advertise=advertise)
    properties = parse_assignments(assignments)
    check_not_ours(properties)
    if command[0] == "--":
        command = command[1:]
    if not command:
        raise BadInput("no command to run", hint="write it behind --")
    ensemble.check()
    _check_port(endpoint)
    publish = partial(_register, path=path, endpoint=endpoint, advertise=advertise, properties=properties)
    raise SystemExit(Runner(ensemble, endpoint, publish, wait_port).run(command))


def _check_port(endpoint: Endpoint) -> None:
    """Raise `BadAddress` if somebody listens there already: he would be registered for our server."""
    with contextlib.suppress(OSError):
        socket.create_connection((endpoint.host or "localhost", endpoint.port), 1.0).close()
        raise BadAddress(f"{endpoint}: somebody listens there already", hint="end it, or choose another port")


def _register(
    registry: "Registry", *, path: str, endpoint: Endpoint, advertise: str | None, properties: dict[str, Any]
) -> "Registration":
    from zkfleet.registry.advertised import look_up

    look_up(addresses_to_advertise(endpoint, advertise=advertise), endpoint, _tell_unknown)
    return registry.register(path, endpoint, advertise=advertise, wait=False, **properties)


def _tell_unknown(name: str, reason: str) -> None:
    say(
        f"warning: {name!r} is published, but no interface here has this name, and it has no address here: {reason}",
        err=True,
    )


class Runner:
    """One server process, and its place in the registry.

    Everything that happens is put into one queue and acted on by the main
    thread, which alone talks to the launcher.
    """

    def __init__(
        self, ensemble: Ensemble, endpoint: Endpoint, publish: "Callable[[Registry], Registration]", wait_port: float
    ) -> None:
        self._ensemble, self._endpoint, self._publish, self._wait_port = ensemble, endpoint, publish, wait_port
        self._happened: queue.SimpleQueue[Callable[[], list[Order]]] = queue.SimpleQueue()
        self._launcher = Launcher()
        self._child: subprocess.Popen[bytes]
        self._registry: Registry | None = None
        self._over = threading.Event()
        self._leaving = threading.Thread(target=self._leave, daemon=True)
        self._in_any_case = threading.Timer(DEREGISTER_WITHIN, self._happened.put, [self._launcher.deregistered])
        self._in_any_case.daemon = True
        self._lock = threading.Lock()

    def run(self, command: Sequence[str]) -> int:
        """Run a command to its end and return the code to exit with."""
        names = (*launcher.TERMINATING, *launcher.PASSED_ON)
        on_signals([getattr(signal, name) for name in names], self._signalled)
        # In a process group of its own: of a Ctrl-C it hears from us, and after its address is gone.
        self._child = subprocess.Popen(command, process_group=0)  # noqa: S603  running it is what we were asked for
        for task in (self._await_end, self._await_port):
            threading.Thread(target=task, daemon=True).start()
        try:
            return self._act()
        finally:
            self._deregister()
            if self._leaving.is_alive():
                self._leaving.join(DEREGISTER_WITHIN)
            self._end_child()

    def _act(self) -> int:
        while True:
            for order in self._next()():
                match order:
                    case launcher.Register():
                        threading.Thread(target=self._register, daemon=True).start()
                    case launcher.Deregister():
                        self._leaving.start()
                        self._in_any_case.start()
                    case launcher.Pass(name):
                        self._pass_on(name)
                    case launcher.TellOfBackground():
                        _tell_of_background(self._endpoint)
                    case launcher.Exit(code):
                        return code

    def _next(self) -> Callable[[], list[Order]]:
        """Wait for what happens next."""
        while True:
            # A signal that comes just before the wait begins does not end it:
            # its handler runs when we look again.
            with contextlib.suppress(queue.Empty):
                return self._happened.get(timeout=LOOK_AGAIN)

    def _pass_on(self, name: str) -> None:
        try:
            self._child.send_signal(getattr(signal, name))
        except OSError as exc:
            say(f"warning: {name} could not be passed on: {exc}", err=True)

    def _end_child(self) -> None:
        """See that no server is left alone, if something went wrong here."""
        if self._child.poll() is None:
            self._pass_on("SIGTERM")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(LAST_WORDS)

    def _signalled(self, number: int, _frame: object) -> None:
        self._happened.put(partial(self._launcher.signalled, signal.Signals(number).name))

    def _await_end(self) -> None:
        code = self._child.wait()
        serves_still = code == 0 and self._port_answers()
        self._happened.put(partial(self._launcher.child_ended, code, serves_still=serves_still))

    def _await_port(self) -> None:
        deadline = time.monotonic() + self._wait_port
        while not self._over.wait(PROBE_PAUSE):
            if self._port_answers():
                self._happened.put(self._launcher.port_answers)
                return
            if time.monotonic() > deadline:
                say(f"error: nothing listens at {self._endpoint} after {self._wait_port:g} s", err=True)
                self._happened.put(self._launcher.port_is_silent)
                return

    def _port_answers(self) -> bool:
        try:
            socket.create_connection((self._endpoint.host or "localhost", self._endpoint.port), 1.0).close()
        except OSError:
            return False
        return True

    def _register(self) -> None:
        """Connect and register, however long that takes: the server serves meanwhile."""
        said = ""
        while not self._over.is_set():
            try:
                self._connect()
                return
            except ZkfleetError as exc:
                if str(exc) != said:
                    said = str(exc)
                    _warn_of(exc)
                self._over.wait(RETRY_AFTER)

    def _connect(self) -> None:
        with contextlib.ExitStack() as undo:
            registry = undo.enter_context(self._ensemble.connect())
            with self._lock:
                if self._over.is_set():
                    return
                registration = self._publish(registry)
                self._registry = registry
                undo.pop_all()
        _warn(registration)

    def _leave(self) -> None:
        try:
            self._deregister()
        finally:
            self._happened.put(self._launcher.deregistered)

    def _deregister(self) -> None:
        """Take the address out; ZooKeeper gets a moment, and then its session's end must do."""
        self._over.set()
        with self._lock:
            registry, self._registry = self._registry, None
        if registry is not None:
            with contextlib.suppress(ZkfleetError):
                registry.close(DEREGISTER_WITHIN)


def _tell_of_background(endpoint: Endpoint) -> None:
    error = BadInput(
        f"the command ended, and something takes connections at {endpoint} still: it is not registered any more",
        hint="run the server in the foreground: `zkfleet run` cannot watch one that goes into the background",
    )
    report(error)


def _warn(registration: "Registration") -> None:
    with contextlib.suppress(NotConnected):
        registration.wait_until_decided(5.0)
    if registration.problem is not None:
        _warn_of(registration.problem)


def _warn_of(problem: Exception) -> None:
    say(f"warning: not registered yet: {problem}", err=True)
    if isinstance(problem, NodeNotFound):
        say(f"hint: {problem.hint}", err=True)
