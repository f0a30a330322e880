"""zkfleet demo: a fleet to look at, and what its clients see when servers die.

Real parts: two ZEO servers and two HTTP servers, each under `zkfleet run`, a
ZODB client and an HTTP client that know nobody's address; a dev server, or
whichever ZooKeeper is named.
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
from pathlib import Path

import click
import psutil

from zkfleet.cli import programs
from zkfleet.cli.options import Seconds, asks_for_dev, on_signals, with_errors
from zkfleet.devserver import DevServer
from zkfleet.endpoints import Endpoint
from zkfleet.errors import MissingDependency, ZkfleetError
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
SESSION_SECONDS = 2.0
BASE = "/zkfleet-demo"


class Fleet:
    """The processes of the demo."""

    def __init__(self, hosts: str, folder: Path) -> None:
        self.hosts, self.folder = hosts, folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start_http(self, name: str) -> int:
        """Start an HTTP server; returns its port."""
        port = free_port()
        self._start(name, "/web/providers", port, [sys.executable, "-m", "zkfleet.cli.programs", "http", str(port)])
        return port

    def start_zeo(self, name: str, service: str) -> int:
        """Start a ZEO server on the storage of a service; returns its port."""
        port = free_port()
        file = self.folder / f"{service.strip('/').replace('/', '-')}.fs"
        command = [sys.executable, "-m", "ZEO.runzeo", "-a", f"127.0.0.1:{port}", "-f", str(file)]
        self._start(name, f"{service}/providers", port, command)
        return port

    def _start(self, name: str, path: str, port: int, command: list[str]) -> None:
        ours = [sys.executable, "-c", "from zkfleet.cli import main; main()", "run", path]
        options = ["-z", self.hosts, "--address", f"127.0.0.1:{port}", "--property", f"name={name!r}"]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(  # noqa: S603  all of it is ours
                [*ours, *options, "--", *command],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                start_new_session=True,
            )

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
        self._turn = 0

    def tell(self) -> None:
        """Tell the whole story."""
        self.registry.import_tree(TREE)
        click.secho("The tree is imported: three services, and no address in it.", bold=True)
        self._start()
        click.echo(self.registry.export_tree("/", ephemeral=True))
        self._work("Both clients found their servers through the tree")
        self._lose_an_http_server()
        self._lose_a_zeo_server()
        click.echo(self.registry.export_tree("/", ephemeral=True))
        self._work("The clients go on, and nobody told them an address")

    def _start(self) -> None:
        for name in ("web-1", "web-2"):
            self.fleet.start_http(name)
        self.fleet.start_zeo("zeo-main", "/databases/main")
        self.fleet.start_zeo("zeo-archive", "/databases/archive")
        self._await("/web/providers", 2)
        self._await("/databases/main/providers", 1)
        self._await("/databases/archive/providers", 1)
        click.secho("Two HTTP and two ZEO servers registered themselves on free ports:", bold=True)

    def _lose_an_http_server(self) -> None:
        self.fleet.kill("web-1")
        answer = self._ask_until_answered()
        click.secho("An HTTP server was killed:", bold=True)
        click.echo(f"  the client was answered by the other one: {answer}")
        self._await("/web/providers", 1)
        click.echo("  and when the dead one's session ended, it left the list")
        port = self.fleet.start_http("web-1")
        self._await("/web/providers", 2)
        click.echo(f"  started again on port {port}: back in the list, and in the round")

    def _lose_a_zeo_server(self) -> None:
        self.fleet.kill("zeo-main")
        click.secho("A ZEO server was killed:", bold=True)
        port = self.fleet.start_zeo("zeo-main", "/databases/main")
        self.registry.providers("/databases/main/providers").wait_until(
            lambda providers: any(endpoint.port == port for endpoint in providers.endpoints), STEP_SECONDS
        )
        click.echo(f"  started again on port {port}; the client counts on: {self._count()}")

    def _work(self, title: str) -> None:
        click.secho(f"{title}:", bold=True)
        for _ in range(2):
            click.echo(f"  HTTP: {self._ask_until_answered()}")
        click.echo(f"  ZODB: the counter is {self._count()}")

    def _count(self) -> int:
        # Through a link: the web servers' configuration says which database is theirs.
        return programs.count(self.registry, "/web/databases/main/providers")

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
    _need_zeo()
    on_signals((signal.SIGTERM, signal.SIGHUP), signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="zkfleet-demo-"))
    try:
        with _ensemble(zookeeper) as hosts, connect(hosts, session_timeout=SESSION_SECONDS) as registry:
            fleet = Fleet(hosts, folder)
            try:
                Story(registry, fleet).tell()
                if not once:
                    click.echo(NEXT.format(hosts=hosts, seconds=seconds))
                    _rest(seconds)
            finally:
                fleet.stop()
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
        raise SystemExit(130) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rest(seconds: float, pause: Callable[[float], None] = time.sleep) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        pause(seconds)


def _need_zeo() -> None:
    try:
        import ZEO  # noqa: F401
    except ImportError as exc:
        raise MissingDependency("the demo runs ZEO servers", hint="pip install 'zkfleet[zeo]'") from exc
