"""An encrypted link to a real server, with certificates made here."""

import gc
import shutil
import subprocess

import pytest

import zkfleet
from zkfleet import TLS
from zkfleet.errors import ConnectFailed
from zkfleet.testing import ZooKeeperServer
from zkfleet.testing.zookeeper import free_port

# kazoo leaves the socket of a handshake that failed to the garbage collector.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


@pytest.fixture(autouse=True)
def collected():
    yield
    gc.collect()


def certificate(folder, name, address):
    """Make a self-signed certificate for an address; returns the files of the certificate and of both."""
    key, cert, both = (folder / f"{name}.{kind}" for kind in ("key.pem", "crt.pem", "pem"))
    made = f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN={name} -addext subjectAltName=IP:{address}"
    subprocess.run([*made.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + cert.read_bytes())
    return cert, both


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """A server with an encrypted port, its certificate, and one made out to another host."""
    assert shutil.which("openssl"), "openssl makes the certificates: apt-get install openssl"
    folder = tmp_path_factory.mktemp("tls")
    cert, both = certificate(folder, "server", "127.0.0.1")
    port = free_port()
    settings = [
        f"secureClientPort={port}",
        "secureClientPortAddress=127.0.0.1",
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
        f"ssl.keyStore.location={both}",
        f"ssl.trustStore.location={cert}",
        "ssl.clientAuth=none",
    ]
    with ZooKeeperServer(folder / "server", settings=settings):
        yield f"127.0.0.1:{port}", str(cert), str(certificate(folder, "other", "127.0.0.2")[0])


def test_a_server_whose_certificate_is_trusted_is_used(secure):
    hosts, cert, _ = secure
    with zkfleet.connect(hosts, tls=TLS(ca=cert)) as registry:
        registry.import_tree("/a\n  x = 1\n")
        assert registry.get_properties("/a") == {"x": 1}


def test_a_server_whose_certificate_is_not_trusted_is_not_used(secure):
    hosts, _, other = secure
    with pytest.raises(ConnectFailed):
        zkfleet.connect(hosts, tls=TLS(ca=other), timeout=2)


def test_a_link_that_should_be_encrypted_is_not_opened_in_the_clear(secure):
    with pytest.raises(ConnectFailed):
        zkfleet.connect(secure[0], timeout=2)
