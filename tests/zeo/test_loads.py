import logging
from contextlib import closing

import pytest
from persistent.mapping import PersistentMapping
from ZEO.Exceptions import ClientDisconnected
from ZODB.POSException import POSKeyError

import zkfleet.zeo
from tests.conftest import wait_for
from zkfleet.zeo.loads import LOGGER


def records(caplog):
    return [record for record in caplog.records if record.name == LOGGER]


@pytest.mark.slow
def test_a_load_without_a_server_is_one_line_with_the_reason(fleet, zeo, caplog):
    server = zeo()
    registration = fleet.register("/db", server.address)
    with closing(zkfleet.zeo.DB(fleet, "/db", wait_timeout=20)) as db:
        with db.transaction() as connection:
            connection.root.other = PersistentMapping(a=1)
        with closing(db.open()) as connection:
            connection.cacheMinimize()
            db.storage._cache.clear()
            server.kill()
            registration.close()
            wait_for(lambda: not db.storage.is_connected())
            db.storage._server.timeout = 0.2  # it has been opened, and need not wait any more
            with pytest.raises(ClientDisconnected) as raised:
                connection.root()["other"]
    [record] = records(caplog)
    assert (record.levelno, record.exc_info, record.exc_text) == (logging.WARNING, None, None)
    words = f"Couldn't load state for persistent.mapping.PersistentMapping 0x00: {raised.value}"
    assert record.getMessage() == words
    assert str(raised.value)


@pytest.mark.slow
def test_a_damaged_object_keeps_its_traceback(fleet, zeo, caplog):
    with (
        fleet.register("/db", zeo().address),
        closing(zkfleet.zeo.DB(fleet, "/db", wait_timeout=5)) as db,
        closing(db.open()) as connection,
    ):
        ghost = PersistentMapping.__new__(PersistentMapping)
        ghost._p_jar, ghost._p_oid = connection, b"\0" * 7 + b"\x77"
        ghost._p_changed = None
        with pytest.raises(POSKeyError):
            ghost._p_activate()
        ghost._p_jar = None
    [record] = records(caplog)
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
