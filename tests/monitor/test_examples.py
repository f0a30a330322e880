"""What lies in examples/monitor fits the metrics that there are; promtool has the last word."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import prometheus_client
import pytest

from zkfleet.monitor.metrics import Collector

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "examples" / "monitor"
UNPACKED = ROOT / ".cache" / "promtool" / "usr" / "bin" / "promtool"


@pytest.fixture
def promtool():
    """Runs promtool in the folder of the examples."""
    found = shutil.which("promtool") or (str(UNPACKED) if UNPACKED.exists() else None)
    assert found, "promtool checks the examples: scripts/get-promtool, as `make test` does"

    def run(*words, text=None):
        done = subprocess.run([found, *words], cwd=FOLDER, input=text, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def asked_by_the_dashboard():
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_alerts_are_as_prometheus_reads_them_and_fire_when_they_are_to(promtool):
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")
    assert "SUCCESS" in promtool("test", "rules", "alerts-test.yml")


def test_every_alert_is_seen_to_fire():
    declared = set(re.findall(r"alert: (\w+)", (FOLDER / "alerts.yml").read_text()))
    tested = set(re.findall(r"alertname: (\w+)\n\s+exp_alerts:\n", (FOLDER / "alerts-test.yml").read_text()))
    assert len(declared) > 3
    assert declared == tested


def test_what_the_dashboard_asks_can_be_asked(promtool, tmp_path):
    asked = [one.replace("$__rate_interval", "5m").replace("$instance", ".*") for one in asked_by_the_dashboard()]
    rules = [{"record": f"asked:{number}", "expr": one} for number, one in enumerate(asked)]
    file = tmp_path / "asked.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML
    assert f"{len(asked)} rules found" in promtool("check", "rules", str(file))


def test_what_the_examples_ask_for_is_told():
    told = {one.name + ("_total" if one.type == "counter" else "") for one in Collector().describe()}
    text = "\n".join([*asked_by_the_dashboard(), *re.findall(r"expr: (.*)", (FOLDER / "alerts.yml").read_text())])
    named = set(re.findall(r"zkfleet_\w+", text))
    assert len(named) > 8
    assert named <= told, named - told


def test_metrics_keep_prometheus_conventions(promtool):
    assert promtool("check", "metrics", text=prometheus_client.generate_latest(Collector()).decode()) == ""
