"""How much goes into one packet: what the ensemble was started with says so."""

import json

import pytest
from click.testing import CliRunner

import zkfleet
from zkfleet.cli import main
from zkfleet.errors import TooLarge
from zkfleet.registry.wire import PACKET_LIMIT, safe_packet
from zkfleet.testing import ZooKeeperServer

pytestmark = pytest.mark.slow
LARGE = 4 * 1024 * 1024
TEXT = "x" * 2_000_000


@pytest.fixture(scope="module")
def roomy(tmp_path_factory):
    """A server that was started with a larger jute.maxbuffer."""
    folder = tmp_path_factory.mktemp("roomy")
    with ZooKeeperServer(folder, java_options=[f"-Djute.maxbuffer={LARGE}"]) as server:
        yield server


def test_an_ensemble_that_takes_larger_packets_is_sent_them(roomy):
    with zkfleet.connect(roomy.hosts, jute_maxbuffer=LARGE) as registry:
        registry.import_tree(f"/large\n  text = {TEXT!r}\n  /providers\n")
        registry.properties("/large")["more"] = "y" * 1_000_000
        registration = registry.register("/large/providers", "h:1", text=TEXT)
        registration.update(text=TEXT[:-1])
        assert registry.get_properties("/large")["text"] == TEXT
        assert len(registry.providers("/large/providers")["h:1"]["text"]) == len(TEXT) - 1
        # Near the packet limit is what is near this one.
        assert [finding.path for finding in registry.doctor("/large")] == []


def test_what_is_larger_than_we_send_is_refused_with_our_own_limit_and_the_setting(roomy):
    with zkfleet.connect(roomy.hosts) as registry:
        for write in (
            lambda: registry.import_tree(f"/refused\n  text = {TEXT!r}\n"),
            lambda: registry.register("/", "h:1", text=TEXT),
            lambda: registry.change_properties("/", lambda found: {"text": TEXT}),
        ):
            with pytest.raises(TooLarge, match=f"zkfleet sends {safe_packet(PACKET_LIMIT):,} in one packet") as refused:
                write()
            assert "jute_maxbuffer" in refused.value.hint
        assert not registry.exists("/refused")


def test_a_smaller_limit_divides_what_is_sent(roomy, caplog):
    nodes = "".join(f"  /{number}\n    text = {'x' * 1000!r}\n" for number in range(100))
    with zkfleet.connect(roomy.hosts, jute_maxbuffer=20_000) as registry:
        registry.import_tree(f"/small\n{nodes}")
        assert "plan_split" in caplog.text
        assert len(registry.children("/small")) == 100
        registry.delete_recursive("/small")


def test_commands_take_it(roomy, tmp_path):
    file = tmp_path / "large.tree"
    file.write_text(f"/command\n  text = {TEXT!r}\n")
    run = CliRunner(env={"ZKFLEET_ZOOKEEPER": roomy.hosts}).invoke
    refused = run(main, ["tree", "import", str(file)])
    assert (refused.exit_code, "--jute-maxbuffer" in refused.stderr) == (1, True)
    done = run(main, ["tree", "import", str(file), "--jute-maxbuffer", str(LARGE)])
    assert done.exit_code == 0
    got = run(main, ["get", "/command", "text", "--format", "json"])
    assert json.loads(got.stdout) == TEXT
    assert "is a number of bytes" in run(main, ["get", "/command", "--jute-maxbuffer", "1"]).stderr
