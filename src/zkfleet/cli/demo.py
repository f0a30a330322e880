"""zkfleet demo: a fleet to look at, and what its clients see when servers die.

Real parts: two HTTP servers under `zkfleet run`, two ZEO servers that are
`zkfleet zeo serve` with configuration files, an HTTP client and two ZODB
clients that know nobody's address; a dev server, or whichever ZooKeeper is named.
The story is a list of steps, and each of them checks that it happened.
"""

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import click
import psutil

from zkfleet.cli import programs
from zkfleet.cli.frame import frame
from zkfleet.cli.options import Seconds, asks_for_dev, on_signals, with_errors
from zkfleet.cli.output import emit_text, say
from zkfleet.devserver import DevServer
from zkfleet.endpoints import Endpoint
from zkfleet.errors import ZkfleetError
from zkfleet.monitor.client import Asking as AskingMonitors
from zkfleet.registry import Registry, connect
from zkfleet.testing.zookeeper import free_port

TREE = """\
/lb : load-balancer
  /pools
    /web
      # where the load balancer finds its servers
      providers -> /web/providers
      threads => /web
/web : http
  threads = 4
  /databases
    main -> /databases/main
  /providers
/databases : zodb
  /archive
    /providers
  /main
    /providers
"""
STEP_SECONDS = 30.0
ASK_SECONDS = 5.0
SESSION_SECONDS = 2.0
BASE = "/zkfleet-demo"
SERVER_CONF = """\
<zeo>
  address 127.0.0.1
</zeo>
<zookeeper>
  connection {hosts}
  path {service}/providers
  session-timeout {milliseconds:.0f}
  monitor-server 127.0.0.1:0
</zookeeper>
<filestorage>
  path {file}
</filestorage>
"""
# By a link: the web servers' configuration says which database is theirs.
MAIN = "/web/databases/main/providers"
CLIENT_CONF = """\
%import zkfleet.zeo
<zodb>
  <zkzeoclient>
    zookeeper {hosts}
    server {path}
  </zkzeoclient>
</zodb>
"""


