"""What the Zope instances of a soak publish: orders that are added, and shown.

An order is twelve new objects, one of them a blob, so a commit needs more oids
than a failover may spoil.  It counts one of a few counters up, so commits
conflict.  Zope runs a request again after `ClientDisconnected`, also when the
commit happened and only its reply was lost; so an order has a name, and one
that is there is not added again.  See docs/zeo.md, "Was it committed?".
"""

import transaction
from BTrees.OOBTree import OOBTree
from persistent.list import PersistentList
from persistent.mapping import PersistentMapping
from Products.Five.browser import BrowserView
from ZODB.blob import Blob

COUNTERS = 4
ITEMS = 10
ADDED, THERE = "added", "there already"
BLOB_BYTES = 4096


def prepare(root):
    """Make what requests change."""
    root["orders"] = OOBTree()
    root["counters"] = PersistentMapping({number: PersistentMapping(value=0) for number in range(COUNTERS)})


def contents(name):
    """Return the bytes of the blob of an order."""
    return (name.encode() + b"\n") * (BLOB_BYTES // len(name))


def is_whole(name, order):
    """Tell whether an order has all that was added with it."""
    with order["blob"].open() as file:
        return [item["number"] for item in order["items"]] == list(range(ITEMS)) and file.read() == contents(name)


class Orders(BrowserView):
    """The pages; `name` in the form is `CLIENT:NUMBER`."""

    def add(self):
        """Add an order, and say whether it was there."""
        name, root = self.request.form["name"], self.context._p_jar.root()
        if name in root["orders"]:
            return THERE
        blob = Blob()
        with blob.open("w") as file:
            file.write(contents(name))
        items = PersistentList(PersistentMapping(number=number) for number in range(ITEMS))
        root["orders"][name] = PersistentMapping(items=items, blob=blob)
        root["counters"][hash(name) % COUNTERS]["value"] += 1
        transaction.get().note(name)
        return ADDED

    def show(self):
        """Say of an order whether it is whole; one that is not there is an error."""
        name = self.request.form["name"]
        return f"{is_whole(name, self.context._p_jar.root()['orders'][name])}"
