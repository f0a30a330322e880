import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(240)
def test_nothing_acknowledged_is_lost(tmp_path):
    command = [sys.executable, "-m", "tests.soak", "--seconds", "60", "--folder", tmp_path / "soak"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=220)
    assert done.returncode == 0, done.stdout + done.stderr
