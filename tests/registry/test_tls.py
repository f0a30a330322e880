"""An encrypted link to a real server, with certificates made here."""

import contextlib
import gc
import shutil
import subprocess

import pytest
from kazoo.security import Permissions

import zkfleet
from tests.conftest import wait_for
from zkfleet import TLS, monitor
from zkfleet.errors import ConnectFailed
from zkfleet.monitor.zope.configured import configured
from zkfleet.monitor.zope.membership import announcer
from zkfleet.testing import ZooKeeperServer
from zkfleet.testing.zookeeper import free_port

# kazoo leaves the socket of a handshake that failed to the garbage collector;
# what it logs holds the exception, which holds the socket.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


@pytest.fixture(autouse=True)
def collected(caplog):
    yield
    caplog.get_records("call").clear()
    gc.collect()


def certificate(folder, name, address):
    """Make a self-signed certificate for an address; returns the files of the certificate and of both."""
    key, cert, both = (folder / f"{name}.{kind}" for kind in ("key.pem", "crt.pem", "pem"))
    made = f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN={name} -addext subjectAltName=IP:{address}"
    subprocess.run([*made.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + cert.read_bytes())
    return cert, both


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    assert shutil.which("openssl"), "openssl makes the certificates: apt-get install openssl"
    return tmp_path_factory.mktemp("tls")


@contextlib.contextmanager
def serving(folder, name, address, trusted=None):
    """Run a server whose certificate is made out to an address; clients need the trusted one, if there is one."""
    cert, both = certificate(folder, name, address)
    port = free_port()
    settings = [
        f"secureClientPort={port}",
        "secureClientPortAddress=127.0.0.1",
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
        f"ssl.keyStore.location={both}",
        f"ssl.trustStore.location={trusted or cert}",
        f"ssl.clientAuth={'need' if trusted else 'none'}",
    ]
    with ZooKeeperServer(folder / f"{name}-server", settings=settings):
        yield f"127.0.0.1:{port}", str(cert)


@pytest.fixture(scope="module")
def secure(folder):
    """A server with an encrypted port, its certificate, and one of somebody else."""
    with serving(folder, "server", "127.0.0.1") as (hosts, cert):
        yield hosts, cert, str(certificate(folder, "other", "127.0.0.1")[0])


def test_a_server_whose_certificate_is_trusted_is_used(secure):
    hosts, cert, _ = secure
    with zkfleet.connect(hosts, tls=TLS(ca=cert)) as registry:
        registry.import_tree("/a\n  x = 1\n")
        assert registry.get_properties("/a") == {"x": 1}


def test_a_server_whose_certificate_is_not_trusted_is_not_used(secure):
    hosts, _, other = secure
    with pytest.raises(ConnectFailed, match=r"self.signed certificate") as refused:
        zkfleet.connect(hosts, tls=TLS(ca=other), timeout=1)
    assert refused.value.hint == "name the certificate of its issuer: TLS(ca=...), or --tls-ca"


def test_a_link_that_should_be_encrypted_is_not_opened_in_the_clear(secure):
    with pytest.raises(ConnectFailed) as refused:
        zkfleet.connect(secure[0], timeout=1)
    assert "--tls-ca" in refused.value.hint


def test_a_port_without_encryption_is_not_taken_for_one_with_it(zookeeper, secure):
    with pytest.raises(ConnectFailed) as refused:
        zkfleet.connect(zookeeper.hosts, tls=TLS(ca=secure[1]), timeout=1)
    assert "secureClientPort" in refused.value.hint


def test_a_certificate_made_out_to_another_host_is_refused_by_default(folder):
    with serving(folder, "elsewhere", "127.0.0.2") as (hosts, cert):
        with pytest.raises(ConnectFailed, match="IP address mismatch") as refused:
            zkfleet.connect(hosts, tls=TLS(ca=cert), timeout=1)
        assert "made out to" in refused.value.hint
        with zkfleet.connect(hosts, tls=TLS(ca=cert, check_hostname=False)) as registry:
            assert registry.exists("/")


def test_a_client_shows_its_certificate_to_a_server_that_wants_one(folder):
    mine, both = certificate(folder, "client", "127.0.0.1")
    with serving(folder, "strict", "127.0.0.1", trusted=mine) as (hosts, cert):
        with pytest.raises(ConnectFailed) as refused:
            zkfleet.connect(hosts, tls=TLS(ca=cert), timeout=1)
        assert "--tls-certificate" in refused.value.hint
        with zkfleet.connect(hosts, tls=TLS(ca=cert, certificate=str(both))) as registry:
            assert registry.exists("/")
        key = str(folder / "client.key.pem")
        with zkfleet.connect(hosts, tls=TLS(ca=cert, certificate=str(mine), key=key)) as registry:
            assert registry.exists("/")


def test_a_monitor_that_zope_conf_describes_is_registered_over_tls_and_with_credentials(tmp_path):
    password = tmp_path / "password"
    password.write_text("plone:pw\n")
    password.chmod(0o600)
    ours, both = certificate(tmp_path, "zope", "127.0.0.1")
    with (
        serving(tmp_path, "zookeeper", "127.0.0.1", trusted=ours) as (hosts, theirs),
        zkfleet.connect(hosts, tls=TLS(theirs, str(both))) as registry,
    ):
        registry.import_tree("/web\n")
        keys = {"zookeeper-ca": theirs, "zookeeper-certificate": str(both), "zookeeper-auth-file": str(password)}
        said = configured({"zkfleet.monitor": {"bind": "127.0.0.1:0", "zookeeper": hosts, "path": "/web", **keys}})
        with monitor.start(said.monitor.address) as started:
            started.announce(announcer(said.fleet, said.monitor), said.fleet.path)
            providers = registry.providers("/web")
            wait_for(lambda: list(providers) == [started.address], timeout=20)
            entries, _ = registry.session.client.get_acls(f"/web/{started.address}")
        wait_for(lambda: len(providers) == 0)
    assert {"digest", "x509"} <= {entry.id.scheme for entry in entries if entry.perms == Permissions.ALL}
