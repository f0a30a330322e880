"""From where does a server count when it gives object ids to new objects?

ZEO's clients keep ids by the hundred, and nobody writes down which were given.
A storage that is opened counts on from its last committed object, and so gives
again what the former server gave.  ZODB then takes two objects for one: commits
fail, and what hangs below the confused one can be lost in silence.  So a server
skips ahead, each by a random distance: also two that open the same data differ.
"""

import secrets
from typing import Any

from ZODB.utils import p64, u64, z64

# An id has 64 bits: there is room for more than ten million starts.  That two
# skip to within a million of each other happens once in 500,000 times.
LONGEST_SKIP = 2**40


def skip_given_oids(storage: Any) -> None:
    """Have a storage give ids that no server before gave.

    An empty storage is left as it is: nothing was given of it that is in use.
    So is one that keeps the account itself, as RelStorage does in its database,
    and one in memory, which is another database at each start.

    Args:
        storage: open, and served by nobody yet.
    """
    # `BaseStorage` of ZODB, which FileStorage is, counts in `_oid`.
    raise_to = getattr(storage, "set_max_oid", None)
    if raise_to is not None and not storage.isReadOnly() and storage.lastTransaction() not in (None, z64):
        raise_to(p64(u64(storage.new_oid()) + secrets.randbelow(LONGEST_SKIP)))
