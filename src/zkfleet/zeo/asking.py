"""What does a ZEO server say of itself, when asked from outside?

ZEO answers `ruok` before anybody has registered with it: counters, the commit
lock, the last transaction of each of its storages.  No client is made for it,
and ZEO is not needed here.  Whoever listens may be frozen, far away, or no ZEO
server at all: everything ends within the timeout.

The answer has no time in it, so what is said of the lock is by the server's clock.
"""

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from zkfleet.endpoints import parse_endpoint
from zkfleet.errors import BadAddress, ConnectFailed, WaitTimedOut, ZkfleetError
from zkfleet.spelling import spell
from zkfleet.zeo.described import LOCK_HOLDER, PACK
from zkfleet.zeo.packs import Pack

QUESTION = b"\0\0\0\4ruok"
LONGEST = 1 << 24
TLS_ALERT = b"\x15\x03"
GRACE = 0.2


@dataclass(frozen=True, slots=True)
class Said:
    """What a server says of one of its storages; counters begin when it starts.

    Attributes:
        connections: clients that have registered.
        loads, stores: of objects.
        commits, aborts: of transactions.
        conflicts, conflicts_resolved: met when voting.
        active: transactions that have begun.
        waiting: those that wait for the commit lock.
        locked_at: since when somebody holds it (seconds since 1970), or None.
        lock_holder: who: the client's address and what its transaction says of itself; "" if the
            server is none of ours.
        started: when the server did, in its words.
        last: the last transaction, 16 hex digits.
        pack: the pack that is under way or was the last one; None if there was none, or the server is none of ours.
    """

    connections: int
    loads: int
    stores: int
    commits: int
    aborts: int
    conflicts: int
    conflicts_resolved: int
    active: int
    waiting: int
    locked_at: float | None
    started: str
    last: str
    lock_holder: str = ""
    pack: Pack | None = None


Answer = Mapping[str, Said]
_NAMES = {"active": "active_txns", "locked_at": "lock_time", "started": "start", "last": "last-transaction"}
_TEXTS = ("started", "last", "lock_holder")
_OURS = ("lock_holder", "pack")


def ask(address: str, *, timeout: float = 5.0, tls: ssl.SSLContext | None = None, server_name: str = "") -> Answer:
    """Ask a server what it says of its storages.

    Args:
        address: `host:port`, or the path of a Unix socket.
        timeout: seconds, for everything.
        tls: to speak TLS with it.
        server_name: that its certificate must be for, if not the host.

    Returns:
        What it says, by the storages' names.

    Raises:
        ConnectFailed: it cannot be reached, or is no ZEO server.
        WaitTimedOut: it was silent, or had not said all.
        BadAddress: that is no address.
    """
    answer = ask_all([address], timeout=timeout, tls=tls, server_name=server_name)[address]
    if isinstance(answer, ZkfleetError):
        raise answer
    return answer


def ask_all(
    addresses: Collection[str], *, timeout: float = 5.0, tls: ssl.SSLContext | None = None, server_name: str = ""
) -> dict[str, Answer | ZkfleetError]:
    """Ask several servers at once; as `ask`, but errors are returned."""
    deadline = time.monotonic() + timeout
    answers: dict[str, Answer | ZkfleetError] = {}

    def ask_one(address: str) -> None:
        try:
            answers[address] = _asked(address, deadline, tls, server_name)
        except ZkfleetError as exc:
            answers[address] = exc
        except TimeoutError:
            pass  # said below
        except (OSError, ValueError) as exc:
            answers[address] = ConnectFailed(f"{address}: {_reason(exc)}")

    # Threads, because a look-up of a name can be neither timed nor cancelled, only left alone.
    threads = [threading.Thread(target=ask_one, args=(each,), name="zeo-ask", daemon=True) for each in addresses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()) + GRACE)
    return {each: answers[each] if each in answers else _silent(each, timeout) for each in addresses}


