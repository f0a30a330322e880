"""What ZODB asks of a client storage: to begin once, in time, and in which order."""

import threading
import time
from contextlib import closing

import pytest
from ZEO.Exceptions import ClientDisconnected
from ZODB.POSException import StorageTransactionError

import zkfleet.zeo
from tests.zeo import making

pytestmark = pytest.mark.slow


def test_beginning_waits_for_server_and_gate_no_longer_than_for_one(fleet, zeo):
    server = zeo()
    with closing(zkfleet.zeo.client(fleet, "/db", wait=False, wait_timeout=2)) as storage:
        storage._boundary.close()
        later = threading.Timer(1.5, fleet.register, ["/db", server.address])
        later.start()
        began = time.monotonic()
        with pytest.raises(ClientDisconnected, match="change to another server"), making.a_transaction(storage):
            pass
        assert time.monotonic() - began < 3
        later.join()


def test_a_transaction_that_begins_twice_is_under_way_still(fleet, zeo):
    fleet.register("/db", zeo().address)
    with closing(zkfleet.zeo.client(fleet, "/db")) as storage:
        with making.a_transaction(storage) as t:
            with pytest.raises(StorageTransactionError, match="Duplicate tpc_begin"):
                storage.tpc_begin(t)
            assert not storage._boundary.is_empty
            storage._boundary.close()
            with pytest.raises(StorageTransactionError, match="Duplicate tpc_begin"):
                storage.tpc_begin(t)
            storage._boundary.open()
        assert storage._boundary.is_empty
