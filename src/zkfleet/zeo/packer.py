"""How is the database of a path packed, whichever server serves it?

A client that follows the path finds the server that writes, and asks it to pack;
the server goes on with that whatever becomes of the client.  So how a pack ended
is asked of the server, if the connection was lost or somebody else had begun it:
servers of ours say it (`packs`).
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from ZEO.Exceptions import ClientDisconnected, ServerException
from ZODB.POSException import ReadOnlyError

from zkfleet.errors import BadInput, OutcomeUnknown, TreeState, Unavailable, WaitTimedOut, ZkfleetError
from zkfleet.zeo.asking import Said, ask
from zkfleet.zeo.client import client
from zkfleet.zeo.described import PACK_TAKES_GC
from zkfleet.zeo.packs import Pack, under_way
from zkfleet.zeo.statistics import client_state
from zkfleet.zeo.surveying import Asking, registered, survey

if TYPE_CHECKING:
    from zkfleet.registry import Registry

DAY = 86400.0
LOOK_EVERY = 0.5
# Seconds of silence, and to answer: a server is busy at the end of a pack.
SILENCE = 30.0
SHORTEST_ASK = 0.1
# Seconds in which a server that broke the connection must be there again.
BACK_WITHIN = 5.0
CACHE = 1 << 20
AGAIN = "pack it again: that does no harm"

Progress = Callable[[int, int], object]
"""Is told how many bytes are written, and of how many at most."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A pack that is over.

    Attributes:
        server: that did it.
        storage: the storage's name.
        size_before: bytes, without blobs.
        size_after: bytes; None if the server could not be asked any more.
        seconds: that it took.
    """

    server: str
    storage: str
    size_before: int
    size_after: int | None
    seconds: float


def pack(
    registry: "Registry",
    path: str,
    *,
    storage: str = "",
    days: float = 0.0,
    gc: bool | None = None,
    wait: float = DAY,
    how: Asking,
    begun: Callable[[str, str, int], object] = lambda server, storage, size: None,
    progress: Progress | None = None,
) -> Packed:
    """Pack a storage of a path, and wait until that is done.

    Args:
        registry: where its servers are registered.
        path: their node; links are followed.
        storage: its name; "" for the only one.
        days: what was replaced or deleted in the last days is kept.
        gc: whether objects that nothing refers to go, too; None for what the storage's settings say.
        wait: seconds for the pack; then the server goes on with it.
        how: how servers are asked; its timeout is for finding the one that serves.
        begun: is told the server, the storage and its size when the server is asked to pack.
        progress: is told how far it is, if the server says that.

    Raises:
        BadInput: there are several storages, none of this name, or `gc` cannot be chosen.
        TreeState: nobody is registered.
        Unavailable: no server that writes could be had, or it packs already.
        WaitTimedOut: the pack is not over.
        OutcomeUnknown: the server was lost in the middle.
        ZkfleetError: the pack failed.
    """
    name = _the_storage(registry, path, storage, how)
    with _opened(registry, path, name, how) as connected:
        packer = _Packer(connected, name, how, time.monotonic() + wait)
        packer.check(gc)
        begun(packer.server, name, packer.size)
        return packer.pack(days, gc, wait, progress)


def _the_storage(registry: "Registry", path: str, storage: str, how: Asking) -> str:
    """Return the storage that is meant; refuse what no server can do before one is waited for."""
    servers = registered(registry, path)
    if not servers:
        raise TreeState(f"nobody is registered at {path}", hint="a standby is registered when it serves")
    answers = survey({name: one for name, one in servers.items() if not one.storages}, how).answers
    said = {name: one.storages or _names(answers[name]) for name, one in servers.items()}
    there = sorted({each for names in said.values() for each in names})
    if not there:
        problems = "; ".join(str(one) for one in answers.values() if isinstance(one, ZkfleetError))
        raise Unavailable(f"no server of {path} says what it serves: {problems or 'they have no storages'}")
    if not storage and len(there) > 1:
        raise BadInput(f"{path} has {len(there)} storages: {', '.join(there)}", hint="name one: --storage NAME")
    name = storage or there[0]
    if name not in there:
        raise BadInput(f"{path} has no storage {name!r}", hint=f"there are: {', '.join(there)}")
    having = [server for server, names in said.items() if name in names]
    if all(servers[server].read_only for server in having):
        raise Unavailable(
            f"{', '.join(sorted(having))}: read-only, and no other server has the storage {name!r}",
            hint="a pack writes: ask the server that writes",
        )
    return name


def _names(answer: object) -> tuple[str, ...]:
    return () if isinstance(answer, ZkfleetError) else tuple(answer)  # type: ignore[arg-type]


@contextlib.contextmanager
def _opened(registry: "Registry", path: str, name: str, how: Asking) -> Iterator[Any]:
    encryption = {"ssl": how.tls, "ssl_server_hostname": how.server_name or None} if how.tls else {}
    try:
        found = client(
            registry,
            path,
            storage=name,
            wait_timeout=how.timeout,
            on_delisted="stay",
            ping_interval=SILENCE,
            ping_timeout=SILENCE,
            cache_size=CACHE,
            client_label="zkfleet zeo pack",
            **encryption,
        )
    except ClientDisconnected as exc:
        raise Unavailable(f"no server of {path} could be had: {exc}", hint="`zkfleet zeo status` shows them") from exc
    with contextlib.closing(found):
        yield found


class _Packer:
    """One pack, at a server that is connected."""

    def __init__(self, connected: Any, name: str, how: Asking, deadline: float) -> None:
        self._connected, self._name, self._how, self._deadline = connected, name, how, deadline
        self.server = client_state(connected).server
        with self._told():
            self._info = connected._call("get_info")
        self.size = int(self._info["size"])
        self._before = self._ask()

    def check(self, gc: bool | None) -> None:
        """Refuse what cannot be."""
        if gc is not None and not self._info.get(PACK_TAKES_GC):
            raise BadInput(
                f"{self.server}: whether garbage is collected cannot be said with a pack of the storage {self._name!r}",
                hint="leave --gc and --no-gc out, and set pack-gc in its <filestorage> section",
            )
        if self._before is not None and under_way(self._before.pack):
            raise self._busy()

    def _busy(self) -> Unavailable:
        return Unavailable(
            f"{self.server}: the storage {self._name!r} is being packed already",
            hint="wait until that is over: `zkfleet zeo status` shows it",
        )

    def pack(self, days: float, gc: bool | None, wait: float, progress: Progress | None) -> Packed:
        """Have it packed, and wait for the end; raises as the function."""
        began, until = time.monotonic(), max(0.0, time.time() - days * DAY)
        asked = _Asked(lambda: self._connected._call("pack", until, True, *(() if gc is None else (gc,))))
        while not asked.wait(min(LOOK_EVERY, self._left())):
            if not self._left():
                raise self._late(wait)
            self._show(progress)
        with self._told(lost=lambda: self._wait_for_end(wait, progress)):
            asked.result()
        return Packed(self.server, self._name, self.size, self._size(), time.monotonic() - began)

    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def _late(self, wait: float) -> WaitTimedOut:
        return WaitTimedOut(
            f"{self.server}: the pack of the storage {self._name!r} is not over after {wait:g} s; it goes on there",
            hint="`zkfleet zeo status` shows it while it is under way",
        )

    def _show(self, progress: Progress | None) -> None:
        if progress is not None and (said := self._ask()) is not None and said.pack is not None:
            progress(min(said.pack.written, self.size), self.size)

    @contextlib.contextmanager
    def _told(self, lost: Callable[[], object] | None = None) -> Iterator[None]:
        """Say in our words what a server answers; the loss of the connection is for `lost`."""
        try:
            yield
        except ClientDisconnected as exc:
            if lost is None:
                raise Unavailable(f"{self.server}: {exc}") from exc
            lost()
        except ReadOnlyError as exc:
            raise Unavailable(f"{self.server}: the storage {self._name!r} is read-only") from exc
        except Exception as exc:  # whatever a storage raises
            if "Already packing" in str(exc):  # FileStorage's words
                raise self._busy() from exc
            raise self._failed(_in_words(exc)) from exc

    def _failed(self, problem: str) -> ZkfleetError:
        return ZkfleetError(
            f"{self.server}: the pack of the storage {self._name!r} failed: {problem}",
            hint="the server's log says more; the data are as they were",
        )

    def _wait_for_end(self, wait: float, progress: Progress | None) -> None:
        """Wait for the end of a pack whose server broke the connection, and may have gone on with it."""
        give_up = time.monotonic() + BACK_WITHIN
        while True:
            if not self._left():
                raise self._late(wait)
            said = self._ask()
            if said is None and time.monotonic() > give_up:
                raise self._unknown("the server does not answer")
            if said is not None:
                if self._before is not None and said.started != self._before.started:
                    raise self._unknown("the server was started again")
                if self._is_new(said.pack):
                    if said.pack.error:
                        raise self._failed(said.pack.error)
                    if not under_way(said.pack):
                        return
                    give_up = time.monotonic() + BACK_WITHIN
                    self._show(progress)
                elif time.monotonic() > give_up:
                    raise self._unknown("the connection was lost, and the server does not say that it began this pack")
            time.sleep(min(LOOK_EVERY, self._left()))

    def _is_new(self, pack: Pack | None) -> TypeGuard[Pack]:
        """Whether a pack began after the storage was looked at: an earlier one says nothing of this one."""
        before = self._before.pack if self._before is not None else None
        return pack is not None and (before is None or pack.began != before.began)

    def _unknown(self, why: str) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"{self.server}: it is not known whether the storage {self._name!r} was packed: {why}", hint=AGAIN
        )

    def _ask(self) -> Said | None:
        """Return what the server says of the storage; None if it does not answer, within the time that is left."""
        timeout = max(SHORTEST_ASK, min(self._how.timeout, self._left()))
        try:
            answer = ask(self.server, timeout=timeout, tls=self._how.tls, server_name=self._how.server_name)
        except ZkfleetError:
            return None
        return answer.get(self._name)

    def _size(self) -> int | None:
        """Return how large the storage is now; None if its server is not to be had."""
        try:
            size = self._connected._call("get_info")["size"]
        except ClientDisconnected:
            return None
        return int(size) if client_state(self._connected).server == self.server else None


def _in_words(exc: Exception) -> str:
    """Return what a server's error says; ZEO packs up what it does not take for its own."""
    match exc.args:
        case (str(name), (*args,)) if isinstance(exc, ServerException):
            return f"{name.rpartition('.')[2]}: {', '.join(map(str, args))}"
    return f"{type(exc).__name__}: {exc}"


class _Asked:
    """A call that may outlast whoever made it."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call, self._done = call, threading.Event()
        self._problem: BaseException | None = None
        threading.Thread(target=self._run, name="zeo-pack", daemon=True).start()

    def _run(self) -> None:
        try:
            self._call()
        except BaseException as exc:  # it is raised again where it is asked for
            self._problem = exc
        self._done.set()

    def wait(self, seconds: float) -> bool:
        return self._done.wait(seconds)

    def result(self) -> None:
        if self._problem is not None:
            raise self._problem
