"""What is said on one connection over HTTP/1.1?

Pure: bytes in, orders out, as `conversation` does for lines.  h11 knows the
protocol, `site` what is asked; here is what joins them.  Several requests come
over one connection, one after another, and the next one is not looked at before
the answer to the last is given.

A request of which a proxy could think that it ends elsewhere is refused, and the
connection closed: what follows it may be somebody else's, or smuggled.
"""

from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import unquote

from zkfleet.errors import MissingDependency
from zkfleet.monitor.answers import Mode
from zkfleet.monitor.asking import Reply
from zkfleet.monitor.conversation import Close, Make, Order, Send
from zkfleet.monitor.site import Asked, Form, Request, Response, Site, response

try:
    import h11
except ImportError as exc:
    raise MissingDependency("the door for HTTP stands on h11", hint="pip install 'zkfleet[monitor]'") from exc

CLOSE = ("Connection", "close")


class Hypertext:
    """One connection's.

    Args:
        site: what is asked at which path.
        longest: bytes that a request's head may have, and its body.

    Attributes:
        mode: always that a connection on which nothing is asked may be closed.
    """

    def __init__(self, site: Site, *, longest: int) -> None:
        self.mode = Mode.QUIT
        self._site, self._longest = site, longest
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=longest)
        self._request: Request | None = None  # of which more is to come
        self._asked: Asked | None = None  # what is under way
        self._body = 0
        self._over = False

    def received(self, data: bytes) -> list[Order]:
        """Take what the client sent."""
        if self._over:
            return []
        self._h11.receive_data(data)
        return self._go_on()

    def ended(self) -> list[Order]:
        """The client sends no more."""
        return self.received(b"")

    def answered(self, reply: Reply) -> list[Order]:
        """Take the answer to what was asked."""
        asked, self._asked = self._asked, None
        assert asked is not None
        return [*self._respond(self._site.said(asked, reply)), *self._go_on()]

    def refused(self, text: str) -> list[Order]:
        """Say to a client that is not let in why it is not."""
        return self._last(503, text)

    def fell_silent(self, text: str) -> list[Order]:
        """Say why it is closed to a client that is in the middle of a request; others may be about to send one."""
        is_amid = self._request is not None or self._h11.trailing_data[0]
        return self._last(408, text) if is_amid else self._close()

    def _go_on(self) -> list[Order]:
        orders: list[Order] = []
        while not (self._asked or self._over):
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as exc:
                return orders + self._last(exc.error_status_hint, str(exc))
            if event is h11.NEED_DATA:
                return orders + self._encourage()
            orders += self._take(event)
        return orders

    def _take(self, event: object) -> list[Order]:
        if isinstance(event, h11.Request):
            self._request, self._body = _request(event), 0
            return self._check(event)
        if isinstance(event, h11.Data):
            self._body += len(event.data)
            if self._body > self._longest:
                return self._last(413, f"a body of more than {self._longest} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return self._ask()
        else:  # the client has ended
            return self._close()
        return []

    def _check(self, event: h11.Request) -> list[Order]:
        """Refuse at once what cannot be answered, whatever its body is."""
        headers = dict(event.headers)
        if event.http_version not in (b"1.0", b"1.1"):
            return self._last(505, "this is HTTP/1.1")
        if _size(event) > self._longest:  # h11 has no limit for what comes at once
            return self._last(431, f"a head of more than {self._longest} bytes")
        if fault := _fault(event, headers):
            return self._last(400, fault)
        if int(headers.get(b"content-length", b"0")) > self._longest:
            return self._last(413, f"a body of more than {self._longest} bytes")
        return []

    def _ask(self) -> list[Order]:
        assert self._request is not None
        asked = self._site.asked(self._request)
        if isinstance(asked, Response):
            return self._respond(asked)
        self._asked = asked
        return [Make(asked.call)]

    def _encourage(self) -> list[Order]:
        if not self._h11.they_are_waiting_for_100_continue:
            return []
        return [Send(self._h11.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")]

    def _respond(self, said: Response) -> list[Order]:
        is_short = self._request is not None and self._request.method == "HEAD"
        self._request = None
        head = h11.Response(
            status_code=said.status,
            headers=said.headers,
            reason=HTTPStatus(said.status).phrase.encode(),
        )
        parts = [head, h11.EndOfMessage()] if is_short else [head, h11.Data(data=said.body), h11.EndOfMessage()]
        sent = Send(b"".join(self._h11.send(part) or b"" for part in parts))
        if self._h11.our_state is h11.MUST_CLOSE:
            return [sent, *self._close()]
        if self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        return [sent]

    def _last(self, status: int, text: str) -> list[Order]:
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return self._close()
        return self._respond(response(status, f"{text}\n", Form.TEXT, CLOSE))

    def _close(self) -> list[Order]:
        self._over = True
        return [Close()]


def _size(event: h11.Request) -> int:
    """Return how many bytes the head of a request has, in its shortest form."""
    first = len(event.method) + len(event.target) + len(" HTTP/1.1\r\n")
    return first + sum(len(name) + len(value) + len(": \r\n") for name, value in event.headers)


def _fault(event: h11.Request, headers: Mapping[bytes, bytes]) -> str:
    """Return why a request could be understood in two ways, or ""; RFC 9112, 6.1 and 6.3."""
    if b"transfer-encoding" in headers and b"content-length" in headers:
        return "a body with Content-Length and Transfer-Encoding"
    if b"transfer-encoding" in headers and event.http_version == b"1.0":
        return "a body with Transfer-Encoding in HTTP/1.0"
    return ""


def _request(event: h11.Request) -> Request:
    headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
    path, _, query = event.target.decode("ascii", "replace").partition("?")
    if path.lower().startswith(("http://", "https://")):
        # As proxies are asked; who is named there counts, and not the header (RFC 9112, 3.2.2).
        _, _, named = path.partition("://")
        headers["host"], slash, rest = named.partition("/")
        path = slash + rest or "/"
    return Request(event.method.decode(), unquote(path), query, headers)
