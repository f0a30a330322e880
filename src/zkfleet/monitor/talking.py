"""Who is connected, and how are the orders of a conversation carried out?

A `Switchboard` is one monitor's: its limits, its commands, all its connections.
A `Talk` is one connection's: it hands bytes to its `Speech`, a `Conversation`
unless another protocol is spoken, and does what that orders.  All live on one
loop's thread, whichever loop that is: a door brings a `Wire` for each
connection and a `Clock`, and nothing else.

What always holds: nobody is run a command before having read the answer to the
one before, so what waits to be read is bounded by the number of connections.
"""

from collections.abc import Callable
from typing import Protocol

from zkfleet.errors import BadInput
from zkfleet.monitor.answers import Mode
from zkfleet.monitor.asking import Call, Reply, call, refusal
from zkfleet.monitor.conversation import Close, Conversation, Make, Order, Run
from zkfleet.monitor.limits import Limits
from zkfleet.monitor.running import Job, Running
from zkfleet.spelling import get_logger

logger = get_logger(__name__)

TURN = 16
SECONDS_BETWEEN_SWEEPS = 1.0


class Wire(Protocol):
    """One connection, as a door brings it.

    Attributes:
        is_local: it is a Unix socket, whose other end is this user's.
    """

    is_local: bool

    @property
    def unread(self) -> int:
        """Bytes that were written and that nobody has taken yet; `Talk.drained` is called when it is 0 again."""

    def write(self, data: bytes) -> None:
        """Write now, or when there is room."""

    def close(self) -> None:
        """Close when all is written; `Talk.lost` follows."""

    def abort(self) -> None:
        """Close at once; `Talk.lost` follows."""

    def leave_to_parent(self) -> None:
        """In a forked child: close the socket here, and do nothing that the parent notices."""

    def pause(self) -> None:
        """Hand over no more input."""

    def resume(self) -> None:
        """Hand over input again."""


class Clock(Protocol):
    """A loop's, as a door brings it."""

    def now(self) -> float:
        """Return seconds on a clock that only goes forward."""

    def later(self, seconds: float, function: Callable[[], None]) -> Callable[[], object]:
        """Call a function on the loop's thread after some seconds; returns what prevents it."""

    def from_thread(self, function: Callable[[], None]) -> None:
        """Call a function on the loop's thread, soon; this may be called on any thread."""


class Speech(Protocol):
    """What is said on one connection, in some protocol; pure.

    Attributes:
        mode: what becomes of the connection after the next answer.
    """

    mode: Mode

    def received(self, data: bytes) -> list[Order]:
        """Take what the client sent."""

    def ended(self) -> list[Order]:
        """The client sends no more."""

    def answered(self, reply: Reply) -> list[Order]:
        """Take the answer to what was ordered."""

    def refused(self, text: str) -> list[Order]:
        """Say to a client that is not let in why it is not, and close."""

    def fell_silent(self, text: str) -> list[Order]:
        """Say to a client of whom nothing is heard why it is closed, and close."""


Speak = Callable[[], Speech]
"""Begins with a connection."""


class Switchboard:
    """All connections of one door.

    Args:
        running: what runs the commands.
        clock: the loop's.
        speak: which protocol is spoken; None for lines, and no need of a token.

    Attributes:
        talks: those that are open.
        answered: commands that were asked, ever.
    """

    def __init__(self, running: Running, clock: Clock, speak: Speak | None = None) -> None:
        self.running, self.clock = running, clock
        self.limits: Limits = running.limits
        self.speak: Speak = speak or (lambda: Conversation(longest=self.limits.line))
        self.talks: set[Talk] = set()
        self.answered = 0
        self._no_sweep: Callable[[], object] | None = None

    def take_in(self, talk: "Talk", *, is_welcome: bool = True) -> None:
        """Begin with a connection that is open; a stranger is told that it is none of its own."""
        if not is_welcome:
            logger.warning("client_refused reason=it is of another user")
            talk.refuse("this monitor answers its own user")
            return
        if len(self.talks) >= self.limits.connections and not self._made_room():
            talk.refuse(f"all {self.limits.connections} connections are taken")
            return
        self.talks.add(talk)
        if self._no_sweep is None:
            self._no_sweep = self.clock.later(self._pause, self._sweep)

    def close(self) -> None:
        """Break all connections."""
        if self._no_sweep is not None:
            self._no_sweep()
        for talk in list(self.talks):
            talk.wire.abort()

    def leave_to_parent(self) -> None:
        """In a forked child: keep no connection of the parent's open."""
        for talk in self.talks:
            talk.wire.leave_to_parent()

    @property
    def unread(self) -> int:
        """Bytes that wait for clients to read them."""
        return sum(talk.wire.unread for talk in self.talks)

    @property
    def _pause(self) -> float:
        return min(SECONDS_BETWEEN_SWEEPS, self.limits.idle / 4, self.limits.interactive_idle / 4)

    def _made_room(self) -> bool:
        """Tell whether somebody could be closed who only holds a connection open."""
        silent = [talk for talk in self.talks if talk.is_silent]
        if silent:
            longest = min(silent, key=lambda talk: talk.heard)
            self.talks.discard(longest)
            longest.wire.abort()
        return bool(silent)

    def _sweep(self) -> None:
        now = self.clock.now()
        for talk in list(self.talks):
            talk.sweep(now)
        self._no_sweep = self.clock.later(self._pause, self._sweep) if self.talks else None


