import contextlib
import socket
import ssl

import pytest
from ZODB.DB import DB
from ZODB.MappingStorage import MappingStorage

from zkfleet import monitor
from zkfleet.monitor import basics


class Client:
    """Somebody with `nc`; a context manager."""

    def __init__(self, address, *, timeout=10.0, tls=None):
        if "/" in address:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            try:
                self.socket.connect(address)
            except OSError:
                self.socket.close()
                raise
        else:
            host, _, port = address.rpartition(":")
            self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=host)

    def send(self, data):
        with contextlib.suppress(BrokenPipeError):  # what was said before that can still be read
            self.socket.sendall(data)
        return self

    def line(self):
        """The next line that comes."""
        found = b""
        while not found.endswith(b"\n"):
            piece = self.socket.recv(1)
            if not piece:
                break
            found += piece
        return found.decode()

    def rest(self):
        """All that comes until the other side closes."""
        found = []
        while piece := self.socket.recv(1 << 20):
            found.append(piece)
        return b"".join(found).decode()

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.socket.close()


def ask(address, *lines, tls=None):
    """What a monitor says to these lines."""
    with Client(address, tls=tls) as client:
        client.send("".join(f"{line}\n" for line in lines).encode())
        return client.rest()


@pytest.fixture
def main():
    """The main database of this process."""
    database = DB(MappingStorage())
    monitor.databases[""] = database
    yield database
    monitor.databases.clear()
    database.close()


@pytest.fixture
def commands():
    """The commands of a monitor of the test's own: the basic ones and what the test adds."""
    made = monitor.Commands()
    basics.add_to(made)
    return made


@pytest.fixture
def start(tmp_path, commands):
    """Starts monitors with those commands; by default on a Unix socket."""
    started = []

    def start_one(address=None, **options):
        made = monitor.start(
            str(tmp_path / f"{len(started)}.sock") if address is None else address, commands=commands, **options
        )
        started.append(made)
        return made

    yield start_one
    for one in started:
        if one:
            one.close()


@pytest.fixture(scope="session")
def trusting(request):
    """A client's side of TLS that trusts the certificates of the tests."""

    def make(folder, *, name=None):
        context = ssl.create_default_context(cafile=folder / "server.crt")
        if name is not None:
            context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
        return context

    return make
