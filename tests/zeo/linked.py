"""A real ZEO server, and databases that are clients of it: fixtures, for `conftest`s to import."""

import logging

import pytest
from ZEO.ClientStorage import ClientStorage
from ZODB import DB

from tests.zeo.asked import Losing, ZeoServer


def opened(address, **options):
    """A database on a server; whoever calls closes it."""
    return DB(ClientStorage(address, wait_timeout=10, **options))


@pytest.fixture
def quiet():
    """What ZEO and transactions log of lost connections is expected."""
    loggers = [logging.getLogger(name) for name in ("ZEO", "txn")]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    yield
    for logger in loggers:
        logger.setLevel(logging.NOTSET)


@pytest.fixture
def server(tmp_path):
    with ZeoServer(tmp_path) as server:
        yield server


@pytest.fixture
def link(server):
    with Losing(server.port) as link:
        yield link


@pytest.fixture
def linked(link):
    """A database that comes over the link."""
    db = opened(link.address)
    yield db
    db.close()


@pytest.fixture
def other(server):
    """Somebody who comes directly."""
    db = opened(server.address)
    yield db
    db.close()
