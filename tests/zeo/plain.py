"""ZEO's own servers as processes, for the tests of what follows them."""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys

from tests.conftest import wait_for
from zkfleet.testing.zookeeper import free_port

CONFIGURATION = """
<zeo>
  address {host}:{port}
  {options}
</zeo>
<filestorage {storage}>
  path {file}
  {blobs}
</filestorage>
"""

# On uvloop ZEO 6.2 tells of others' commits out of order.
WITHOUT_UVLOOP = "import sys; sys.modules['uvloop'] = None; from ZEO.runzeo import main; main()"


class Zeo:
    """A `runzeo` on a file, listening when the constructor returns; `blobs` is a folder for them."""

    def __init__(self, file, *, port=0, options="", storage="1", host="127.0.0.1", blobs=None):
        self.file, self.host, self.port = file, host, port or free_port()
        configuration = file.with_name(f"zeo-{self.port}.conf")
        host = f"[{host}]" if ":" in host else host
        configuration.write_text(
            CONFIGURATION.format(
                host=host,
                port=self.port,
                options=options,
                storage=storage,
                file=file,
                blobs=f"blob-dir {blobs}" if blobs else "",
            )
        )
        with open(file.with_name(f"zeo-{self.port}.log"), "ab") as log:
            self.process = subprocess.Popen([sys.executable, "-c", WITHOUT_UVLOOP, "-C", configuration], stderr=log)
        wait_for(self.listens, 20, "the ZEO server listens")

    @property
    def address(self):
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def listens(self):
        assert self.process.poll() is None, "the ZEO server ended"
        with contextlib.suppress(OSError):
            socket.create_connection((self.host, self.port), 1).close()
            return True
        return False

    def status(self, storage="1"):
        """What the server says when it is asked whether it is OK."""
        with socket.create_connection((self.host, self.port), 5) as link, link.makefile("rwb") as stream:
            stream.write(b"\0\0\0\4ruok")
            stream.flush()
            sized(stream)
            return json.loads(sized(stream))[storage]

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait()


def sized(stream):
    return stream.read(struct.unpack(">I", stream.read(4))[0])


def open_files():
    """How many files and sockets this process has open; kazoo has a selector open only while it waits."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            count += "eventpoll" not in os.readlink(f"/proc/self/fd/{number}")
    return count
