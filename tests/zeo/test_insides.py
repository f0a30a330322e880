"""What is expected of ZEO is listed, all of it, and is so."""

import ast
import dis
import importlib
import inspect
import logging
import pkgutil
import subprocess
import sys
import textwrap
from contextlib import closing

import pytest
import transaction
from ZODB.MappingStorage import MappingStorage
from ZODB.mvccadapter import MVCCAdapter

import zkfleet.zeo
from tests.conftest import wait_for
from tests.zeo import making
from zkfleet.errors import MissingDependency
from zkfleet.zeo import Server, insides
from zkfleet.zeo.insides import IMPORTED, Repair, is_on, lacking, require, state_of
from zkfleet.zeo.runner import Runner
from zkfleet.zeo.settings import Options

MODULES = [importlib.import_module(f"zkfleet.zeo.{one.name}") for one in pkgutil.iter_modules(zkfleet.zeo.__path__)]
REPAIRS = {
    found.name: found for module in MODULES for found in vars(module).values() if isinstance(found, Repair)
}.values()
NEEDS = sorted({need for repair in REPAIRS for need in repair.needs})
OURS = [
    found
    for module in MODULES
    for found in vars(module).values()
    if inspect.isclass(found) and found.__module__ == module.__name__
]


def theirs(kind):
    """The classes of ZEO, and of zdaemon below it, that a class of ours extends."""
    return [base for base in kind.__mro__ if base.__module__.split(".")[0] in ("ZEO", "zdaemon")]


def split(need):
    """The class, the method and the attributes that a need is about."""
    place, _, rest = need.partition(":")
    rest, _, attributes = rest.partition(" sets ")
    kind, _, name = rest.partition("(")[0].partition(".")
    return f"{place}:{kind}", name, [one.strip() for one in attributes.split(",") if one]


def names_of(kinds):
    """How classes are called in needs."""
    return {f"{kind.__module__}:{kind.__name__}" for kind in kinds}


def has(kind):
    """The names of what a class defines, and of what its methods set."""
    methods = filter(inspect.isfunction, vars(kind).values())
    code = (one for method in methods for one in dis.get_instructions(method))
    return set(vars(kind)) | {one.argval for one in code if one.opname == "STORE_ATTR"}


