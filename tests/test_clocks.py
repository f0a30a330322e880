import shutil
import subprocess
import sys
import time

import pytest

from zkfleet.clocks import since_boot

SLEPT = ["unshare", "--user", "--map-root-user", "--time", "--boottime", "86400", "--fork"]
ASK = "import time; from zkfleet.clocks import since_boot; print(since_boot() - time.monotonic())"


def can_sleep():
    return bool(shutil.which("unshare")) and subprocess.run([*SLEPT, "true"], capture_output=True).returncode == 0


def test_it_goes_on():
    before = since_boot()
    time.sleep(0.01)
    assert 0.01 <= since_boot() - before < 10


@pytest.mark.skipif(not can_sleep(), reason="no time namespaces can be made here")
def test_a_night_of_sleep_counts():
    usual = float(subprocess.run([sys.executable, "-c", ASK], capture_output=True, check=True).stdout)
    slept = float(subprocess.run([*SLEPT, sys.executable, "-c", ASK], capture_output=True, check=True).stdout)
    assert slept - usual == pytest.approx(86400, abs=60)
