import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(240)
def test_a_zope_fleet_survives_two_failovers(tmp_path):
    command = [sys.executable, "-m", "tests.soak.zope", "--failovers", "2", "--zookeeper", "dev", "--folder", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=220)
    assert done.returncode == 0, done.stdout + done.stderr
