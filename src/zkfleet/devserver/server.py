"""How is a dev server had, broken and ended?

What its user holds: the parts of the server put together (`dispatch`, `saving`)
and one `Run` after another of them.  State outlives a run, connections do not.
"""

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from zkfleet.devserver.database import Database
from zkfleet.devserver.datafile import DataFile
from zkfleet.devserver.dispatch import Server
from zkfleet.devserver.running import CANNOT_LISTEN, PATIENCE, Run
from zkfleet.devserver.saving import Saver
from zkfleet.devserver.sessions import LONGEST_TIMEOUT, SHORTEST_TIMEOUT, Sessions
from zkfleet.endpoints import Endpoint, from_here
from zkfleet.errors import BadAddress, BadInput, Closed, WaitTimedOut
from zkfleet.spelling import get_logger

logger = get_logger(__name__)

LOOPBACK = "127.0.0.1"
LONGEST_PAUSE = 0.5


class DevServer:
    """One ZooKeeper server on a thread of this process, for development and tests.

    Everything is kept in memory.  Use it as a context manager, or `start` and
    `stop` it; all methods may be called from any thread.

    Args:
        port: 0 for any that is free; it stays the same over `restart`.
        host: where to listen; loopback unless told otherwise, "" for all addresses.
        data: a file to keep everything in between runs, read if it is there; one
            server at a time may run with it.
        tick: seconds; sessions end at the end of one.
        session_timeouts: the shortest and the longest that is granted, in
            seconds; None for 2 and 20 ticks, as in ZooKeeper.
        clock: seconds, on a clock that only goes forward; tests bring their own.

    Raises:
        BadInput: there can be no such seconds, or the data file cannot be had or is none.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        host: str = LOOPBACK,
        data: Path | str | None = None,
        tick: float = 2.0,
        session_timeouts: tuple[float, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host, self.port, self.now = "" if host == "*" else host, port, clock
        _check_seconds("tick", tick)
        self._tick, self._timeouts = tick, _timeouts(tick, session_timeouts)
        self._file = None if data is None else DataFile(Path(data))
        self._lock = threading.RLock()  # whoever starts or ends a run has it
        self._run: Run | None = None
        self._process = 0  # whose the run is
        self._begin_anew()
        self._saver.load(now=clock())

    def _begin_anew(self) -> None:
        shortest, longest = self._timeouts
        first = time.time_ns() // 1_000_000
        sessions = Sessions(os.urandom(16), first, tick=self._tick, shortest=shortest, longest=longest)
        self.core = Server(sessions, Database(), epoch=(time.time() - self.now()) * 1000)
        self._saver = Saver(self._file, self.core.database, sessions)

    @property
    def hosts(self) -> str:
        """The connection string, for clients on this machine."""
        return str(Endpoint(from_here(self.host), self.port))

    # -- coming and going

    def start(self, prepare: Callable[[str], object] | None = None) -> Self:
        """Listen; the server answers when this returns.  Twice is fine.

        Args:
            prepare: is called before the server listens at its port, with a
                connection string that nobody else has; what it makes is there
                for the first client.  If it raises, the server does not start.

        Raises:
            BadAddress: it cannot listen there.
            BadInput: the data file cannot be had.
            WaitTimedOut: looking up the host takes too long.
        """
        with self._lock:
            if self._run is None:
                with contextlib.ExitStack() as undo:
                    self._saver.begin()
                    undo.callback(self._saver.end)
                    self._run = self._begin(prepare)
                    undo.pop_all()
                logger.info("devserver_started hosts=%s: for development and tests, not for production", self.hosts)
        return self

    def _begin(self, prepare: Callable[[str], object] | None) -> Run:
        core, now = self.core, self.now()
        self.core = Server(core.sessions, core.database, epoch=core.epoch, since=now)
        # Whoever was alive gets its whole timeout to come back in.
        for session in core.sessions.timeouts:
            core.sessions.touch(session, now=now)
        pause = min(self._tick / 4, LONGEST_PAUSE)
        run = Run(self.core, clock=self.now, pause=pause, also=self._saver.tick)
        try:
            self.port = run.start(self.host, self.port, aside=prepare is not None)
        except WaitTimedOut:
            raise
        except CANNOT_LISTEN as exc:
            raise self._not_listening(exc) from exc
        if prepare is not None:
            self._prepare(run, prepare)
        self._process = os.getpid()
        return run

    def _prepare(self, run: Run, prepare: Callable[[str], object]) -> None:
        with contextlib.ExitStack() as undo:
            undo.callback(run.end)
            prepare(str(Endpoint(LOOPBACK, run.side_door)))
            try:
                run.open()
            except OSError as exc:
                raise self._not_listening(exc) from exc
            undo.pop_all()

    def _not_listening(self, exc: Exception) -> BadAddress:
        reason = getattr(exc, "strerror", None) or exc
        knows_port = isinstance(exc, OSError) and exc.errno in (errno.EADDRINUSE, errno.EACCES)
        hint = "choose another port; 0 takes a free one" if knows_port else "name an address of this machine"
        return BadAddress(f"{Endpoint(self.host, self.port)}: {reason}", hint=hint)

    def stop(self) -> None:
        """Stop listening and keep what is to be kept.  Twice is fine.

        Raises:
            WaitTimedOut: it is still busy; nothing is lost, and it may be stopped again.
            BadInput: the data file cannot be written.
        """
        with self._lock:
            self._end(save=True)

    def kill(self) -> None:
        """Stop as after a power cut: connections break, nothing is saved now, sessions live on."""
        with self._lock:
            self._end()

    def restart(self) -> None:
        """Stop and start again, with everything that was there but the connections and watches."""
        with self._lock:
            self._end()
            self.start()

    def wipe(self) -> None:
        """Stop, forget everything, sessions too, and start again."""
        with self._lock:
            self._end()
            self._begin_anew()
            self.start()

    def pause(self) -> None:
        """Do nothing any more, with all connections open and silent, until `resume`.

        Raises:
            Closed: the server does not run.
        """
        self._running().pause()

    def resume(self) -> None:
        """Go on after `pause`."""
        run = self._run
        if run is not None:
            run.resume()

    def expire_session(self, session: int) -> None:
        """End a session as if its time were over.

        Raises:
            Closed: the server does not run.
            WaitTimedOut: it is paused, or has too much to do.
        """
        run, core = self._running(), self.core
        try:
            run.call(lambda: run.connections.carry_out(core.expire(session)))
        except TimeoutError as exc:
            raise WaitTimedOut(
                f"{self.hosts}: no answer in {PATIENCE:g} s", hint="if it is paused, resume() it"
            ) from exc

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _running(self) -> Run:
        run = self._run
        if run is None or self._process != os.getpid():
            raise Closed("this dev server does not run", hint="start() it")
        return run

    def _end(self, *, save: bool = False) -> None:
        if self._run is None:
            return
        if self._process != os.getpid():
            self._run = None  # it is the parent's, and so is the file
            return
        self._run.end()
        self._run = None
        try:
            if save:
                self._saver.save()
        except OSError as exc:
            raise BadInput(
                f"{self._file and self._file.path}: {exc.strerror}: what was written since is in memory alone",
                hint="make room, start() the server and stop() it again",
            ) from exc
        finally:
            self._saver.end()


def _timeouts(tick: float, wanted: tuple[float, float] | None) -> tuple[float, float]:
    """Return the shortest and the longest timeout that are granted."""
    if wanted is None:
        wanted = 2 * tick, 20 * tick
        _check_seconds("20 ticks", wanted[1], hint="choose a shorter tick, or session_timeouts")
    elif not isinstance(wanted, Sequence) or len(wanted) != 2:
        raise BadInput(f"session_timeouts: not two numbers: {wanted!r}", hint="give the shortest and the longest")
    shortest, longest = wanted
    _check_seconds("the shortest of session_timeouts", shortest)
    _check_seconds("the longest of session_timeouts", longest)
    if shortest > longest:
        raise BadInput(
            f"session_timeouts: the shortest, {shortest:g} s, is above the longest, {longest:g} s",
            hint="give the shortest first",
        )
    return shortest, longest


def _check_seconds(name: str, seconds: object, *, hint: str = "") -> None:
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not SHORTEST_TIMEOUT <= seconds <= LONGEST_TIMEOUT:  # type: ignore[operator]
        raise BadInput(
            f"{name}: no number of seconds that there can be: {seconds!r}",
            hint=hint or f"choose one from {SHORTEST_TIMEOUT} to {LONGEST_TIMEOUT:.0f}",
        )
