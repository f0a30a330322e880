"""A small fleet of real processes, and what each command of a monitor says of it.

A ZEO server, and a shop that uses it: two databases, a registration, calls, a
loop and a reactor.  While the shop's server is asked somebody holds its commit
lock, and somebody waits for it.  `make-monitor-docs` has its samples from here.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from zkfleet.monitor import Command

if TYPE_CHECKING:
    from ZODB import DB

T = TypeVar("T")
ASKED_LINES = {
    "conflicts": ["conflicts", "conflicts last"],
    "connections": ["connections 0", "connections 0 - stacks"],
    "help": ["help locks"],
    "interactive": ["interactive", "health", "", "quit"],
    "json": ["json gc"],
    "kick": ["kick {holder}"],
    "loglevel": ["loglevel zkfleet.registry"],
    "memory": ["memory start", "memory top 2", "memory stop"],
    "monitor": ["monitor 0"],
    "objects": ["objects 3", "objects 3"],
    "pack": ["pack 1 catalog"],
    "profile": ["profile 0.2"],
    "threads": ["threads clerk"],
    "told": ["told startup"],
}
"""What is asked of commands that say more if they are asked for something; the others are asked by their names."""
OF_SERVERS = "zkfleet.monitor.zeoserver"
"""The module whose commands are asked of the ZEO server; all others are asked of the shop."""
SECONDS = 30.0
MOST_LINES = 20
TREE = """\
/databases
  /main
/web
  threads = 4
  /providers
"""
CONFIGURATION = """\
<zeo>
  address 127.0.0.1
</zeo>
<zookeeper>
  connection {hosts}
  path /databases/main
</zookeeper>
<filestorage>
  path {folder}/main.fs
</filestorage>
"""
FAILED = re.compile(r"Invalid command|\nusage: |\(error [0-9a-f]+, the log|: no answer in |: no room for ")


def samples(commands: list[Command]) -> dict[str, str]:
    """Return what each command says, as one sees it who asks; paths of this machine are shortened."""
    from zkfleet.devserver import DevServer

    with tempfile.TemporaryDirectory() as name, DevServer(tick=0.2) as zookeeper:
        folder = Path(name)
        with contextlib.ExitStack() as fleet:
            server, shop = (fleet.enter_context(_process(what, zookeeper.hosts, folder)) for what in ("server", "shop"))
            holder = fleet.enter_context(_stuck(server))
            # Who kicks the holder ends what all others tell of.
            ordered = sorted(commands, key=lambda one: one.action is True)
            said = {one.name: _sample(one, server if _is_of_servers(one) else shop, holder) for one in ordered}
        return {name: _shortened(text, folder) for name, text in said.items()}


def _is_of_servers(command: Command) -> bool:
    return command.function.__module__ == OF_SERVERS


def _sample(command: Command, where: str, holder: int) -> str:
    lines = [line.format(holder=holder) for line in ASKED_LINES.get(command.name, [command.name])]
    # What is said in interactive mode is said on one connection; all else on one for each line.
    together = [lines] if command.name == "interactive" else [[line] for line in lines]
    parts = []
    for asked in together:
        answer = ask(where, *asked)
        if FAILED.search(answer) or not answer:
            raise SystemExit(f"{asked}: {answer!r}: has {command.name} an example in {Path(__file__).name}?")
        parts.append("".join(f"> {line}".rstrip() + "\n" for line in asked) + answer.replace("\r", ""))
    return "".join(parts)


def ask(where: str, *lines: str) -> str:
    """Return what a monitor at a Unix socket says to these lines."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(SECONDS)
        link.connect(where)
        link.sendall("".join(f"{line}\n" for line in lines).encode())
        return b"".join(iter(lambda: link.recv(1 << 16), b"")).decode()


def _shortened(text: str, folder: Path) -> str:
    """Return a sample that does not tell where this project, Python and the fleet are on this machine."""
    text = re.sub(rf"\b{re.escape(os.uname().nodename)}\b", "app1", text.replace(str(folder), "/srv/shop"))
    roots = {sys.prefix, sys.base_prefix, str(Path(__file__).parent.parent)}
    longest_first = "|".join(map(re.escape, sorted(roots, key=len, reverse=True)))
    root = re.compile(rf"(?:{longest_first})/(?:lib/python[0-9.]+/)?(?:site-packages/|src/|scripts/)?")
    lines = [_without(root, line) for line in text.splitlines()]
    lines = _narrowed(lines) if root.search(text) else lines
    shown = lines if len(lines) <= MOST_LINES else [*lines[:MOST_LINES], "..."]
    return "".join(line.rstrip() + "\n" for line in shown)


def _without(root: re.Pattern[str], line: str) -> str:
    """Return a line without a path's beginning; what stands below each other in a table still does."""
    while found := root.search(line):
        rest = line[found.end() :]
        blanks = " " * (found.end() - found.start())
        line = line[: found.start()] + re.sub(r"(?<=\S)(?=  )", blanks, rest, count=1)
    return line


