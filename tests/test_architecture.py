"""Who may import whom.  A new arrow is a decision."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "zkfleet"
MODULES = {
    ".".join(("zkfleet", *file.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__"): file
    for file in sorted(SOURCE.rglob("*.py"))
}
ROOMS = {
    "clocks": set(),
    "spelling": set(),
    "errors": {"spelling"},
    "paths": {"errors"},
    "endpoints": {"errors", "interfaces"},
    "interfaces": set(),
    "workers": {"spelling"},
    "tree": {"spelling", "errors", "paths"},
    "registry": {"clocks", "spelling", "errors", "paths", "endpoints", "tree", "workers"},
    "devserver": {"spelling", "errors", "paths", "endpoints"},
    "zeo": {"clocks", "spelling", "errors", "paths", "endpoints", "interfaces", "registry", "monitor"},
    "calls": {"spelling", "errors", "zeo", "workers"},
    "monitor": {"spelling", "errors", "endpoints", "registry", "zeo", "calls"},
    "testing": {"errors", "paths", "endpoints", "devserver", "registry"},
    "cli": {"spelling", "errors", "paths", "endpoints", "tree", "registry"}
    | {"devserver", "testing", "zeo", "monitor", ""},
    "": {"errors", "registry"},
}
HOMES = {
    "kazoo": {"registry", "testing"},
    "click": {"cli"},
    "rich": {"cli"},
    "psutil": {"cli", "interfaces", "monitor"},
    "ZEO": {"zeo"},
    "ZODB": {"zeo", "calls", "monitor"},
    "ZConfig": {"zeo"},
    "zc": {"zeo", "monitor"},
    "zope": {"monitor"},
    "persistent": {"zeo", "calls", "monitor"},
    "transaction": {"errors", "zeo", "calls"},
    "twisted": {"calls", "monitor"},
    "h11": {"monitor"},
    "prometheus_client": {"monitor"},
}
# These decide, and leave doing to others: no clock, no thread, no socket, no file.
PURE = {
    f"zkfleet.devserver.{name}"
    for name in ["jute", "codes", "requests", "access", "quota", "database", "sessions", "watches"]
}
PURE |= {f"zkfleet.devserver.{name}" for name in ["sessions", "watches", "writing", "reading", "words", "dispatch"]}
PURE |= {
    "zkfleet.registry.claim",
    "zkfleet.registry.formats",
    "zkfleet.registry.agenda",
    "zkfleet.registry.patience",
    "zkfleet.cli.launcher",
    "zkfleet.cli.frame",
}
PURE |= {f"zkfleet.zeo.{name}" for name in ["candidates", "described", "duty", "lease", "reasons", "silence"]}
PURE |= {f"zkfleet.zeo.{name}" for name in ["checking", "status"]}
PURE |= {f"zkfleet.calls.{name}" for name in ["causes", "policy", "deciding", "searching"]}
PURE |= {f"zkfleet.monitor.{name}" for name in ["answers", "asking", "basics", "commands", "conversation"]}
PURE |= {f"zkfleet.monitor.{name}" for name in ["limits", "places", "wording"]}
PURE |= {f"zkfleet.monitor.{name}" for name in ["families", "http", "site", "zope.configured"]}
DOING = {"asyncio", "os", "pathlib", "queue", "selectors", "socket", "subprocess", "threading", "time"}


def room(module):
    return module.split(".")[1] if "." in module else ""


def imports(file, at_import=False):
    """The modules that a file imports; `at_import` leaves out those inside functions and for types alone."""
    tree = ast.parse(file.read_text())
    skipped = set()
    for node in ast.walk(tree):
        types_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if at_import and (types_only or isinstance(node, ast.FunctionDef)):
            skipped |= {id(below) for below in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


@pytest.mark.parametrize("module", MODULES)
def test_rooms_import_only_what_they_may(module):
    allowed = ROOMS[room(module)] | {room(module)}
    for name in imports(MODULES[module]):
        if name.split(".")[0] == "zkfleet":
            assert room(name) in allowed, f"{module} imports {name}"


@pytest.mark.parametrize("module", MODULES)
def test_libraries_have_one_home(module):
    for name in imports(MODULES[module]):
        homes = HOMES.get(name.split(".")[0])
        assert homes is None or room(module) in homes, f"{module} imports {name}"


@pytest.mark.parametrize("module", sorted(PURE))
def test_what_is_pure_does_nothing(module):
    assert not {name.split(".")[0] for name in imports(MODULES[module])} & DOING


# These set what loggers of others do, and write nothing.
OF_OTHERS = {
    "zkfleet.cli.zeo_check",
    "zkfleet.monitor.process",
    "zkfleet.zeo.conflicts",
    "zkfleet.zeo.identities",
    "zkfleet.zeo.loads",
    "zkfleet.zeo.probes",
}


def callers(*names):
    """The modules that call one of these, as it is written there."""
    return {
        module
        for module, file in MODULES.items()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in names
    }


def test_loggers_are_those_that_spell_what_they_are_given():
    assert callers("logging.getLogger") - OF_OTHERS == {"zkfleet.spelling"}


def test_one_module_prints():
    assert callers("print", "click.echo", "click.secho") == {"zkfleet.cli.output"}


def test_there_are_no_rings():
    arrows = {
        module: {name for name in imports(file, at_import=True) if name in MODULES and name != module}
        for module, file in MODULES.items()
    }
    done = set()
    while True:
        free = {module for module, needed in arrows.items() if module not in done and needed <= done}
        if not free:
            break
        done |= free
    ring = {module: sorted(arrows[module] - done) for module in arrows if module not in done}
    # A package's front door imports its modules, and they may import siblings by it.
    assert ring == {}


@pytest.mark.parametrize("module", MODULES)
def test_modules_explain_themselves_and_stay_small(module):
    text = MODULES[module].read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module opens by explaining its room"
    assert len(text.splitlines()) <= 500
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, node.name
