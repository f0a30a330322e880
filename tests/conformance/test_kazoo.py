"""kazoo's own tests, from its installed package, pass on the dev server: all but those listed here, and why.

The modules are run beside each other, since they mostly wait.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import kazoo
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[2]
PACKAGES = Path(kazoo.__file__).parents[1]
# Together they take as long as the slowest.
GROUPS = {
    "recipes": ("lock", "election", "barrier", "counter", "lease", "party", "queue", "cache"),
    "partitioner": ("partitioner",),
    "watchers": ("watchers",),
    "client": (
        "client",
        "connection",
        "retry",
        "hosts",
        "exceptions",
        "security",
        "interrupt",
        "threading_handler",
        "paths",
    ),
}
# So many there are in kazoo 2.11: a later one has more.
AT_LEAST = {"recipes": 89, "partitioner": 8, "watchers": 22, "client": 172}
NO_ENSEMBLE = "stops one of three servers: the dev server is alone"
NO_TLS = "an encrypted link: the dev server is for loopback"
NO_RECONFIG = "reconfig is disabled, as it is by default, and there is no ensemble to change"
NO_READ_ONLY = "a server that has lost its ensemble serves read-only: the dev server has none to lose"
NO_OBJGRAPH = "counts Python objects of the test itself: fails on the real ZooKeeper, too"
A_RACE = "expects a write to be lost that may be done before the link is cut, on a busy machine"
CANNOT_PASS = {
    "client::TestClient::test_update_host_list": NO_ENSEMBLE,
    "client::TestSSLClient::test_create": NO_TLS,
    "client::TestReconfig::test_add_remove_observer": NO_RECONFIG,
    "client::TestReconfig::test_bad_input": NO_RECONFIG,
    "client::TestReconfig::test_no_super_auth": NO_RECONFIG,
    "connection::TestConnectionDrop::test_connection_dropped": A_RACE,
    "connection::TestReadOnlyMode::test_read_only": NO_READ_ONLY,
    "cache::KazooTreeCacheTests::test_close": NO_OBJGRAPH,
    "cache::KazooTreeCacheTests::test_delete_operation": NO_OBJGRAPH,
}
NOT_RUN = {
    "sasl": "a server that knows SASL: the dev server lets nobody log in",
    "build": "only for kazoo's own machines",
    "gevent_handler": "gevent is not installed",
    "eventlet_handler": "eventlet is not installed",
    "selectors_select": "no server in it",
    "utils": "no server in it",
}


def start(modules, folder):
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(PACKAGES), "-p", "no:cacheprovider"]
    command += ["-p", "tests.conformance.kazoo_on_devserver", "-q", "--timeout=60", "--pyargs"]
    command += [f"kazoo.tests.test_{module}" for module in modules]
    for test in CANNOT_PASS:
        module, _, name = test.partition("::")
        if module in modules:
            command += ["--deselect", f"kazoo/tests/test_{module}.py::{name}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    with (folder / "output").open("w") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, cwd=folder, env=environment)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All groups at once, and what each said."""
    started = {}
    for group, modules in GROUPS.items():
        folder = tmp_path_factory.mktemp(group)
        started[group] = (start(modules, folder), folder / "output")
    yield started
    for process, _ in started.values():
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.mark.parametrize("group", GROUPS)
def test_kazoos_own_tests_pass(runs, group):
    process, output = runs[group]
    code = process.wait(200)
    said = output.read_text()
    assert code == 0, said[-6000:]
    # All that were named to be left out are there, and nothing else was left out.
    left_out = sum(test.partition("::")[0] in GROUPS[group] for test in CANNOT_PASS)
    found = re.search(r"(\d+) deselected", said)
    assert int(found[1] if found else 0) == left_out
    passed = int(re.search(r"(\d+) passed", said)[1])
    assert passed >= AT_LEAST[group]
    assert "skipped" not in said.splitlines()[-1]


def test_all_modules_of_kazoos_tests_are_run_or_it_is_told_why_not():
    there = {file.stem.removeprefix("test_") for file in (PACKAGES / "kazoo" / "tests").glob("test_*.py")}
    assert there == {module for modules in GROUPS.values() for module in modules} | set(NOT_RUN)
