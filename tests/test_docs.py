import ast
import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from zkfleet import errors

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_tutorial_runs(hosts):
    failed, tried = doctest.testfile(
        str(ROOT / "docs/tutorial.md"), module_relative=False, globs={"hosts": hosts}, optionflags=doctest.ELLIPSIS
    )
    assert tried > 20
    assert failed == 0


@pytest.mark.slow
def test_the_page_of_commands_is_what_help_says():
    done = subprocess.run([sys.executable, ROOT / "scripts/make-command-docs", "--check"], check=False)
    assert done.returncode == 0


@pytest.mark.slow
def test_the_pages_of_the_monitor_have_every_command_and_each_answers():
    done = subprocess.run([sys.executable, ROOT / "scripts/make-monitor-docs", "--check"], check=False)
    assert done.returncode == 0


def test_every_error_is_on_its_page():
    page = (ROOT / "docs/errors.md").read_text()
    for name, found in vars(errors).items():
        if inspect.isclass(found) and issubclass(found, errors.ZkfleetError):
            assert f"| `{name}` |" in page, name


def test_every_test_that_keeps_an_old_promise_is_there():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/migration.md").read_text()))
    assert len(named) > 20
    there = {
        name for file in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    assert named <= there, named - there


def test_every_kind_of_finding_is_on_its_page():
    page = (ROOT / "docs/doctor.md").read_text()
    tree = ast.parse((ROOT / "src/zkfleet/registry/doctor.py").read_text())
    made = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Finding"]
    kinds = {ast.literal_eval(call.args[1]) for call in made}
    assert len(kinds) == 8
    for kind in kinds:
        assert f"| {kind} |" in page, kind
