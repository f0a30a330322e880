"""How is a monitor asked, from another process?

A question is one connection, with one deadline for all of it: however the
other side behaves, it is over then.  An answer is one line of JSON.  Nothing is
printed and nobody is looked up here: the command line and whoever looks at a
fleet do that.
"""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from zkfleet.endpoints import Endpoint
from zkfleet.errors import BadAddress, BadInput, ConnectFailed, WaitTimedOut, ZkfleetError
from zkfleet.monitor.answers import Value
from zkfleet.monitor.asking import JSON, TOLD
from zkfleet.monitor.limits import Limits
from zkfleet.monitor.places import Place, UnixPath, place
from zkfleet.spelling import spell, spell_lines

T = TypeVar("T")
LONGEST = 6 * Limits().answer
"""Bytes; JSON writes a character of an answer with six at most."""
AT_ONCE = 64
GRACE = 0.2


@dataclass(frozen=True, slots=True)
class Asking:
    """How monitors are asked.

    Attributes:
        timeout: seconds, for each.
        token: what they begin with, or "".
        tls: to speak TLS over TCP, or None.
        server_name: that their certificates must be for, if not the host.
    """

    timeout: float = 10.0
    token: str = ""
    tls: ssl.SSLContext | None = None
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What a monitor said.

    Attributes:
        ok: whether the command was run, and all is as it should be.
        text: the answer for people, if that was asked for.
        value: the answer for programs, if that was.
        error: why there is no answer, or "".
        hint: what to do about that, or "".
    """

    ok: bool
    text: str = ""
    value: Value = None
    error: str = ""
    hint: str = ""


def ask(where: Place, words: Sequence[str], how: Asking, *, as_value: bool = False) -> Told:
    """Ask a monitor one thing.

    Args:
        where: it listens.
        words: a command and its arguments.
        how: it is asked.
        as_value: have the value, and not the text.

    Raises:
        BadInput: the words are no line.
        ConnectFailed: it cannot be reached, or is no monitor of ours.
        WaitTimedOut: it was silent, or had not said all.
    """
    question = _question(words, how.token, JSON if as_value else TOLD)
    deadline = time.monotonic() + how.timeout
    try:
        with _connect(where, how, deadline) as link:
            link.sendall(question)
            line = _line(link, deadline)
    except TimeoutError:
        raise WaitTimedOut(f"{where}: no answer within {how.timeout:g} s", hint="--timeout gives it longer") from None
    except OSError as exc:  # what TLS has to complain of is one, too
        raise ConnectFailed(f"{where}: {exc.strerror or exc}", hint="does a monitor listen there?") from exc
    return _told(where, line)


def _question(words: Sequence[str], token: str, form: str) -> bytes:
    line = " ".join([form, *words])
    if not words or not line.isprintable():
        raise BadInput("no command", hint="a command is one line of printable text: try `help`")
    return (f"token {token}\n" if token else "").encode() + line.encode() + b"\n"


def _connect(where: Place, how: Asking, deadline: float) -> socket.socket:
    if isinstance(where, UnixPath):
        return _reach((socket.AF_UNIX, socket.SOCK_STREAM, 0), where.path, deadline)
    plain = _reach_any(where, deadline)
    if how.tls is None:
        return plain
    try:
        _patience(plain, deadline)
        return how.tls.wrap_socket(plain, server_hostname=how.server_name or where.host)
    except BaseException:
        plain.close()
        raise


def _reach_any(where: Endpoint, deadline: float) -> socket.socket:
    """Connect to one of the addresses of a name; the one that is silent takes the time of those behind it."""
    refused = OSError("it has no address")
    for *sort, _, address in socket.getaddrinfo(where.host or "localhost", where.port, type=socket.SOCK_STREAM):
        try:
            return _reach((sort[0], sort[1], sort[2]), address, deadline)
        except TimeoutError:
            raise
        except OSError as exc:
            refused = exc
    raise refused


def _reach(sort: tuple[int, int, int], address: Any, deadline: float) -> socket.socket:
    link = socket.socket(*sort)
    try:
        _patience(link, deadline)
        link.connect(address)
    except BaseException:
        link.close()
        raise
    return link


def _patience(link: socket.socket, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    link.settimeout(left)


def _line(link: socket.socket, deadline: float) -> bytes:
    """Return what comes up to the end of a line, or all that comes."""
    pieces: list[bytes] = []
    size = 0
    while size <= LONGEST:
        _patience(link, deadline)
        piece = link.recv(1 << 16)
        end = piece.find(b"\n")
        pieces.append(piece if end < 0 else piece[:end])
        size += len(piece)
        if not piece or end >= 0:
            break
    return b"".join(pieces)


def _told(where: Place, line: bytes) -> Told:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or not isinstance(said.get("ok"), bool):
        # What goes wrong before there is a command, such as a wrong token, is told as text.
        text = line[:200].decode("utf-8", "replace").strip()
        raise ConnectFailed(f"{where}: {text or 'it hung up'}", hint="is it a monitor of zkfleet, and the token right?")
    text, error, hint = (str(said.get(name) or "") for name in ("text", "error", "hint"))
    shown = spell_lines(text.replace("\r\n", "\n")).expandtabs()
    return Told(said["ok"], shown, said.get("answer"), spell(error), spell(hint))


def ask_all(
    addresses: Iterable[str], words: Sequence[str], how: Asking, *, as_value: bool = False
) -> dict[str, Told | ZkfleetError]:
    """Ask the monitors at many addresses the same, at the same time.

    Returns:
        What each said, by address, or why there is nothing.
    """

    def one(address: str) -> Told:
        return ask(reached(address), words, how, as_value=as_value)

    return at_once(addresses, one, how.timeout)


def at_once(addresses: Iterable[str], one: Callable[[str], T], timeout: float) -> dict[str, T | ZkfleetError]:
    """Call a function for each of many addresses on threads; one that is not back in time is `WaitTimedOut`."""
    names = list(dict.fromkeys(addresses))
    found: dict[str, T | ZkfleetError] = {}
    places = threading.Semaphore(AT_ONCE)

    def run(name: str) -> None:
        with places:
            try:
                found[name] = one(name)
            except ZkfleetError as exc:
                found[name] = exc

    threads = [threading.Thread(target=run, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    # A name is looked up by the system, which has no deadline.
    rounds = -(-len(names) // AT_ONCE)
    deadline = time.monotonic() + rounds * timeout + GRACE
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = WaitTimedOut(f"no answer within {timeout:g} s")
    return {name: found.get(name, late) for name in names}


def reached(address: str) -> Place:
    """Return where a monitor is, of which somebody else says the address.

    Raises:
        BadAddress: it is none, or a file of a machine that may be another.
    """
    where = place(address)
    if isinstance(where, UnixPath):
        raise BadAddress(f"{address}: a Unix socket of a machine that may be another", hint="ask it there")
    return where