class Fleet:
    """The processes of the demo."""

    def __init__(self, hosts: str, folder: Path) -> None:
        self.hosts, self.folder = hosts, folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start_http(self, name: str) -> int:
        """Start an HTTP server; returns its port."""
        port, monitor = free_port(), f"127.0.0.1:{free_port()}"
        run = ["run", "/web/providers", "-z", self.hosts, "--address", f"127.0.0.1:{port}"]
        said = ["--property", f"name={name!r}", "--property", f"monitor={monitor!r}"]
        server = [sys.executable, "-m", "zkfleet.cli.programs", str(port), monitor]
        self._start(name, [*run, *said, "--", *server])
        return port

    def start_zeo(self, name: str, service: str) -> None:
        """Start a ZEO server for a service, at a port that the system picks."""
        file = self.folder / f"{service.strip('/').replace('/', '-')}.fs"
        said = {"hosts": self.hosts, "service": service, "milliseconds": SESSION_SECONDS * 1000, "file": file}
        configuration = self.folder / f"{name}.conf"
        configuration.write_text(SERVER_CONF.format(**said))
        self._start(name, ["zeo", "serve", "-C", str(configuration)])

    def _start(self, name: str, arguments: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(  # noqa: S603  all of it is ours
                [sys.executable, "-c", "from zkfleet.cli import main; main()", *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                start_new_session=True,
            )

    @contextlib.contextmanager
    def clients(self) -> Iterator[dict[str, Any]]:
        """Open the main database for two clients, one by a file and one by a URI."""
        from zkfleet.zeo.config import database

        file = self.folder / "client.conf"
        file.write_text(CLIENT_CONF.format(hosts=self.hosts, path=MAIN))
        members, slash, chroot = self.hosts.partition("/")
        uri = f"zkzeo://{members}{MAIN}" + (f"?chroot=/{chroot}" if slash else "")
        with contextlib.ExitStack() as opened:
            yield {
                name: opened.enter_context(contextlib.closing(database(where)))
                for name, where in (("with a file", file), ("with a URI", uri))
            }

    def kill(self, name: str) -> None:
        """End a server, and what keeps it registered, as a power cut would."""
        process = self._processes.pop(name)
        _kill(process)

    def stop(self) -> None:
        """End them all, in order, and by force what does not end."""
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + 10
        for process in self._processes.values():
            try:
                process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                _kill(process)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid)
        for member in [*family.children(recursive=True), family]:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
    process.wait()


class Story:
    """What happens, step by step; a step that does not come true is an error."""

    def __init__(self, registry: Registry, fleet: Fleet) -> None:
        self.registry, self.fleet = registry, fleet
        self._turn = self._counted = 0

    def tell(self) -> None:
        """Tell the whole story."""
        self.registry.import_tree(TREE)
        say("The tree is imported: three services, and no address in it.", bold=True)
        self._start()
        emit_text(self.registry.export_tree("/", ephemeral=True))
        say()
        # Closed before the threads are waited for: what they wait for ends with it.
        with ThreadPoolExecutor() as threads, self.fleet.clients() as clients:
            self._work("The clients found their servers through the tree", clients)
            self._lose_an_http_server()
            self._lose_a_zeo_server(clients, threads)
            emit_text(self.registry.export_tree("/", ephemeral=True))
            say()
            self._work("The clients go on, and nobody told them an address", clients)
            _show_top(self.registry)  # while its clients are connected

    def _start(self) -> None:
        for name in ("web-1", "web-2"):
            self.fleet.start_http(name)
        self.fleet.start_zeo("zeo-main", "/databases/main")
        self.fleet.start_zeo("zeo-archive", "/databases/archive")
        self._await("/web/providers", 2)
        self._await("/databases/main/providers", 1)
        self._await("/databases/archive/providers", 1)
        say("Two HTTP and two ZEO servers registered themselves on free ports:", bold=True)

    def _lose_an_http_server(self) -> None:
        self.fleet.kill("web-1")
        answer = self._ask_until_answered()
        say("An HTTP server was killed:", bold=True)
        say(f"  the client was answered by the other one: {answer}")
        self._await("/web/providers", 1)
        say("  and when the dead one's session ended, it left the list")
        port = self.fleet.start_http("web-1")
        self._await("/web/providers", 2)
        say(f"  started again on port {port}: back in the list, and in the round")

    def _lose_a_zeo_server(self, clients: dict[str, Any], threads: ThreadPoolExecutor) -> None:
        with contextlib.closing(self.registry.providers("/databases/main/providers")) as view:
            before = set(view.endpoints)
            self.fleet.kill("zeo-main")
            killed = time.monotonic()
            # Begun while nobody serves: they wait, with the database that they have open.
            counts = [threads.submit(programs.count, database) for database in clients.values()]
            self.fleet.start_zeo("zeo-main", "/databases/main")
            view.wait_until(lambda providers: bool(set(providers.endpoints) - before), STEP_SECONDS)
            registered = time.monotonic()
            [new] = set(view.endpoints) - before
            numbers = [count.result(STEP_SECONDS) for count in counts]
            committed = time.monotonic()
        self._counted += len(numbers)
        self._check_counter(max(numbers))
        say("A ZEO server was killed while both clients were about to count:", bold=True)
        say(f"  another one took its place at {new}, after {registered - killed:.2f} s")
        say(f"  both clients had committed {(committed - registered) * 1000:.0f} ms later, and opened nothing anew")
        self._await("/databases/main/providers", 1)
        say("  and when the dead one's session ended, it left the list")

    def _work(self, title: str, clients: dict[str, Any]) -> None:
        say(f"{title}:", bold=True)
        for _ in range(2):
            say(f"  HTTP: {self._ask_until_answered()}")
        for name, database in clients.items():
            self._counted += 1
            self._check_counter(number := programs.count(database))
            say(f"  ZODB: the counter is {number}, by the client {name}")

    def _check_counter(self, number: int) -> None:
        if number != self._counted:
            raise ZkfleetError(f"the counter is {number}, after {self._counted} that were told to be committed")

    def _ask_until_answered(self) -> str:
        """Ask the next HTTP server in turn; if it is dead, the one after it."""
        deadline = time.monotonic() + STEP_SECONDS
        while time.monotonic() < deadline:
            endpoints = self.registry.providers("/lb/pools/web/providers").endpoints
            for _ in endpoints:
                self._turn += 1
                answer = self._ask(endpoints[self._turn % len(endpoints)])
                if answer:
                    return answer
        raise ZkfleetError(f"no HTTP server answered within {STEP_SECONDS:g} s")

    @staticmethod
    def _ask(endpoint: Endpoint) -> str:
        try:
            with urllib.request.urlopen(f"http://{endpoint}/", timeout=2) as reply:
                return str(reply.read().decode().strip())
        except OSError:
            return ""

    def _await(self, path: str, number: int) -> None:
        with contextlib.closing(self.registry.providers(path)) as view:
            view.wait_until(lambda providers: len(providers.endpoints) == number, STEP_SECONDS)


NEXT = """\
What to try next, in another terminal (this fleet runs for {seconds:g} s, or until Ctrl-C):
  export ZKFLEET_ZOOKEEPER={hosts}
  zkfleet top
  zkfleet monitor --path / --all process
  zkfleet monitor --path /databases --all locks
  zkfleet show --watch
  zkfleet addresses --watch /lb/pools/web/providers
  zkfleet set /web threads=8 && zkfleet get /lb/pools/web threads
  zkfleet tree export > fleet.tree; $EDITOR fleet.tree; zkfleet tree plan fleet.tree
  zkfleet tree graph --as mermaid /"""


@contextlib.contextmanager
def _ensemble(hosts: str | None) -> Iterator[str]:
    """Yield a connection string for the demo: of its own server, or below a node of a given one."""
    if hosts is None or asks_for_dev(hosts):
        with DevServer(tick=0.2) as server:
            yield server.hosts
        return
    with connect(hosts) as registry:
        if registry.exists(BASE):
            raise ZkfleetError(f"{BASE} is there already", hint=f"is a demo running?  else: zkfleet rm -r -f {BASE}")
        registry.import_tree(f"{BASE}\n")
        try:
            yield registry.session.hosts.rstrip("/") + BASE
        finally:
            registry.delete_recursive(BASE, force=True)


@click.command("demo")
@click.option("-z", "--zookeeper", metavar="HOSTS", help="Run on this ensemble, not on a dev server of its own.")
@click.option("--seconds", type=Seconds(min=0), default=60.0, show_default=True, help="Stay up for so long.")
@click.option("--once", is_flag=True, help="Tell the story and stop.")
@with_errors
def demo_command(zookeeper: str | None, seconds: float, once: bool) -> None:
    """Run a fleet of ZEO and HTTP servers to look at; some of them will die."""
    import zkfleet.zeo  # noqa: F401  without ZEO there is nothing to tell

    on_signals((signal.SIGTERM, signal.SIGHUP), signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="zkfleet-demo-"))
    try:
        with _ensemble(zookeeper) as hosts, connect(hosts, session_timeout=SESSION_SECONDS) as registry:
            fleet = Fleet(hosts, folder)
            try:
                Story(registry, fleet).tell()
                if not once:
                    emit_text(NEXT.format(hosts=hosts, seconds=seconds))
                    _rest(seconds)
            finally:
                fleet.stop()
    except KeyboardInterrupt:
        say("stopped", err=True)
        raise SystemExit(130) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _show_top(registry: Registry) -> None:
    """Show what `zkfleet top` begins with."""
    from zkfleet.cli.top import look_at, show
    from zkfleet.zeo.surveying import Asking as AskingServers

    say("Each process has a monitor; zkfleet top asks them all:", bold=True)
    with contextlib.closing(registry.tree("/")) as tree:
        look = partial(look_at, tree, AskingServers(timeout=ASK_SECONDS), AskingMonitors(timeout=ASK_SECONDS))
        before = look()
        time.sleep(1)
        show(frame(look(), before), "/")


def _rest(seconds: float, pause: Callable[[float], None] = time.sleep) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        pause(seconds)
