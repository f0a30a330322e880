import asyncio
import contextlib
import http.client
import threading
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.validate import validator

import pytest

from zkfleet.errors import BadInput
from zkfleet.monitor import Limits, lines
from zkfleet.monitor.web import asgi, wsgi


class Quiet(WSGIRequestHandler):
    def log_message(self, *_args):
        pass


@contextlib.contextmanager
def served(app):
    """A WSGI application behind a server of the standard library, which checks that it is one."""
    with make_server("127.0.0.1", 0, validator(app), handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield lambda *request, **headers: over_wsgi(server.server_port, *request, **headers)
        finally:
            server.shutdown()
            thread.join(10)


def over_wsgi(port, method, path, query="", headers=()):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request(method, f"{path}?{query}" if query else path, headers=dict(headers))
        response = connection.getresponse()
        return response.status, response.read().decode()


@contextlib.contextmanager
def called(app):
    yield lambda *request, **headers: asyncio.run(over_asgi(app, *request, **headers))


async def over_asgi(app, method, path, query="", headers=()):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request"}

    scope = {
        "type": "http",
        "method": method,
        "path": f"/mounted{path}",
        "root_path": "/mounted",
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in dict(headers).items()],
    }
    await app(scope, receive, send)
    start, body = sent
    return start["status"], body["body"].decode()


FACES = {"wsgi": (wsgi, served), "asgi": (asgi, called)}


@pytest.fixture(params=FACES)
def mounted(request, commands):
    """Serves a monitor in a web application; what is yielded asks it."""
    make, serve = FACES[request.param]
    commands.command("health", blocks=False)(lambda: lines("OK"))
    commands.command("ready")(lambda: lines("database: away", ok=False))
    commands.command("kick", action=True)(lambda client: lines(f"kicked {client}"))
    return lambda **options: serve(make(**{"commands": commands, "insecure": True} | options))


def test_it_says_what_the_monitors_own_door_says(mounted):
    with mounted() as ask:
        assert ask("GET", "/health") == (200, "OK\n")
        assert ask("HEAD", "/health") == (200, "")
        assert ask("GET", "/ready") == (503, "database: away\n")
        assert ask("GET", "/nowhere")[0] == 404
        assert ask("GET", "/commands/help.json", "command=health")[0] == 200
        assert ask("POST", "/commands/kick.json", "client=a")[0] == 403
        status, text = ask("GET", "/metrics")
        assert status == 200
        assert "# TYPE zkfleet_command_answered gauge" in text


def test_whoever_reaches_the_site_needs_the_token(mounted):
    with pytest.raises(BadInput, match="answers everybody"):
        mounted(insecure=False)
    with pytest.raises(BadInput, match="one word"):
        mounted(token="a b")
    with mounted(token="s3cret") as ask:
        assert ask("GET", "/health")[0] == 401
        assert ask("GET", "/health", headers={"Authorization": "Bearer s3cret"}) == (200, "OK\n")


def test_a_command_that_blocks_is_given_up(mounted, commands):
    released = threading.Event()
    commands.command("stay")(lambda: str(released.wait(10)))
    with mounted(limits=Limits(deadline=0.05, running=1)) as ask:
        status, text = ask("GET", "/commands/stay.json")
        assert status == 503
        assert "no answer in 0.05 s" in text
        assert "no thread is left" in ask("GET", "/ready")[1]
        assert ask("GET", "/health") == (200, "OK\n")
        released.set()


def test_asgi_is_mounted_for_http_alone():
    with pytest.raises(BadInput, match="lifespan"):
        asyncio.run(asgi(insecure=True)({"type": "lifespan"}, None, None))
