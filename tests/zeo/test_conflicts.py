"""A server that lacks the class of an object over which clients conflict."""

import contextlib
import sys
import types

import pytest
import transaction
import ZEO
from persistent import Persistent
from ZODB import ConflictResolution
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError

from tests.zeo import making
from zkfleet.zeo.conflicts import LOGGER


class Adder(Persistent):
    """Resolves conflicts, where it can be imported."""

    def __init__(self, **state):
        self.__dict__.update(n=0, **state)

    def _p_resolveConflict(self, old, saved, new):
        return new | {"n": saved["n"] + new["n"] - old["n"]}


class Value:
    """A part of an object's state."""


def a_module(name, **classes):
    """A module that this process has and a server process has not."""
    module = types.ModuleType(name)
    for kind, base in classes.items():
        setattr(module, kind, type(kind, (base,), {"__module__": name}))
    return module


@pytest.fixture
def shop(monkeypatch):
    module = a_module("zkfleet_shop", Cart=Adder, Price=Value)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.fixture
def broken(monkeypatch):
    """One that the server has as well, where it cannot be imported."""
    module = a_module("zkfleet_broken", Till=Adder)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def conflict(database, name):
    """Change an object twice at once; tell whether that was an error."""
    managers = [transaction.TransactionManager() for _ in range(2)]
    for connection in [database.open(manager) for manager in managers]:
        connection.root()[name].n += 1
    managers[0].commit()
    try:
        managers[1].commit()
    except ConflictError:
        return True
    finally:
        managers[1].abort()
    return False


@contextlib.contextmanager
def a_database(folder):
    """Served by this process, out of a file, which resolves conflicts."""
    with (
        making.a_server(FileStorage(str(folder / "Data.fs"))) as server,
        contextlib.closing(ZEO.DB(server.acceptor.addr)) as database,
    ):
        yield database


def fill(database, **objects):
    with database.transaction() as connection:
        connection.root().update(objects)


def told(text):
    return [line for line in text.splitlines() if "conflict_not_resolved" in line]


@pytest.mark.slow
def test_a_class_that_the_server_lacks_is_named_once(shop, broken, hosts, registry, tmp_path):
    registry.import_tree("/databases\n  /main\n")
    (tmp_path / "zkfleet_broken.py").write_text("raise RuntimeError('no till at all')\n")
    place = ("127.0.0.1", making.free_port())
    storage = making.a_filestorage(tmp_path / "Data.fs", "main")
    config = making.a_config(address=f"127.0.0.1:{place[1]}", zookeeper=hosts, storage=storage)
    with making.ServerProcess(tmp_path, config) as server:
        server.says("listening")
        with contextlib.closing(ZEO.DB(place, storage="main")) as database:
            fill(database, cart=shop.Cart(), till=broken.Till())
            assert [conflict(database, name) for name in ["cart", "till"] * 3] == [True] * 6
        cart, till = told(server.log)
        assert "WARNING zkfleet.zeo.conflicts conflict_not_resolved" in cart
        assert "class=zkfleet_shop.Cart storage=main reason=not installed: " in cart
        assert "class=zkfleet_broken.Till storage=main reason=RuntimeError('no till at all'): " in till
        for line in cart, till:
            assert "install the class's package on the server and restart it" in line
            assert "client-conflict-resolution true" in line
        assert "Traceback" not in server.log
        assert "Unexpected error" not in server.log


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda shop: shop.Cart(), "Cart"),
        (lambda shop: Adder(price=shop.Price()), "Price"),
        (lambda shop: Adder(price=shop.Price), "Price"),
        (lambda shop: Adder(cart=shop.Cart()), None),
    ],
    ids=["the object's", "that of a part", "one that is only mentioned", "that of another object"],
)
def test_whatever_class_is_missing_is_named(shop, monkeypatch, caplog, tmp_path, make, name):
    # The server is in this process: it is made to believe that it has looked for them.
    missing = {("zkfleet_shop", "Cart"): 1, ("zkfleet_shop", "Price"): 1}
    monkeypatch.setattr(ConflictResolution, "_class_cache", missing)
    monkeypatch.setattr(ConflictResolution, "_class_cache_get", missing.get)
    with a_database(tmp_path) as database:
        fill(database, one=make(shop))
        assert [conflict(database, "one") for _ in range(2)] == [name is not None] * 2
    lines = told("\n".join(record.getMessage() for record in caplog.records))
    assert [line.split()[1] for line in lines] == ([f"class=zkfleet_shop.{name}"] if name else [])
    assert not [record for record in caplog.records if record.name == LOGGER]


class Failing(Adder):
    """Has a fault of its own."""

    def _p_resolveConflict(self, _old, _saved, _new):
        raise ZeroDivisionError("a fault in an application")


def test_a_resolution_that_fails_for_another_reason_keeps_its_traceback(caplog, tmp_path):
    with a_database(tmp_path) as database:
        fill(database, one=Failing())
        assert conflict(database, "one")
    [record] = [record for record in caplog.records if record.name == LOGGER]
    assert record.exc_info[0] is ZeroDivisionError
    assert not told(caplog.text)
