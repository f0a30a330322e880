"""How is a real ZooKeeper started, broken and ended for a test or a demo?

Apache ZooKeeper in Java, from Debian's packages, from `.cache/zookeeper` (what
`scripts/get-zookeeper` unpacked there) or from `$ZOOKEEPER_HOME`; on loopback,
free ports, a data directory of its own.  Every process started here is ended
by `stop`, and by the end of the Python process.
"""

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from kazoo.client import KazooClient
from kazoo.handlers.threading import KazooTimeoutError

from zkfleet.errors import Closed, MissingDependency, WaitTimedOut

LOOPBACK = "127.0.0.1"
START_TIMEOUT = 30.0
LIBRARIES = (
    "zookeeper",
    "zookeeper-jute",
    "slf4j-api",
    "slf4j-simple",
    "netty-buffer",
    "netty-codec",
    "netty-common",
    "netty-handler",
    "netty-resolver",
    "netty-transport",
    "netty-transport-native-epoll",
    "netty-transport-native-unix-common",
    "snappy-java",
    "metrics-core",
    "commons-cli",
    "commons-io",
    "jackson-annotations",
    "jackson-core",
    "jackson-databind",
)
# The shortest start: one collector thread, no optimising compiler.
JAVA_OPTIONS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m")


def class_path(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the jars that a ZooKeeper server needs.

    Raises:
        MissingDependency: there is no ZooKeeper; the hint says how to get one.
    """
    home = environment.get("ZOOKEEPER_HOME")
    if home:
        jars = sorted(str(jar) for folder in (home, f"{home}/lib") for jar in Path(folder).glob("*.jar"))
        if any("zookeeper" in Path(jar).name for jar in jars):
            return jars
        raise MissingDependency(f"ZOOKEEPER_HOME={home} holds no ZooKeeper", hint="unpack an Apache tarball there")
    for root in ("/", ".cache/zookeeper"):
        folder = Path(root, "usr/share/java")
        if (folder / "zookeeper.jar").exists():
            return [str(jar.absolute()) for name in LIBRARIES if (jar := folder / f"{name}.jar").exists()]
    raise MissingDependency(
        "there is no ZooKeeper on this machine",
        hint="run scripts/get-zookeeper, or on Debian: sudo apt-get install zookeeper default-jre-headless",
    )


def java() -> str:
    """Return the path of a Java runtime; raises `MissingDependency`."""
    unpacked = sorted(Path(".cache/zookeeper/usr/lib/jvm").glob("*/bin/java"))
    found = shutil.which("java") or (str(unpacked[0].absolute()) if unpacked else None)
    if found is None:
        raise MissingDependency("there is no Java on this machine", hint="run scripts/get-zookeeper")
    return found


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        port: int = listener.getsockname()[1]
        return port


def four_letters(port: int, command: str, timeout: float = 1.0) -> str:
    """Return a server's answer to one of its four-letter commands, "" if it gives none."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout) as connection:
            connection.sendall(command.encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode(errors="replace")
    except OSError:
        return ""


class ZooKeeperServer:
    """One ZooKeeper server process.

    Args:
        folder: for its data and log; None for a temporary one.
        tick: milliseconds; session timeouts are held between 2 and 20 of them.
        settings: more lines for zoo.cfg.
        java_options: for the Java runtime, such as system properties.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        tick: int = 500,
        settings: Sequence[str] = (),
        java_options: Sequence[str] = (),
    ) -> None:
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="zookeeper-"))
        self.port = free_port()
        self._tick, self._settings, self._java_options = tick, tuple(settings), tuple(java_options)
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False
        self.member = 0

    @property
    def hosts(self) -> str:
        """The connection string."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """The process's id, 0 if it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else 0

    def start(self, *, wait: bool = True) -> Self:
        """Start the process, and wait until it serves."""
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        if self.member:
            (data / "myid").write_text(str(self.member))
        (self.folder / "zoo.cfg").write_text("\n".join(self._configuration()) + "\n")
        path = ":".join([str(self.folder), *class_path()])
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        command = [java(), *JAVA_OPTIONS, *self._java_options, "-cp", path, main, str(self.folder / "zoo.cfg")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, cwd=self.folder
            )
        atexit.register(self.stop)
        if wait:
            self.wait_until_serving()
        return self

    def _configuration(self) -> Iterator[str]:
        yield f"tickTime={self._tick}"
        yield f"dataDir={self.folder / 'data'}"
        yield f"clientPort={self.port}"
        yield f"clientPortAddress={LOOPBACK}"
        yield from ("admin.enableServer=false", "4lw.commands.whitelist=*", "maxClientCnxns=0")
        yield from ("initLimit=20", "syncLimit=10", "preAllocSize=4096")
        yield from self._settings

    def wait_until_serving(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until it answers as a server that takes requests.

        Raises:
            WaitTimedOut: it did not; the message ends with its log.
        """
        deadline = time.monotonic() + timeout
        while "Mode:" not in four_letters(self.port, "srvr"):
            if time.monotonic() > deadline or self.pid == 0:
                log = (self.folder / "log").read_text(errors="replace")[-1500:]
                raise WaitTimedOut(f"the ZooKeeper at {self.hosts} does not serve after {timeout:g} s:\n{log}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End the process as a power cut would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop the process in its tracks; its sockets stay open and silent.

        Raises:
            Closed: it does not run.
        """
        if self._process is None or self._process.poll() is not None:
            raise Closed(f"the ZooKeeper at {self.hosts} does not run", hint="start() it")
        self._process.send_signal(signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """Let a paused process go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
        self._paused = False

    def restart(self, *, wait: bool = True) -> None:
        """Kill the process and start it again on the same port and data."""
        self.kill()
        self.start(wait=wait)

    def wipe(self) -> None:
        """Kill the process, throw its data away and start it again on the same port."""
        self.kill()
        shutil.rmtree(self.folder / "data")
        self.start()

    def stop(self) -> None:
        """End the process for good, and remove a temporary folder."""
        self._end(signal.SIGTERM)
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.stop)

    def _end(self, with_signal: int) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(with_signal)
        if self._paused:
            process.send_signal(signal.SIGCONT)
            self._paused = False
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()


class Ensemble:
    """Three ZooKeeper servers that form one ensemble."""

    def __init__(self, folder: Path | None = None, *, tick: int = 500) -> None:
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="ensemble-"))
        lines = [f"server.{n}={LOOPBACK}:{free_port()}:{free_port()}" for n in (1, 2, 3)]
        self.members = [ZooKeeperServer(self.folder / str(n), tick=tick, settings=lines) for n in (1, 2, 3)]
        for number, member in enumerate(self.members, 1):
            member.member = number

    @property
    def hosts(self) -> str:
        """The connection string of all three."""
        return ",".join(member.hosts for member in self.members)

    def start(self) -> Self:
        """Start those that do not run, and wait until all serve."""
        for member in self.members:
            if not member.pid:
                member.start(wait=False)
        for member in self.members:
            member.wait_until_serving()
        return self

    def wipe(self) -> None:
        """Kill all members, throw their data away and start them again."""
        for member in self.members:
            member.kill()
            shutil.rmtree(member.folder / "data")
        self.start()

    def leader(self) -> ZooKeeperServer:
        """Return the member that leads now; waits for an election to end."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            for member in self.members:
                if "Mode: leader" in four_letters(member.port, "srvr", timeout=0.3):
                    return member
            time.sleep(0.05)
        raise WaitTimedOut("the ensemble has elected no leader")

    def stop(self) -> None:
        """End all members."""
        for member in self.members:
            member.stop()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()


def expire_session(hosts: str, client_id: tuple[int, bytes]) -> None:
    """End somebody's session as the ensemble does when it has not heard from them.

    A second client that shows the same id and password takes the session over,
    and closes it.

    Raises:
        WaitTimedOut: nobody answers.
    """
    # Without the chroot, whose check would be one more request to lose.
    killer = KazooClient(hosts.partition("/")[0], client_id=client_id)
    try:
        killer.start(timeout=START_TIMEOUT)
    except KazooTimeoutError as exc:
        raise WaitTimedOut(
            f"no ZooKeeper answered at {hosts} within {START_TIMEOUT:g} s", hint="start() it, or resume() it"
        ) from exc
    finally:
        with contextlib.suppress(OSError):
            killer.stop()
            killer.close()
