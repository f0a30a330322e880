"""How is a monitor mounted in a web application?

    app = PathPrefix({"/-/monitor": zkfleet.monitor.web.wsgi(token="s3cret")}, app)

The same paths as at the monitor's own door, without a socket of its own: it
answers when the application's server does.  Whoever reaches the site reaches
it, so it needs a token, or somebody who says that it needs none.
"""

import asyncio
import contextlib
import queue
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any

from zkfleet.errors import BadInput
from zkfleet.monitor.asking import Call, Reply
from zkfleet.monitor.commands import COMMANDS, Commands
from zkfleet.monitor.limits import Limits
from zkfleet.monitor.loading import load
from zkfleet.monitor.metrics import scraping
from zkfleet.monitor.places import check_token
from zkfleet.monitor.running import Job, Running
from zkfleet.monitor.site import Request, Response, Site

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Transmit = Callable[[MutableMapping[str, Any]], Awaitable[None]]
WsgiApp = Callable[[Mapping[str, Any], Callable[..., object]], Iterable[bytes]]
AsgiApp = Callable[[Scope, Receive, Transmit], Awaitable[None]]


def wsgi(
    *,
    token: str | None = None,
    insecure: bool = False,
    actions: bool = False,
    limits: Limits | None = None,
    commands: Commands | None = None,
) -> WsgiApp:
    """Return a WSGI application that answers questions about this process.

    Args:
        token: what requests have in `Authorization: Bearer XXXX`.
        insecure: everybody who reaches the site may ask.
        actions: enable the commands that change something.
        limits: of which `answer`, `deadline` and `running` count here.
        commands: None for all that this process has.

    Raises:
        BadInput: it has no token, and nobody says that it needs none.
    """
    site, running = _parts(token, insecure, actions, limits, commands)

    def app(environ: Mapping[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        asked = site.asked(_from_environ(environ))
        said = asked if isinstance(asked, Response) else site.said(asked, waited_for(running, asked.call))
        start_response(f"{said.status} {HTTPStatus(said.status).phrase}", said.headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [said.body]

    return app


def asgi(
    *,
    token: str | None = None,
    insecure: bool = False,
    actions: bool = False,
    limits: Limits | None = None,
    commands: Commands | None = None,
) -> AsgiApp:
    """Return an ASGI application that answers questions about this process; arguments as for `wsgi`."""
    site, running = _parts(token, insecure, actions, limits, commands)

    async def app(scope: Scope, _receive: Receive, send: Transmit) -> None:
        if scope["type"] != "http":
            raise BadInput(f"a monitor speaks HTTP, and not {scope['type']}", hint="mount it below a path")
        asked = site.asked(_from_scope(scope))
        said = asked if isinstance(asked, Response) else site.said(asked, await awaited(running, asked.call))
        headers = [(name.lower().encode(), value.encode()) for name, value in said.headers]
        await send({"type": "http.response.start", "status": said.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else said.body
        await send({"type": "http.response.body", "body": body})

    return app


def _parts(
    token: str | None, insecure: bool, actions: bool, limits: Limits | None, commands: Commands | None
) -> tuple[Site, Running]:
    check_token(token or "")
    if not (token or insecure):
        raise BadInput(
            "a monitor in a web application answers everybody who reaches it",
            hint="give a token=, or insecure=True if the application asks who they are",
        )
    if commands is None:
        load()
    running = Running(commands or COMMANDS, limits or Limits(), actions=actions)
    return Site(running.commands, scraping(running), actions=actions, token=token or ""), running


def _from_environ(environ: Mapping[str, Any]) -> Request:
    headers = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")
    return Request(environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""), headers)


def _from_scope(scope: Scope) -> Request:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    return Request(scope["method"], path, scope["query_string"].decode("ascii", "replace"), headers)


def waited_for(running: Running, call: Call) -> Reply:
    """Make a call and wait for what comes of it, no longer than its deadline."""
    if not call.command.blocks:
        return running.now(call)
    said: queue.SimpleQueue[Reply] = queue.SimpleQueue()
    job = running.begin(call, lambda _job, reply: said.put(reply))
    if job is None:
        return running.full(call)
    try:
        return said.get(timeout=job.seconds)
    except queue.Empty:
        return running.late(job)


async def awaited(running: Running, call: Call) -> Reply:
    """Do the same in an asyncio loop, which others use while it waits."""
    if not call.command.blocks:
        return running.now(call)
    loop = asyncio.get_running_loop()
    said: asyncio.Queue[Reply] = asyncio.Queue()

    def tell(_job: Job, reply: Reply) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone, and with it who asked
            loop.call_soon_threadsafe(said.put_nowait, reply)

    job = running.begin(call, tell)
    if job is None:
        return running.full(call)
    try:
        async with asyncio.timeout(job.seconds):
            return await said.get()
    except TimeoutError:
        return running.late(job)
    finally:
        job.given_up = True  # whoever asked may be gone
