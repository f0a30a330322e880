"""Does a storage lose what was written to it when it is closed?

Then each start makes a new database.  The server tells this to its clients, so
that they do not refuse the new one for ever.  A storage of an unknown kind is
assumed to keep its data.
"""

from typing import Any

from ZEO.ClientStorage import ClientStorage
from ZODB.DemoStorage import DemoStorage

from zkfleet.zeo.described import TRANSIENT

# The kinds of storage that keep all in memory.  Exactly these: what is derived from one may keep it elsewhere.
IN_MEMORY = {"ZODB.MappingStorage.MappingStorage", "tempstorage.TemporaryStorage.TemporaryStorage"}
# The attribute in which a storage around another one has it.
_WRAPPED = {
    "ZODB.blob.BlobStorage": "_BlobStorage__storage",
    "zc.zlibstorage.ZlibStorage": "base",
    "zc.zlibstorage.ServerZlibStorage": "base",
}


def is_transient(storage: Any) -> bool:
    """Tell whether a storage loses all that was written to it when it is closed: each start makes a new database."""
    if isinstance(storage, ClientStorage):
        return storage._info.get(TRANSIENT) is True
    kind = f"{type(storage).__module__}.{type(storage).__name__}"
    if kind in IN_MEMORY:
        return True
    inner = "changes" if isinstance(storage, DemoStorage) else _WRAPPED.get(kind)
    return inner is not None and is_transient(getattr(storage, inner))
