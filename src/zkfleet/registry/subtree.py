"""What is there, at a node and everywhere below it?

One reading for export, plans, deletion and the doctor.  It goes down level by
level, each level in one batch: first the data, then the children's names of
those nodes that have any.  A node that disappears on the way is left out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from zkfleet.errors import AccessDenied
from zkfleet.registry.reads import Batch, GetChildren, GetData, Reading, Unreadable, Znode

SYSTEM = "/zookeeper"


@dataclass(frozen=True, slots=True)
class Subtree:
    """Znodes as they were read.

    Attributes:
        znodes: by real path, parents before children.
        refused: nodes that we may not read, and know nothing of what is below.
    """

    znodes: Mapping[str, Znode]
    refused: tuple[str, ...] = ()

    def only_readable(self) -> Mapping[str, Znode]:
        """Return the znodes if all could be read.

        Raises:
            AccessDenied: one could not.
        """
        if self.refused:
            raise AccessDenied(self.refused[0], "read")
        return self.znodes


def read_subtree(tops: Iterable[str]) -> Reading[Subtree]:
    """Read some nodes and all below them; `/zookeeper` below the root is left out."""
    level = [path for path in tops if path != SYSTEM]
    found: dict[str, Znode] = {}
    refused: list[str] = []
    while level:
        answer = yield Batch(tuple(map(GetData, level)))
        parents = []
        for path, reply in zip(level, answer.replies, strict=True):
            if isinstance(reply, Znode):
                found[path] = reply
                if reply.stat.num_children:
                    parents.append(path)
            elif reply is Unreadable.REFUSED:
                refused.append(path)
        level = []
        if parents:
            answer = yield Batch(tuple(map(GetChildren, parents)))
            for parent, names in zip(parents, answer.replies, strict=True):
                if isinstance(names, tuple) and not isinstance(names, Znode):
                    prefix = "" if parent == "/" else parent
                    level += [path for name in sorted(names) if (path := f"{prefix}/{name}") != SYSTEM]
    return Subtree(found, tuple(refused))
