"""What is said on one connection, and what does it mean?

Pure: bytes in, orders out, however the bytes were cut.  A line is a command
and its arguments; one is answered, then the connection is closed, unless the
answer says otherwise.  Nothing more is read out of the input while a command
is under way, so answers come in the order of the questions.

Kept from zc.monitor: an empty line repeats the last command, a command may
claim all further lines, and what comes after the end is ignored.
"""

import hmac
from dataclasses import dataclass

from zkfleet.monitor.answers import Mode
from zkfleet.monitor.asking import Call, Reply, naming


@dataclass(frozen=True, slots=True)
class Run:
    """Run a command, and say what came of it with `Conversation.answered`."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Make:
    """Make a call that the conversation has found itself, and say what came of it with `Conversation.answered`."""

    call: Call


@dataclass(frozen=True, slots=True)
class Send:
    """Write this to the client."""

    text: str | bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection when all is written."""


Order = Run | Make | Send | Close


class Conversation:
    """One connection's.

    Args:
        longest: bytes that a line may have.
        token: what the first line must hold, as `token XXXX`; "" for no need of one.

    Attributes:
        mode: what becomes of the connection after the next command.
    """

    def __init__(self, *, longest: int, token: str = "") -> None:
        self.mode = Mode.QUIT
        self._longest, self._token = longest, token
        self._input, self._at = b"", 0  # what was received, and how much of it was taken
        self._last: tuple[str, ...] = ()
        self._is_first = True
        self._runs = self._ended = self._over = False

    def received(self, data: bytes) -> list[Order]:
        """Take what the client sent."""
        if self._over:
            return []
        self._input, self._at = self._input[self._at :] + data, 0
        return self._go_on()

    def ended(self) -> list[Order]:
        """The client sends no more.  A line that it did not finish is none: it may have been meant to be longer."""
        self._ended = True
        return self._go_on()

    def answered(self, reply: Reply) -> list[Order]:
        """Take the answer to the command that was run."""
        self._runs = False
        self.mode = reply.mode or self.mode
        said: list[Order] = [Send(reply.text)] if reply.text else []
        return said + (self._close() if self.mode is Mode.QUIT else self._go_on())

    def refused(self, text: str) -> list[Order]:
        """Say to a client that is not let in why it is not."""
        return self._refuse(text)

    def fell_silent(self, text: str) -> list[Order]:
        """Say to a client of whom nothing is heard why it is closed."""
        return self._refuse(text)

    def _go_on(self) -> list[Order]:
        orders: list[Order] = []
        while not (self._runs or self._over):
            end = self._input.find(b"\n", self._at)
            if (len(self._input) if end < 0 else end) - self._at > self._longest:
                orders += self._refuse(f"a line of more than {self._longest} bytes")
            elif end >= 0:
                line, self._at = self._input[self._at : end], end + 1
                orders += self._take(line.decode("utf-8", "backslashreplace").split())
            elif self._ended:
                orders += self._close()
            else:
                break
        return orders

    def _take(self, words: list[str]) -> list[Order]:
        is_first, self._is_first = self._is_first, False
        if is_first and (self._token or words[:1] == ["token"]):
            return self._admit(words)
        if self.mode is Mode.MORE:
            words = [*naming(self._last), *words]
        elif words:
            self._last = tuple(words)
        elif self._last:
            words = list(self._last)
        else:
            return []
        self._runs = True
        return [Run(tuple(words))]

    def _admit(self, words: list[str]) -> list[Order]:
        given = " ".join(words[1:]) if words[:1] == ["token"] else ""
        # Without a need for one any will do: a client has the same for the whole fleet.
        if self._token and not hmac.compare_digest(given.encode(), self._token.encode()):
            return self._refuse("no such token: the first line is to be `token XXXX`")
        return []

    def _refuse(self, text: str) -> list[Order]:
        return [Send(f"{text}\n"), *self._close()]

    def _close(self) -> list[Order]:
        self._over, self._input, self._at = True, b"", 0
        return [Close()]
