"""What does a request over HTTP ask, and what is said?

Pure, and the same for the monitor's own door (`http`) and for applications in
which it is mounted (`web`).  A request is refused with a response, or makes a
call; the reply to that is made a response.

What a browser on this machine is sent elsewhere to ask is refused: a page of
somebody else's reaches loopback, too.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from zkfleet.endpoints import is_loopback
from zkfleet.errors import BadInput
from zkfleet.monitor.asking import Call, Outcome, Reply, allow, find
from zkfleet.monitor.commands import Command, Commands
from zkfleet.monitor.wording import error_as_json, error_as_text

PAGES = ["/health", "/ready", "/startup"]
METRICS = "/metrics"
BEFORE, BEHIND = "/commands/", ".json"
THERE_IS = f"there are {', '.join([METRICS, *PAGES])} and {BEFORE}NAME{BEHIND}"
MOST_ARGUMENTS = 100
TROUBLE = {Outcome.REFUSED: 400, Outcome.FAILED: 500, Outcome.LATE: 503}


class Form(Enum):
    """How an answer is written; the value is its content type."""

    TEXT = "text/plain; charset=utf-8"
    METRICS = "text/plain; version=0.0.4; charset=utf-8"
    JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """A request.

    Attributes:
        method: in capitals.
        path: without what it is mounted at, and without escapes.
        query: what is behind the question mark.
        headers: by their names in small letters.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Response:
    """What is said; make it with `response`."""

    status: int
    body: bytes
    form: Form
    more: tuple[tuple[str, str], ...] = ()

    @property
    def headers(self) -> list[tuple[str, str]]:
        """All headers."""
        return [
            ("Content-Type", self.form.value),
            ("Content-Length", str(len(self.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *self.more,
        ]


def response(status: int, text: str, form: Form = Form.TEXT, *more: tuple[str, str]) -> Response:
    """Return a response of some text, with headers of its own."""
    return Response(status, text.encode("utf-8", "backslashreplace"), form, more)


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that a request makes, and how its answer is written."""

    call: Call
    form: Form


class Refused(Exception):
    """A request that is not granted, with the response."""

    def __init__(self, status: int, error: BadInput, *more: tuple[str, str]) -> None:
        super().__init__(str(error))
        self.status, self.error, self.more = status, error, more


class Site:
    """What is asked at which path.

    Args:
        commands: those that there are.
        metrics: the one that tells metrics.
        actions: whether those that change something are enabled.
        token: what requests have in `Authorization: Bearer`; "" for no need of one.
        is_loopback: it is reached by names of this machine alone.
    """

    def __init__(
        self, commands: Commands, metrics: Command, *, actions: bool = False, token: str = "", is_loopback: bool = False
    ) -> None:
        self._commands, self._metrics, self._actions = commands, metrics, actions
        self._token, self._is_loopback = token, is_loopback

    def asked(self, request: Request) -> Asked | Response:
        """Return what a request asks for, or why it is refused."""
        try:
            self._admit(request)
            return self._asked(request)
        except Refused as exc:
            return _refusal(request.path, exc)

    def said(self, asked: Asked, reply: Reply) -> Response:
        """Return how a reply is said."""
        if reply.outcome is not Outcome.ANSWERED:
            form = asked.form if asked.form is Form.JSON else Form.TEXT
            return response(TROUBLE[reply.outcome], reply.text, form)
        is_well = asked.form is not Form.TEXT or reply.answer is None or reply.answer.ok
        return response(200 if is_well else 503, reply.text, asked.form)

    def _asked(self, request: Request) -> Asked:
        if request.path == METRICS:
            return Asked(_read(self._metrics, request, self._actions), Form.METRICS)
        if request.path in PAGES:
            return Asked(_read(self._named(request.path[1:]), request, self._actions), Form.TEXT)
        name = request.path.removeprefix(BEFORE).removesuffix(BEHIND)
        if request.path != f"{BEFORE}{name}{BEHIND}":
            raise Refused(404, BadInput(f"{request.path[:100]}: nothing is there", hint=THERE_IS))
        return Asked(_read(self._named(name), request, self._actions, in_json=True), Form.JSON)

    def _named(self, name: str) -> Command:
        try:
            return find(self._commands, name)
        except BadInput as exc:
            raise Refused(404, exc) from exc

    def _admit(self, request: Request) -> None:
        if self._token:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            is_known = hmac.compare_digest(given.strip().encode(), self._token.encode())
            if scheme.lower() != "bearer" or not is_known:
                wrong = BadInput("no such token", hint="send the header `Authorization: Bearer XXXX`")
                raise Refused(401, wrong, ("WWW-Authenticate", "Bearer"))
        # No browser sends a token that it was not told; certificates and loopback it has of itself.
        elif not self._is_of_here(request.headers):
            raise Refused(403, BadInput("asked by a page of another site", hint="ask by the address, not in a browser"))

    def _is_of_here(self, headers: Mapping[str, str]) -> bool:
        host = headers.get("host", "")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return False
        if "origin" in headers and headers["origin"].partition("://")[2] != host:
            return False
        return not (self._is_loopback and host) or is_loopback(_name(host))


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _read(command: Command, request: Request, actions: bool, *, in_json: bool = False) -> Call:
    if isinstance(command.action, bool):
        _permit(command, (), request, actions)
    arguments = _read_arguments(command, request)
    _permit(command, arguments, request, actions)
    return Call(command, tuple(arguments), in_json)


def _permit(command: Command, arguments: Sequence[Any], request: Request, actions: bool) -> None:
    """Pass a call that may be made, and in this way: what changes something is posted, and nothing else is."""
    methods = ["POST"] if command.changes(arguments) else ["GET", "HEAD"]
    if request.method not in methods:
        wrong = BadInput(f"{command.name}: not with {request.method[:20]}", hint=f"ask with {methods[0]}")
        raise Refused(405, wrong, ("Allow", ", ".join(methods)))
    try:
        allow(command, arguments, actions=actions)
    except BadInput as exc:
        raise Refused(403, exc) from exc


def _read_arguments(command: Command, request: Request) -> list[Any]:
    try:
        return command.read_named(_arguments(request.query))
    except BadInput as exc:
        raise Refused(400, exc) from exc


def _arguments(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MOST_ARGUMENTS)
    except ValueError as exc:
        raise BadInput(f"more than {MOST_ARGUMENTS} arguments") from exc
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BadInput("an argument is there twice", hint="words for one that takes many are split at blanks")
    return found


def _refusal(path: str, refused: Refused) -> Response:
    error = refused.error
    if path.startswith(BEFORE):
        name = path.removeprefix(BEFORE).removesuffix(BEHIND)
        return response(refused.status, error_as_json(name[:100], str(error), error.hint), Form.JSON, *refused.more)
    return response(refused.status, error_as_text(error), Form.TEXT, *refused.more)