def _narrowed(lines: list[str]) -> list[str]:
    """Return a table without the room that nothing needs."""
    width = max(map(len, lines))
    table = [line.ljust(width) for line in lines if not line.startswith(">")]
    used = [any(line[at] != " " for line in table if at < len(line)) for at in range(width)]
    kept = [at for at in range(width) if any(used[max(0, at - 2) : at + 1]) or at < 4]
    return [line if line.startswith(">") else "".join(line[at] for at in kept if at < len(line)) for line in lines]


@contextlib.contextmanager
def _process(what: str, hosts: str, folder: Path) -> Iterator[str]:
    """Run one of the processes below; yields where its monitor listens."""
    where, log = f"{folder}/{what}.sock", folder / f"{what}.log"
    with log.open("wb") as output:
        command = [sys.executable, __file__, what, hosts, str(folder), where]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        _until(lambda: Path(where).exists() or process.poll() is not None)
        if process.poll() is not None:
            raise SystemExit(log.read_text())
        yield where
    finally:
        process.terminate()
        process.wait(SECONDS)


@contextlib.contextmanager
def _stuck(server: str) -> Iterator[int]:
    """Hold the commit lock of a server while somebody waits for it; yields the holder's number."""
    from ZEO.ClientStorage import ClientStorage

    [said] = json.loads(ask(server, "json zeoserver"))["answer"]
    host, _, port = said["server"].rpartition(":")
    with contextlib.ExitStack() as held:
        first, second = (ClientStorage((host, int(port)), wait_timeout=SECONDS) for _ in range(2))
        held.callback(first.close)
        held.callback(second.close)
        _vote(first, "/shop/checkout")
        waiting = threading.Thread(target=_vote, args=(second, "/shop/cart"), daemon=True)
        waiting.start()
        locks = _until(lambda: len(found := json.loads(ask(server, "json locks"))["answer"]) == 2 and found)
        time.sleep(1)  # so that there is something to tell
        yield next(one["client"] for one in locks if one["lock"] == "holds")
        waiting.join(SECONDS)


def _vote(storage: object, description: str) -> None:
    from ZODB.Connection import TransactionMetaData
    from ZODB.utils import load_current, z64

    change = TransactionMetaData("", description)
    data, serial = load_current(storage, z64)
    storage.tpc_begin(change)
    storage.store(z64, serial, data, "", change)
    storage.tpc_vote(change)


def _until(condition: Callable[[], T]) -> T:
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise SystemExit("the fleet that is asked does not come up")
        time.sleep(0.02)
    return found


def server(hosts: str, folder: str, where: str) -> None:
    """Be a ZEO server."""
    import zkfleet
    from zkfleet import monitor, zeo

    with zkfleet.connect(hosts) as registry:
        registry.import_tree(TREE)
    with zeo.Server(CONFIGURATION.format(hosts=hosts, folder=folder)):
        monitor.start(where, actions=True)
        signal.sigwait([signal.SIGTERM])


def shop(hosts: str, folder: str, where: str) -> None:
    """Be a process that has some of everything that commands tell about."""
    from twisted.internet import asyncioreactor

    loop = asyncio.new_event_loop()
    asyncioreactor.install(loop)
    from twisted.internet import reactor
    from ZODB import DB
    from ZODB.FileStorage import FileStorage

    import zkfleet
    from zkfleet import monitor, zeo

    registry = zkfleet.connect(hosts)
    registry.properties("/web")
    registry.register("/web/providers", "127.0.0.1:8080").wait_until_registered()
    monitor.databases[""] = main = zeo.DB(registry, "/databases/main")
    monitor.databases["catalog"] = DB(FileStorage(f"{folder}/catalog.fs"))
    threading.Thread(target=_clerk, args=(main, threading.Event()), name="clerk", daemon=True).start()
    reactor.callLater(3600, _count_stock, "tea")
    reactor.callWhenRunning(lambda: loop.create_task(_shopping(main, where), name="shopping"))
    reactor.run()


def _clerk(main: "DB", closing_time: threading.Event) -> None:
    with main.transaction() as connection:
        connection.setDebugInfo("/shop/cart")
        closing_time.wait()


def _count_stock(_what: str) -> None:
    pass


async def _shopping(main: "DB", where: str) -> None:
    import transaction
    from persistent.mapping import PersistentMapping

    from zkfleet import monitor
    from zkfleet.calls.asyncio import call

    with main.transaction() as connection:
        connection.root()["cart"] = PersistentMapping()
    cart = main.open(transaction.TransactionManager()).root()["cart"]
    for item in ("tea", "honey", "cups"):
        await call(cart.__setitem__, item, 1)
    _check_out_too_late(main)
    monitor.start(where, actions=True)
    await asyncio.sleep(3600)


def _check_out_too_late(main: "DB") -> None:
    """Take long for a transaction, and meet a conflict at its end."""
    import transaction
    from ZODB.POSException import ConflictError

    late = transaction.TransactionManager()
    with contextlib.closing(main.open(late)) as connection:
        late.begin().note("/shop/checkout")
        connection.root()["cart"]["tea"] = 2
        with main.transaction() as other:
            other.root()["cart"]["tea"] = 3
        time.sleep(1.1)  # so that it is long
        with contextlib.suppress(ConflictError):
            late.commit()
        late.abort()


if __name__ == "__main__":
    {"server": server, "shop": shop}[sys.argv[1]](*sys.argv[2:])
