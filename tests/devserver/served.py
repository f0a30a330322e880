"""A dev server in a process of its own, whose memory and whose every word can be looked at."""

import contextlib
import re
import resource
import socket
import struct
import subprocess
import sys
import threading
import time

import psutil

from tests.conformance.wire import Wire
from tests.devserver.driving import hello
from zkfleet.devserver import jute

SCRIPT = """
import logging, resource, sys
from zkfleet.devserver import DevServer
files = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
logging.basicConfig(level=1, stream=sys.stderr)
with DevServer(tick=2.0) as server:
    print(server.port, flush=True)
    sys.stdin.read()
"""


class Served:
    """The process, and its log so far."""

    def __init__(self, log, *, files=4096):
        self._log = log.open("w+")
        command = [sys.executable, "-W", "error", "-c", SCRIPT, str(files)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        self.port = int(self.process.stdout.readline())
        self.hosts = f"127.0.0.1:{self.port}"
        self._memory = psutil.Process(self.process.pid)

    def log(self):
        self._log.seek(0)
        return self._log.read()

    def count(self, event):
        return len(re.findall(rf"\b{event}\b", self.log()))

    def mebibytes(self):
        return self._memory.memory_info().rss / (1 << 20)

    def files(self):
        return self._memory.num_fds()

    def stop(self):
        """End it; it must have lived until now, and have said nothing in the form of a traceback."""
        assert self.process.poll() is None, self.log()
        self.process.stdin.close()
        code = self.process.wait(10)
        self.process.stdout.close()
        log = self.log()
        self._log.close()
        assert "Traceback" not in log, log[-3000:]
        assert "Warning" not in log, log[-3000:]
        assert code == 0, log[-3000:]


class Bystander:
    """Somebody who works on meanwhile, and takes note of how long each answer took."""

    def __init__(self, hosts):
        self._wire = Wire(hosts, timeout=10_000)
        self._over = threading.Event()
        self.slowest, self.asked, self.fault = 0.0, 0, None
        self._thread = threading.Thread(target=self._work)

    def _work(self):
        try:
            while not self.asked or not self._over.wait(0.01):
                begin = time.monotonic()
                self._wire.ping()
                self.slowest = max(self.slowest, time.monotonic() - begin)
                self.asked += 1
        except Exception as exc:
            self.fault = exc

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_exc):
        self._over.set()
        self._thread.join()
        self._wire.close()
        assert self.fault is None, self.fault
        assert self.asked
        assert self.slowest < 2.0, f"somebody else waited {self.slowest:.1f} s"


def raw(server, data=b""):
    """Return a connection on which some bytes were sent."""
    connection = socket.create_connection(("127.0.0.1", server.port), 10)
    if data:
        connection.sendall(data)
    return connection


def is_closed(connection):
    """Wait until the other side ends the connection; what it says before does not matter."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


def cut(connection):
    """Go without a good-bye, leaving no half-closed connection in the kernel either."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


GREETING = jute.framed(hello())


@contextlib.contextmanager
def open_files(number):
    """Allow this process so many open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(number, hard), hard))
    yield min(number, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