def _silent(address: str, timeout: float) -> WaitTimedOut:
    return WaitTimedOut(
        f"{address}: no answer within {round(timeout, 1):g} s",
        hint="the server hangs or is overloaded, the link to it is broken, or it is no ZEO server",
    )


def _reason(exc: Exception) -> str:
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc) or type(exc).__name__


def _asked(address: str, deadline: float, tls: ssl.SSLContext | None, server_name: str) -> Answer:
    with _connected(address, deadline) as plain:
        if tls is None:
            return _answer(address, plain, deadline)
        host = server_name or ("" if "/" in address else parse_endpoint(address).host)
        try:
            with tls.wrap_socket(plain, server_hostname=host or None) as link:
                return _answer(address, link, deadline)
        except ssl.SSLError as exc:
            raise ConnectFailed(
                f"{address}: no TLS with it: {exc.reason or exc}",
                hint="does it speak TLS, and do both sides trust each other's certificates?",
            ) from exc


def _connected(address: str, deadline: float) -> socket.socket:
    if "/" not in address:
        endpoint = parse_endpoint(address)
        if not endpoint.port:
            raise BadAddress(f"{address}: nobody listens on port 0", hint="give the port that the server got")
        return socket.create_connection((endpoint.host or "localhost", endpoint.port), _left(deadline))
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        link.settimeout(_left(deadline))
        link.connect(address)
    except BaseException:
        link.close()
        raise
    return link


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _answer(address: str, link: socket.socket, deadline: float) -> Answer:
    link.sendall(QUESTION)
    version = _message(address, link, deadline)
    if version[:1] not in (b"Z", b"M") or not version[1:].isdigit():
        raise _no_zeo(address, version)
    return parse(address, _message(address, link, deadline))


def _message(address: str, link: socket.socket, deadline: float) -> bytes:
    head = _read(address, link, 4, deadline)
    [size] = struct.unpack(">I", head)
    if size > LONGEST:
        raise _no_zeo(address, head)
    return _read(address, link, size, deadline)


def _read(address: str, link: socket.socket, size: int, deadline: float) -> bytes:
    read = bytearray()
    while len(read) < size:
        link.settimeout(_left(deadline))
        more = link.recv(min(size - len(read), 1 << 16))
        if not more:
            raise ConnectFailed(
                f"{address}: it closed the connection before it had answered",
                hint="it may be stopping, speak TLS, or be no ZEO server",
            )
        read += more
    return bytes(read)


def _no_zeo(address: str, said: bytes) -> ConnectFailed:
    if said.startswith(TLS_ALERT):
        return ConnectFailed(f"{address}: it speaks TLS", hint="ask with TLS")
    return ConnectFailed(
        f"{address}: what listens there is no ZEO server: it begins with {said[:16]!r}", hint="is the port right?"
    )


def parse(address: str, data: bytes) -> Answer:
    """Return what an answer says; pure.

    Raises:
        ConnectFailed: it is not what a ZEO server says.
    """
    try:
        return {name: _said(fields) for name, fields in json.loads(data).items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ConnectFailed(f"{address}: its answer cannot be read ({type(exc).__name__}: {exc})") from exc


def _said(fields: Mapping[str, Any]) -> Said:
    found = {name: fields[_NAMES.get(name, name)] for name in Said.__slots__ if name not in _OURS}
    found["lock_holder"] = fields.get(LOCK_HOLDER, "")
    for name, value in found.items():
        if name in _TEXTS:
            right = isinstance(value, str)
        else:
            right = isinstance(value, int | float) or (name == "locked_at" and value is None)
        if not right:
            raise ValueError(f"{name} is {value!r}")
    if len(bytes.fromhex(found["last"])) != 8:
        raise ValueError(f"last is {found['last']!r}")
    found["lock_holder"] = spell(found["lock_holder"])
    return Said(**found, pack=Pack.of(fields.get(PACK)))
