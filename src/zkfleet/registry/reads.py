"""What can be asked of ZooKeeper in one breath, and what comes back?

A *reading* is a generator that knows what it needs to see and nothing about
how it gets there: it yields a `Batch` and is sent the replies, in the order
asked, until it returns its result.  Every batch is one `multiRead`: one round
trip, one point in time.  The same reading is run by a blocking call, by the
hub's thread or from a dictionary in a test (`read_from`).  No I/O here.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import NamedTuple, TypeVar

# Our own znodes, at the root of a chroot: see `marks`.  Lists of children leave them out.
MARKS = ".zkfleet"


class Stat(NamedTuple):
    """What ZooKeeper knows of a znode besides its data; times in ms since 1970.

    Source: ZooKeeper Programmer's Guide, "ZooKeeper Stat Structure".
    """

    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    ephemeral_owner: int
    data_length: int
    num_children: int
    pzxid: int


@dataclass(frozen=True, slots=True)
class GetData:
    """Ask for a znode's data and stat; answered by `Znode`."""

    path: str


@dataclass(frozen=True, slots=True)
class GetChildren:
    """Ask for the names of a znode's children, without `MARKS`; answered by a tuple of names."""

    path: str


class Znode(NamedTuple):
    """A znode as it was at the batch's zxid."""

    data: bytes
    stat: Stat


class Unreadable(Enum):
    """Why one read of a batch has no answer; the values are ZooKeeper's error codes."""

    MISSING = -101
    REFUSED = -102
    OTHER = 0


class Mode(IntEnum):
    """How far a watch looks: at one znode and its list of children, or at all below too.

    Source: ZooKeeper 3.6 `AddWatchMode`.
    """

    PERSISTENT = 0
    RECURSIVE = 1


@dataclass(frozen=True, slots=True)
class Watch:
    """Tell us of changes at `path` from before this batch is read on."""

    path: str
    mode: Mode = Mode.PERSISTENT


class Event(IntEnum):
    """What a watch reports; the values are ZooKeeper's."""

    CREATED = 1
    DELETED = 2
    CHANGED = 3
    CHILDREN = 4


Read = GetData | GetChildren
Reply = Znode | tuple[str, ...] | Unreadable


@dataclass(frozen=True, slots=True)
class Batch:
    """Reads that are answered together, after `watch` is in place.

    A caller that does not follow changes ignores `watch`.
    """

    reads: tuple[Read, ...]
    watch: tuple[Watch, ...] = ()


class Answer(NamedTuple):
    """The replies to a batch and the zxid of the state that they show; `whole` if that is one state."""

    replies: tuple[Reply, ...]
    zxid: int
    whole: bool = True


T = TypeVar("T")
Progress = Callable[[int, int], None]
Reading = Generator[Batch, Answer, T]


def read_from(reading: Reading[T], answer: Callable[[Batch], Answer]) -> T:
    """Run a reading to its end with a function that answers batches."""
    try:
        batch = next(reading)
        while True:
            batch = reading.send(answer(batch))
    except StopIteration as end:
        result: T = end.value
        return result
