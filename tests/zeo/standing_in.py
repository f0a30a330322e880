"""A server process with standbys, as small as can be: plain ZEO, or nothing, under `zkfleet.zeo.standby`.

Run as a program: HOSTS PATH LOG TIMEOUT FILE, where FILE may be `-` for no storage at
all, and so no lock on a file: then nothing but the lease keeps two from serving at once.

While it serves it writes to LOG, every two milliseconds, when it was allowed to
commit, by the clock that all processes share.  SIGTERM drains.  With a name in
STANDING_IN_MACHINE it is of another machine, where nobody here can see it die.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from itertools import pairwise
from typing import NamedTuple

from tests.conftest import wait_for

PATH = "/databases/main"


class Line(NamedTuple):
    at: float
    pid: int
    what: str
    detail: str


class Log:
    """What several processes write, a line at a time."""

    def __init__(self, file):
        self.file = file

    def write(self, at, what, detail="-"):
        with open(self.file, "ab", buffering=0) as log:
            log.write(f"{at:.6f} {os.getpid()} {what} {detail}\n".encode())

    def lines(self, pid=None, *, tail=None):
        text = self.file.read_text() if self.file.exists() else ""
        found = [
            Line(float(at), int(who), *rest) for at, who, *rest in map(str.split, text.splitlines()[-(tail or 0) :])
        ]
        return sorted(line for line in found if pid in (None, line.pid))

    def last(self, what, pid=None):
        return next((line for line in reversed(self.lines(pid)) if line.what == what), None)

    def server(self):
        """Return the process that was allowed to commit within the last tenth of a second, or None."""
        now = time.monotonic()
        commits = [line for line in self.lines(tail=20) if line.what == "commit" and line.at > now - 0.1]
        return commits[-1].pid if commits else None

    def reigns(self):
        """Return who served when: the times of the first and last commit of each tenure, in order."""
        tenures = {}
        for line in self.lines():
            if line.what == "commit":
                first, _ = tenures.get((line.pid, line.detail), (line.at, line.at))
                tenures[line.pid, line.detail] = (first, line.at)
        return sorted((first, last, pid) for (pid, _), (first, last) in tenures.items())

    def check_one_at_a_time(self):
        for (_, ended, one), (began, _, other) in pairwise(self.reigns()):
            assert ended < began, f"{one} and {other} served at once, for {ended - began:.3f} s"


class Process:
    """A server process of a test."""

    def __init__(self, hosts, log, *, timeout=2.0, file="-", machine=""):
        arguments = [hosts, PATH, log.file, timeout, file]
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.zeo.standing_in", *map(str, arguments)],
            env={**os.environ, "STANDING_IN_MACHINE": machine},
        )
        self.pid = self.process.pid

    @property
    def serves(self):
        return self.log.server() == self.pid

    def wait_until(self, state, timeout=60):
        wait_for(lambda: any(line.detail == state for line in self.log.lines(self.pid)), timeout, f"{self.pid} {state}")
        return self

    def send(self, with_signal):
        self.process.send_signal(with_signal)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.send_signal(signal.SIGCONT)
        self.process.wait(10)


class StandIn:
    """Opens a file storage and serves it with plain ZEO, and is busy committing."""

    def __init__(self, log, file):
        self.log, self.file, self.server = log, file, None
        self.may_commit = lambda: False
        self.busy = None

    def open(self):
        if self.file != "-":
            from ZEO.StorageServer import StorageServer
            from ZODB.FileStorage import FileStorage

            self.server = StorageServer(("127.0.0.1", 0), {"1": FileStorage(self.file)})
            self.server.start_thread()
        self.busy = threading.Event()
        tenure = f"{time.monotonic():.6f}"
        self.log.write(time.monotonic(), "opened", tenure)
        threading.Thread(target=self.commit, args=[self.busy, tenure], daemon=True).start()

    def commit(self, over, tenure):
        while not over.wait(0.002):
            now = time.monotonic()
            if self.may_commit():
                self.log.write(now, "commit", tenure)

    def abort(self):
        self.close("aborted")

    def drain(self):
        self.close("drained")

    def close(self, what):
        if self.busy:
            self.busy.set()
        if self.server:
            self.server.close()
        self.busy = self.server = None
        self.log.write(time.monotonic(), what)


def main(hosts, path, file_of_log, timeout, file):
    import logging
    from pathlib import Path

    import zkfleet
    from zkfleet.zeo.standby import Standby

    logging.basicConfig(
        level=os.environ.get("STANDING_IN_LOG", "CRITICAL"), format="%(asctime)s %(process)d %(message)s"
    )
    if machine := os.environ.get("STANDING_IN_MACHINE"):
        socket.gethostname = lambda: machine
    log = Log(Path(file_of_log))
    with zkfleet.connect(hosts, session_timeout=float(timeout), wait=True) as registry:
        server = StandIn(log, file)
        standby = Standby(registry, path, server)
        server.may_commit = standby.may_commit
        told = []
        signal.signal(signal.SIGTERM, lambda *_: told.append(1))
        standby.start()
        number, password = registry.session.client.client_id
        log.write(time.monotonic(), "session", f"{number}:{password.hex()}")
        state = None
        while state is not zkfleet.zeo.duty.State.STOPPED:
            if told:
                standby.stop()
            if standby.state is not state:
                state = standby.state
                log.write(time.monotonic(), "state", state.value)
            time.sleep(0.005)
        standby.wait_until_stopped(5)


if __name__ == "__main__":
    main(*sys.argv[1:])
