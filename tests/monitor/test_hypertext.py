"""HTTP without a socket: the same orders, however the input is cut."""

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from zkfleet.monitor import Commands, lines
from zkfleet.monitor.asking import Reply
from zkfleet.monitor.commands import Command
from zkfleet.monitor.conversation import Close, Make, Send
from zkfleet.monitor.http import Hypertext
from zkfleet.monitor.site import Site

COMMANDS = Commands()
COMMANDS.command("health", blocks=False)(lambda: lines("OK"))
SITE = Site(COMMANDS, Command("metrics", lambda: ""))
HEAD = b" HTTP/1.1\r\nHost: a\r\n"


def talk(pieces, *, ends=False):
    """Which statuses are sent, how much is called, and whether it is closed; each call is answered at once."""
    speech = Hypertext(SITE, longest=200)
    sent, called, closed = b"", 0, False
    steps = [lambda piece=piece: speech.received(piece) for piece in pieces if piece]
    for step in [*steps, *([speech.ended] if ends else [])]:
        orders = step()
        while orders:
            order, *orders = orders
            match order:
                case Make():
                    called += 1
                    orders = [*orders, *speech.answered(Reply("OK\n", answer=lines("OK")))]
                case Send(text):
                    sent += text
                case Close():
                    closed = True
    # h11's words for the same fault depend on how it was cut.
    return re.findall(rb"HTTP/1.1 (\d+) ", sent), called, closed


requests = st.sampled_from(
    [
        b"GET /health" + HEAD + b"\r\n",
        b"HEAD /health" + HEAD + b"\r\n",
        b"GET /nowhere" + HEAD + b"\r\n",
        b"GET /%zz%ff//?&=" + HEAD + b"\r\n",
        b"GET /commands/health.json?a=%ff" + HEAD + b"Connection: close\r\n\r\n",
        b"POST /health" + HEAD + b"Content-Length: 3\r\n\r\nabc",
        b"GET /health" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        b"CONNECT a:1" + HEAD + b"\r\n",
        b"GET /health HTTP/1.0\r\n\r\n",
        b"GET /health" + HEAD + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"\r\n",
        b"\x00\xff\r\n\r\n",
    ]
)


@given(st.lists(requests, max_size=4).map(b"".join), st.lists(st.integers(0, 400), max_size=6), st.booleans())
def test_it_does_not_matter_how_the_input_is_cut(data, places, ends):
    edges = [0, *sorted(place for place in places if place < len(data)), len(data)]
    pieces = [data[start:stop] for start, stop in itertools.pairwise(edges)]
    assert talk(pieces, ends=ends) == talk([data], ends=ends)


@given(st.lists(st.binary(max_size=300), max_size=5), st.booleans())
def test_garbage_is_answered_or_awaited_and_never_run(pieces, ends):
    _, called, closed = talk(pieces, ends=ends)
    assert not called
    assert closed or not ends


@given(st.lists(requests, max_size=3).map(b"".join))
def test_who_is_not_let_in_is_told_so_whatever_comes_after(data):
    speech = Hypertext(SITE, longest=200)
    said, close = speech.refused("all 1 connections are taken")
    assert said.text.startswith(b"HTTP/1.1 503 ")
    assert close == Close()
    assert speech.received(data) == [] == speech.ended()


def test_the_next_request_waits_for_the_answer_to_the_last():
    speech = Hypertext(SITE, longest=200)
    request = b"GET /health" + HEAD + b"\r\n"
    assert [type(order) for order in speech.received(request + request)] == [Make]
    assert speech.received(request) == []
    assert [type(order) for order in speech.answered(Reply("OK\n"))] == [Send, Make]
