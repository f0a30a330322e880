from concurrent.futures import ThreadPoolExecutor

import pytest
from ZEO.ClientStorage import ClientStorage
from ZODB.DemoStorage import DemoStorage
from ZODB.MappingStorage import MappingStorage

from tests.conftest import wait_for
from zkfleet import zeo
from zkfleet.errors import Closed

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quiet")]


@pytest.fixture
def storage(server):
    storage = ClientStorage(server.address, wait_timeout=10)
    yield storage
    storage.close()


@pytest.fixture
def waiting(storage, server):
    """Somebody who waits, because the server is gone."""
    server.kill()
    wait_for(lambda: not storage.is_connected())
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(zeo.wait_until_connected, storage, 20)


def test_who_is_connected_need_not_wait(storage):
    assert zeo.wait_until_connected(storage, 0)


def test_who_waits_goes_on_when_the_connection_is_there(storage, server, waiting):
    server.start()
    assert waiting.result(20)
    assert storage.is_connected()


def test_who_waits_for_so_long_gives_up(storage, waiting):
    assert not zeo.wait_until_connected(storage, 0.05)
    storage.close()
    assert isinstance(waiting.exception(10), Closed)


def test_other_addresses_do_not_end_the_wait(storage, server, waiting):
    # ZEO itself fails all who wait when it is told of other addresses.
    storage.new_addr([("127.0.0.1", 1)])
    server.start()
    storage.new_addr([server.address])
    assert waiting.result(20)


def test_a_closed_storage_is_told(storage):
    storage.close()
    with pytest.raises(Closed):
        zeo.wait_until_connected(storage, 1)


def test_a_client_storage_is_found_under_what_is_wrapped_around_it(storage):
    assert zeo.client_storage(storage) is storage
    assert zeo.client_storage(DemoStorage(base=storage, close_base_on_close=False)) is storage
    assert zeo.client_storage(MappingStorage()) is None
