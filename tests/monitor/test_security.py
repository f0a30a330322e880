import os
import ssl

import pytest

import zkfleet
from tests.conftest import wait_for
from tests.monitor.conftest import Client, ask
from zkfleet import monitor
from zkfleet.errors import BadInput, NodeNotFound


def heard(address, *lines, **options):
    """What is said, nothing if the connection is refused or breaks."""
    try:
        return ask(address, *lines, **options)
    except (ssl.SSLError, ConnectionError, UnicodeDecodeError):  # an alert is no text
        return ""


@pytest.fixture
def server(certificates):
    return {"certificate": str(certificates / "server.crt"), "key": str(certificates / "server.key")}


def test_what_others_reach_is_refused_without_a_secret(start):
    with pytest.raises(BadInput, match="answers everybody"):
        start(":0")
    assert ask("127.0.0.1:" + start(":0", token="s3cret").address.rpartition(":")[2], "token s3cret", "quit")
    assert start(":0", insecure=True)


def test_tls_is_answered_over_tls(start, server, certificates, trusting):
    started = start(0, tls=monitor.Certificates(**server))
    assert ask(started.address, "quit", tls=trusting(certificates)) == "Goodbye.\n"
    assert ask(started.address, "interactive", "help", "quit", tls=trusting(certificates)).endswith("Goodbye.\n")


@pytest.mark.slow
def test_a_large_answer_over_tls_is_read_or_dropped(start, commands, server, certificates, trusting):
    @commands.command("large", blocks=False)
    def large():
        return monitor.lines("x" * (50 << 20))

    limits = monitor.Limits(answer=64 << 20, idle=1)
    started = start(0, tls=monitor.Certificates(**server), limits=limits)
    assert len(ask(started.address, "large", tls=trusting(certificates))) == (50 << 20) + 1
    with Client(started.address, tls=trusting(certificates)) as client:
        client.send(b"large\n")
        wait_for(lambda: started.board.unread > 30 << 20)
        wait_for(lambda: not started.board.talks)
    assert ask(started.address, "quit", tls=trusting(certificates)) == "Goodbye.\n"


def test_who_speaks_no_tls_is_not_answered(start, server, certificates, trusting):
    started = start(0, tls=monitor.Certificates(**server))
    assert "Goodbye" not in heard(started.address, "quit")
    assert ask(started.address, "quit", tls=trusting(certificates)) == "Goodbye.\n"


def test_who_has_no_certificate_or_another_one_is_not_answered(start, server, certificates, trusting):
    tls = monitor.Certificates(**server, authorities=str(certificates / "client.crt"))
    started = start(":0", tls=tls)
    address = "127.0.0.1:" + started.address.rpartition(":")[2]
    assert ask(address, "quit", tls=trusting(certificates, name="client")) == "Goodbye.\n"
    for name in [None, "server"]:
        assert heard(address, "quit", tls=trusting(certificates, name=name)) == ""
    assert ask(address, "quit", tls=trusting(certificates, name="client")) == "Goodbye.\n"


def test_certificates_that_cannot_be_had_are_refused(start, tmp_path):
    with pytest.raises(BadInput, match="no TLS with"):
        start(0, tls=monitor.Certificates(str(tmp_path / "none")))


def test_a_runtime_directory_of_somebody_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / "zkfleet"
    folder.mkdir()
    folder.chmod(0o770)
    with pytest.raises(BadInput, match="not a directory of this user alone"):
        monitor.start()
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(BadInput, match="not a directory of this user alone"):
        monitor.start()
    assert os.listdir(tmp_path) == ["zkfleet"]


def test_without_a_runtime_directory_there_is_one_of_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with monitor.start() as started:
        assert started.address == str(tmp_path / f"zkfleet-{os.geteuid()}" / f"monitor-{os.getpid()}.sock")
    assert (tmp_path / f"zkfleet-{os.geteuid()}").stat().st_mode & 0o777 == 0o700


def test_all_addresses_are_those_of_both_versions(start):
    port = start(":0", insecure=True).address.rpartition(":")[2]
    assert ask(f"127.0.0.1:{port}", "quit") == ask(f"[::1]:{port}", "quit") == "Goodbye.\n"


@pytest.mark.parametrize("address", ["/nowhere/at/all.sock", "no.such.host.invalid:0", "192.0.2.1:0"])
def test_where_nobody_could_listen_is_refused(start, address):
    with pytest.raises(BadInput):
        start(address, insecure=True)


def test_it_registers_itself_while_it_is_open(start, fleet):
    fleet.make_node("/monitors")
    with start(0, registry=fleet, path="/monitors") as started:
        (endpoint,) = fleet.providers("/monitors").endpoints
        assert str(endpoint) == started.address
    fleet.providers("/monitors").wait_until(lambda view: not view.endpoints, 5)


def test_a_registered_monitor_says_at_which_port_metrics_are(start, fleet):
    fleet.make_node("/monitors")
    with start(0, registry=fleet, path="/monitors", http=0) as started:
        (properties,) = fleet.providers("/monitors").values()
        assert properties["kind"] == "monitor"
        assert properties["http_port"] == int(started.http.address.rpartition(":")[2])


def test_what_cannot_be_registered_listens_nowhere(start, fleet, tmp_path):
    with pytest.raises(BadInput, match="Unix socket through a registry"):
        start(registry=fleet, path="/monitors")
    with pytest.raises(NodeNotFound):
        start(0, registry=fleet, path="/nowhere")
    with pytest.raises(BadInput, match="go together"):
        start(0, path="/monitors")
    assert os.listdir(tmp_path) == []


@pytest.fixture
def fleet(tmp_path_factory):
    from zkfleet.devserver import DevServer

    with DevServer(tick=0.2) as server, zkfleet.connect(server.hosts, session_timeout=2) as registry:
        yield registry