class Talk:
    """One connection; its door tells it what happens, and it tells the door's wire what to do.

    Attributes:
        wire: its door's.
        heard: when the client last said or read something.
    """

    def __init__(self, board: Switchboard, wire: Wire) -> None:
        self.wire, self.heard = wire, board.clock.now()
        self._board = board
        self._speech = board.speak()
        self._job: Job | None = None
        self._forget: Callable[[], object] = lambda: None  # the job's deadline
        self._waiting: Run | Make | None = None  # until the client has read, or others had their turn
        self._closes = self._is_lost = self._is_paused = False

    @property
    def is_silent(self) -> bool:
        """Nothing was asked that is not answered, and the client has not said that it stays."""
        return not (self._job or self._waiting) and self._speech.mode is Mode.QUIT

    # -- told by the door

    def received(self, data: bytes) -> None:
        """The client sent something."""
        self.heard = self._board.clock.now()
        asks_on = self._job is not None or self._waiting is not None
        self._carry_out(self._speech.received(data))
        if asks_on and not self._is_paused and not self._is_lost:
            # It does not wait for its answer: one piece of that is enough.
            self._is_paused = True
            self.wire.pause()

    def ended(self) -> None:
        """The client will send no more, and may still read."""
        self._carry_out(self._speech.ended())

    def progressed(self) -> None:
        """The client read something."""
        self.heard = self._board.clock.now()

    def drained(self) -> None:
        """The client has read everything."""
        self.progressed()
        self._go_on()

    def lost(self) -> None:
        """The connection is gone."""
        self._is_lost = True
        self._forget()
        if self._job is not None:
            self._job.given_up = True
        self._board.talks.discard(self)

    # -- told by the switchboard

    def refuse(self, text: str) -> None:
        """Say why it is not let in, and close."""
        self._carry_out(self._speech.refused(text))

    def sweep(self, now: float) -> None:
        """Close a connection on which nothing happens."""
        if self._job is not None:
            return
        stays = self._speech.mode is not Mode.QUIT and not self._closes
        idle = self._board.limits.interactive_idle if stays else self._board.limits.idle
        if now - self.heard <= idle:
            return
        if self._closes or self.wire.unread:
            self.wire.abort()
        else:
            self.heard = now
            self._carry_out(self._speech.fell_silent(f"closed after {idle:g} s of silence"))

    # -- what the conversation orders

    def _carry_out(self, orders: list[Order]) -> None:
        turns = 0
        while orders and not (self._is_lost or self._closes):
            order, *orders = orders
            if isinstance(order, Run | Make):
                turns += 1
                if self.wire.unread or turns > TURN:
                    self._wait(order)
                    return
                orders = self._run(order)
            elif isinstance(order, Close):
                self._closes = True
                self.wire.close()
            else:
                self._write(order.text)

    def _wait(self, order: Run | Make) -> None:
        self._waiting = order
        if not self.wire.unread:
            self._board.clock.later(0, self._go_on)

    def _go_on(self) -> None:
        if self._waiting is not None and not self.wire.unread and not self._is_lost:
            order, self._waiting = self._waiting, None
            self._carry_out([order])
            self._listen_again()

    def _listen_again(self) -> None:
        if self._is_paused and not (self._job or self._waiting or self._closes or self._is_lost):
            self._is_paused = False
            self.wire.resume()

    def _write(self, text: str | bytes) -> None:
        self.wire.write(text if isinstance(text, bytes) else text.encode("utf-8", "backslashreplace"))
        self.progressed()
        if self.wire.unread and self._board.unread > self._board.limits.unread:
            logger.warning("client_dropped unread=%d reason=clients have not read their answers", self.wire.unread)
            self.wire.abort()

    def _run(self, order: Run | Make) -> list[Order]:
        running = self._board.running
        self._board.answered += 1
        if isinstance(order, Make):
            return self._make(order.call)
        try:
            return self._make(call(running.commands, order.words, actions=running.actions))
        except BadInput as exc:
            return self._speech.answered(refusal(order.words, exc))

    def _make(self, asked: Call) -> list[Order]:
        running = self._board.running
        show = self.wire.is_local and self._speech.mode is not Mode.QUIT
        if not asked.command.blocks:
            return self._speech.answered(running.now(asked, show_traceback=show))
        job = running.begin(asked, self._tell, show_traceback=show)
        if job is None:
            return self._speech.answered(running.full(asked))
        self._job = job
        self._forget = self._board.clock.later(job.seconds, self._give_up)
        return []

    def _tell(self, job: Job, reply: Reply) -> None:
        """On the job's thread: hand the reply over."""
        self._board.clock.from_thread(lambda: self._end(job, reply))

    def _give_up(self) -> None:
        if self._job is not None:
            self._end(self._job, self._board.running.late(self._job))

    def _end(self, job: Job, reply: Reply) -> None:
        if self._job is not job or self._is_lost:
            return  # it had been given up
        self._job = None
        self._forget()
        self.heard = self._board.clock.now()
        self._carry_out(self._speech.answered(reply))
        self._listen_again()
