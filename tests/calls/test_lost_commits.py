"""Calls whose connection is lost whenever they are made, through every door."""

import asyncio
import logging
import resource
import time
from dataclasses import replace

import pytest
from ZEO.Exceptions import ClientDisconnected
from ZODB import DB
from ZODB.MappingStorage import MappingStorage

from tests.calls.conftest import get, put
from tests.calls.things import Counter
from tests.conftest import wait_for
from tests.zeo.asked import ZeoServer
from tests.zeo.linked import opened
from zkfleet import calls
from zkfleet.calls import threads
from zkfleet.calls.asyncio import call
from zkfleet.calls.pool import pool_of
from zkfleet.calls.twisted import Partial

HASTY = calls.Policy(conflict_delay=0, max_conflict_delay=0)


def of_threads(_running, function, *args, policy):
    return threads.run(function, *args, policy=policy)


def of_asyncio(_running, function, *args, policy):
    return asyncio.run(call(function, *args, policy=policy))


def of_twisted(running, function, *args, policy):
    return running.ask(Partial(function, *args, policy=policy, reactor=running.reactor, threads=True))


def of_a_reactors_thread(running, function, *args, policy):
    return running.ask(Partial(function, *args, policy=policy, reactor=running.reactor, threads=False))


@pytest.fixture(params=[of_threads, of_asyncio, of_twisted, of_a_reactors_thread])
def make(request, running):
    """Makes a call through a door."""
    return lambda *args, policy=HASTY: request.param(running, *args, policy=policy)


def ref_of(db):
    with db.transaction() as connection:
        return calls.ref(connection.root()["counter"])


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A database on a server that cannot write files of more than 64 kB."""
    for name in ("ZEO", "txn"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    with ZeoServer(tmp_path_factory.mktemp("full")) as server:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (65536, 65536))
        db = opened(server.address)
        yield db
        db.close()
    for name in ("ZEO", "txn"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def grow(counter):
    counter.more = b"x" * 1_000_000
    return counter.add()


@pytest.mark.slow
@pytest.mark.faults
def test_a_call_whose_transaction_the_server_cannot_take_ends_with_the_cause(full, make):
    put(full, counter=Counter())
    before = calls.statistics().attempts
    with pytest.raises(ClientDisconnected) as caught:
        make(Counter.run, ref_of(full), grow)
    assert calls.statistics().attempts - before == 5
    assert "lost 5 times while this call committed" in caught.value.__notes__[0]
    assert "file size" in caught.value.__notes__[0]
    assert pool_of(full).in_flight == 0
    wait_for(full.storage.is_connected)
    assert make(Counter.add, ref_of(full)) == 1
    assert get(full) == 1


class Away(MappingStorage):
    """A storage that is not connected, and no client of ZEO's."""

    is_away = False

    def loadBefore(self, oid, tid):
        if self.is_away:
            raise ClientDisconnected("away")
        return super().loadBefore(oid, tid)


@pytest.fixture
def unwatched():
    db = DB(Away())
    put(db, counter=Counter())
    yield db
    db.close()


def lose(db):
    ref = ref_of(db)
    db.cacheMinimize()
    db.storage.is_away = True
    return ref


def test_a_database_that_cannot_say_when_it_is_back_is_not_asked_without_pause(unwatched, make):
    ref, began = lose(unwatched), time.monotonic()
    with pytest.raises(ClientDisconnected):
        make(Counter.add, ref, policy=replace(HASTY, max_errors={ClientDisconnected: 6}))
    # Half of 0.01, 0.02, 0.04, 0.08 and 0.16 s, at least.
    assert time.monotonic() - began > 0.15


@pytest.mark.slow
def test_a_call_goes_on_soon_after_such_a_database_is_back(unwatched, running):
    ref = lose(unwatched)
    before = calls.statistics().disconnect_waits
    future = running.begin(Partial(Counter.add, ref, policy=HASTY, reactor=running.reactor))
    wait_for(lambda: calls.statistics().disconnect_waits > before + 3)
    unwatched.storage.is_away, began = False, time.monotonic()
    assert future.result(60) == 1
    assert time.monotonic() - began < 2
