"""How many nodes are asked for at once, so that the answer presses no server down?

A server makes the whole answer to a `multiRead` in its memory, and dies if that is too little; then the next member is
asked the same.  Nobody tells before how heavy nodes are.  So a few are read first, and then as many as are likely to
weigh `BYTES_AT_ONCE`, by what was seen last.  Pure but for asking.
"""

from collections.abc import Sequence

from zkfleet.registry.reads import Answer, Batch, Read, Reading, Reply, Znode

FIRST = 16
MOST = 5000
BYTES_AT_ONCE = 1_000_000
# Light nodes may be followed by heavy ones.
FASTER = 4
ABOUT_A_STAT = 68
ABOUT_A_REPLY = 16


class Portions:
    """How many reads of one kind are asked for next."""

    def __init__(self) -> None:
        self.size = FIRST

    def read(self, answer: Answer) -> None:
        """Take note of what came for the last portion."""
        count = max(len(answer.replies), 1)
        bearable = BYTES_AT_ONCE * count // max(weigh(answer.replies), 1)
        trusted = FASTER * count if count >= FIRST else FIRST
        self.size = max(1, min(bearable, trusted, MOST))


def weigh(replies: Sequence[Reply]) -> int:
    """Return about how many bytes replies took."""
    return sum(ABOUT_A_REPLY + _weight(reply) for reply in replies)


def _weight(reply: Reply) -> int:
    if isinstance(reply, Znode):
        return len(reply.data) + ABOUT_A_STAT
    return sum(4 + len(name) for name in reply) if isinstance(reply, tuple) else 0


def next_portion(reads: Sequence[Read], portions: Portions) -> Reading[Answer]:
    """Read the first of some nodes, as many as go at once."""
    answer = yield Batch(tuple(reads[: portions.size]))
    portions.read(answer)
    return answer