def used(kind):
    """The names that a class of ours has of those that it extends: overridden, or spoken of."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    spoken = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "super()")
    }
    names = {name for name in spoken | set(vars(kind)) if not name.startswith("__")}
    return names & set().union(*map(has, theirs(kind)))


@pytest.mark.parametrize(
    ("need", "there"),
    [
        ("ZEO.asyncio.client:ClientIO", True),
        ("ZEO.asyncio.client:ClientIO.register(protocol, server_tid)", True),
        ("ZEO.asyncio.client:ClientIO.register(protocol, nothing)", False),
        ("ZEO.asyncio.client:ClientIO.nothing", False),
        ("ZEO.asyncio.client:ClientIO.__init__ sets loop, addrs", True),
        ("ZEO.asyncio.client:ClientIO.__init__ sets loop, nothing", False),
        ("ZEO.asyncio.client:ClientIO.closed sets loop", False),
        ("ZEO.nothing:at_all", False),
    ],
)
def test_what_is_needed_is_looked_for(need, there):
    assert lacking(Repair("it", "", (need,))) == (() if there else (need,))


@pytest.mark.parametrize("repair", REPAIRS, ids=lambda repair: repair.name)
def test_this_zeo_has_what_is_needed(repair):
    assert lacking(repair) == ()


@pytest.mark.parametrize("kind", [one for one in OURS if theirs(one)], ids=lambda kind: kind.__name__)
def test_what_a_class_has_of_zeo_is_listed(kind):
    about = [(name, *attributes) for base, name, attributes in map(split, NEEDS) if base in names_of(theirs(kind))]
    assert used(kind) - set().union(*about) == set()


def test_what_is_imported_of_zeo_is_listed():
    imported = {
        f"{node.module}:{alias.name}"
        for module in MODULES
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("ZEO")
        for alias in node.names
    }
    assert imported == set(IMPORTED.needs)


@pytest.mark.slow
def test_what_methods_are_said_to_set_is_there_on_living_objects(fleet):
    config, checked = making.a_config(address="127.0.0.1", zookeeper=fleet.session.hosts, path="/db"), set()
    with (
        Server(config) as server,
        closing(zkfleet.zeo.client(fleet, "/db", wait_timeout=10)) as client,
        making.a_transaction(client),
    ):
        serving = server._service.serving._server
        [connection] = serving.connections
        wait_for(lambda: connection.zeo_storage.transaction)
        link = client._server.client
        living = [serving, serving.acceptor, serving.lock_managers["1"], connection, connection.zeo_storage]
        living += [client, client._server, client._cache, link, link.protocol]
        adapter = MVCCAdapter(MappingStorage())
        living += [adapter, adapter.new_instance(), transaction.TransactionManager()]
        options = Options(config)
        options.realize([])
        for kind, _name, attributes in map(split, NEEDS):
            for one in [*living, Runner(options), options]:
                if kind in names_of(type(one).__mro__):
                    checked.add(kind)
                    assert [attribute for attribute in attributes if not hasattr(one, attribute)] == []
    assert {kind for kind, _name, attributes in map(split, NEEDS) if attributes} <= checked


def test_a_repair_that_cannot_be_made_is_told_once(caplog):
    repair = Repair("the moon", "nights are dark", ("ZEO:moon",))
    with caplog.at_level(logging.WARNING):
        assert not is_on(repair)
        assert not is_on(repair)
    [record] = caplog.records
    assert "the moon" in record.getMessage()
    assert "nights are dark" in record.getMessage()
    assert state_of([repair]) == {"the moon": ("ZEO:moon",)}


def test_one_that_is_required_is_an_error_that_says_which_zeo_would_do():
    with pytest.raises(
        MissingDependency, match=r"the moon: nights are dark, because ZEO 6\.\S+ lacks ZEO:moon"
    ) as found:
        require(Repair("the moon", "nights are dark", ("ZEO:moon",)))
    assert insides.KNOWN in found.value.hint


def test_a_zeo_without_a_name_that_is_imported_is_told_at_once():
    code = "import ZEO.asyncio.client as zeo; del zeo.Fallback; import zkfleet.zeo"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "MissingDependency" in done.stderr
    assert "lacks ZEO.asyncio.client:Fallback" in done.stderr


@pytest.mark.parametrize("hidden", ["zc", "ZODB", "zodbpickle", "ZEO"])
def test_a_zeo_that_cannot_be_imported_is_told_with_the_reason(hidden, tmp_path):
    """A script in the folder of the program hides what ZEO imports."""
    (tmp_path / f"{hidden}.py").write_text("")
    done = subprocess.run([sys.executable, "-c", "import zkfleet.zeo"], cwd=tmp_path, capture_output=True, text=True)
    *_, said, hint = done.stderr.splitlines()
    assert "MissingDependency: ZEO" in said
    assert "cannot be imported: " in said
    assert hidden in said
    assert hint == f"hint: {tmp_path}/{hidden}.py hides the package {hidden}: give it another name"


@pytest.mark.parametrize(
    ("options", "more"), [({}, "standby on"), ({"may_commit": lambda: False}, "")], ids=["standby", "may_commit"]
)
@pytest.mark.parametrize("name", ["vote", "tpc_finish"])
def test_who_may_not_always_commit_does_not_start_without_the_fence(monkeypatch, options, more, name):
    config = making.a_config(zookeeper="127.0.0.1:1", more=more)
    monkeypatch.delattr(f"ZEO.StorageServer.ZEOStorage.{name}")
    with pytest.raises(MissingDependency, match=f"two servers might write.*ZEOStorage.{name}"):
        Server(config, **options)
    Server(making.a_config(zookeeper="127.0.0.1:1"))
