"""Real ZEO servers, and links to them that lose what a test names."""

import contextlib
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

from tests.conftest import wait_for
from tests.zeo.plain import WITHOUT_UVLOOP
from zkfleet.testing.zookeeper import free_port


class ZeoServer:
    """A plain ZEO server in a process of its own.

    `settings` go into its `<zeo>` section; it serves the storages of these names, or on a Unix socket.
    """

    def __init__(self, folder, *, settings="", storages=("1",), unix=False):
        self.port = free_port()
        self.address = ("127.0.0.1", self.port)
        self.text = str(folder / "zeo.sock") if unix else f"127.0.0.1:{self.port}"
        sections = [f"<filestorage {name}>\npath {folder / name}.fs\n</filestorage>" for name in storages]
        zeo = f"<zeo>\naddress {self.text}\n{settings}\n</zeo>"
        self._configuration, self._log = folder / "zeo.conf", folder / "zeo.log"
        self._configuration.write_text("\n".join([zeo, *sections, ""]))
        self._process = None

    def start(self):
        command = [sys.executable, "-c", WITHOUT_UVLOOP, "-C", str(self._configuration)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._log.parent)
        wait_for(self._listens, what="a ZEO server")
        return self

    def _listens(self):
        unix = "/" in self.text
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as link:
            link.connect(self.text if unix else self.address)
            return True

    @property
    def pid(self):
        return self._process.pid

    def send(self, signal):
        self._process.send_signal(signal)

    def is_frozen(self):
        """Whether it was stopped by a signal, and has got it."""
        return Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def kill(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_exc):
        self.kill()


@contextlib.contextmanager
def listener(*said, then=lambda link: link.recv(1)):
    """Something that says this to everybody who connects; yields its address."""

    def serve():
        with contextlib.suppress(OSError):
            while True:
                link, _ = listening.accept()
                with contextlib.suppress(OSError), link:
                    for each in said:
                        link.sendall(each)
                    then(link)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield "127.0.0.1:{1}".format(*listening.getsockname())
        listening.shutdown(socket.SHUT_RDWR)


class Losing:
    """A relay to a ZEO server that loses one call, and with it the connection.

    `lose(name, what)`: the `request` of the next such call is never sent; its
    `reply` never comes back; or it comes `late`: the client's end is closed,
    the server's is kept and gets the request when `deliver()` is called, or
    never, when `forget()` is.
    """

    def __init__(self, port):
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self._plan = None
        self.lost = threading.Event()
        self._held = None
        self._sockets = []
        self._closing = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(self, name, what):
        self.lost.clear()
        self._plan = (name.encode(), what)

    def deliver(self):
        server, message = self._held
        server.sendall(message)

    def forget(self):
        self._end(self._held[0])

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    # Not at once: a busy loop of these would soon connect to itself, and take the server's port.
                    self._closing.wait(0.05)
                    client.close()
                    continue
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets += [client, server]
                keep = threading.Event()
                threading.Thread(target=self._replies, args=(server, client, keep), daemon=True).start()
                threading.Thread(target=self._requests, args=(client, server, keep), daemon=True).start()

    def _replies(self, server, client, lose):
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if lose.is_set():
                    # One reply has come: what was asked is done.
                    self._end(client, server)
                    self.lost.set()
                    return
                client.sendall(data)
        self._end(client, server)

    def _requests(self, client, server, lose):
        with contextlib.suppress(OSError):
            while message := self._message(client):
                name, what = self._plan or (b"nothing", "")
                if name not in message:
                    server.sendall(message)
                    continue
                self._plan = None
                if what == "reply":
                    lose.set()
                    server.sendall(message)
                    continue
                if what == "late":
                    self._held = (server, message)
                    self._end(client)
                else:
                    self._end(client, server)
                self.lost.set()
                return
        self._end(client, server)

    def _message(self, client):
        head = self._read(client, 4)
        return head and head + self._read(client, struct.unpack(">I", head)[0])

    def _read(self, client, size):
        data = b""
        while len(data) < size:
            more = client.recv(size - len(data))
            if not more:
                return b""
            data += more
        return data

    def _end(self, *ends):
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
