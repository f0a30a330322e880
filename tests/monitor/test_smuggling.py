"""Requests that could be understood in two ways, or are none, sent to all doors of a monitor."""

import re
import socket

import pytest

from tests.monitor import doors
from zkfleet.monitor import Commands, Limits, basics, lines, start

LINE = 1000
HOST = b"Host: 127.0.0.1\r\n"
NEXT = b"POST /commands/smuggled.json HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n"
CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"
CHUNKED, SIZED = b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n"


def head(*more, target=b"/health", method=b"GET", version=b"1.1", host=HOST):
    return b"%s %s HTTP/%s\r\n%s%s\r\n" % (method, target, version, host, b"".join(more))


# What is sent, and the statuses of all that is said to it; what follows is never run.
REFUSED = {
    "both lengths": (head(SIZED, CHUNKED) + CHUNKS + NEXT, [400]),
    "both lengths, the other way round": (head(CHUNKED, SIZED) + CHUNKS + NEXT, [400]),
    "no length and chunks": (head(CHUNKED, b"Content-Length: 0\r\n") + CHUNKS + NEXT, [400]),
    "chunks in HTTP/1.0": (head(CHUNKED, version=b"1.0") + CHUNKS + NEXT, [400]),
    "two lengths": (head(SIZED, b"Content-Length: 6\r\n") + b"abcdef" + NEXT, [400]),
    "two lengths in a list": (head(b"Content-Length: 5, 6\r\n") + b"abcdef" + NEXT, [400]),
    "a length with a sign": (head(b"Content-Length: +5\r\n") + b"abcde" + NEXT, [400]),
    "a negative length": (head(b"Content-Length: -1\r\n") + NEXT, [400]),
    "a length in hex": (head(b"Content-Length: 0x5\r\n") + b"abcde" + NEXT, [400]),
    "a length of many digits": (head(b"Content-Length: " + b"9" * 500 + b"\r\n") + NEXT, [400]),
    "a large length": (head(b"Content-Length: 1001\r\n") + NEXT, [413]),
    "a large length that waits for leave": (head(b"Content-Length: 1001\r\nExpect: 100-continue\r\n"), [413]),
    "another coding": (head(b"Transfer-Encoding: gzip, chunked\r\n") + CHUNKS + NEXT, [501]),
    "a coding twice": (head(CHUNKED, CHUNKED) + CHUNKS + NEXT, [501]),
    "a coding that is none": (head(b"Transfer-Encoding: identity\r\n") + NEXT, [501]),
    "a blank before the colon": (head(b"Content-Length : 5\r\n") + b"abcde" + NEXT, [400]),
    "a header that begins with a blank": (b"GET /health HTTP/1.1\r\n Host: a\r\n\r\n" + NEXT, [400]),
    "a null in a header": (head(b"X: a\x00b\r\n") + NEXT, [400]),
    "a null in the target": (head(target=b"/he\x00lth") + NEXT, [400]),
    "a bare CR in a header": (head(b"X: a\rTransfer-Encoding: chunked\r\n") + NEXT, [400]),
    "no host": (head(host=b"") + NEXT, [400]),
    "two hosts": (head(HOST) + NEXT, [400]),
    "a chunk of no size": (head(CHUNKED) + b"x\r\nabc\r\n0\r\n\r\n" + NEXT, [400]),
    "a chunk that is longer than it says": (head(CHUNKED) + b"2\r\nabc\r\n0\r\n\r\n" + NEXT, [400]),
    "a chunk of a size with a sign": (head(CHUNKED) + b"+3\r\nabc\r\n0\r\n\r\n" + NEXT, [400]),
    "a chunk without an end": (head(CHUNKED) + b"fffffffffffff\r\nabc" + NEXT * 20, [413]),
    "a large chunk": (head(CHUNKED) + b"3e9\r\n" + b"a" * 1001, [413]),
    "many headers": (head(*(b"X%d: a\r\n" % number for number in range(200))) + NEXT, [431]),
    "a long header": (head(b"X: " + b"a" * LINE + b"\r\n") + NEXT, [431]),
    "a long target": (head(target=b"/" + b"a" * LINE) + NEXT, [431]),
    "another version": (head(version=b"2.0") + NEXT, [505]),
    "no protocol": (b"GET /health\r\n\r\n" + NEXT, [400]),
    "a line of commands": (b"health\n" + NEXT, [400]),
    "a binary start": (b"\x16\x03\x01\x02\x00\x01\x00" + NEXT, [400]),
}
# What is answered, each once, and what follows it is, too.
ANSWERED = {
    "one length twice": (head(SIZED, SIZED) + b"abcde", 200),
    "chunks": (head(CHUNKED) + CHUNKS, 200),
    "a chunk with an extension": (head(CHUNKED) + b"3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n", 200),
    "a target with a host": (head(target=b"http://127.0.0.1:1/health"), 200),
    "a target with a host and no path": (head(target=b"http://127.0.0.1"), 404),
    "a target with another host": (head(target=b"http://evil.example/health"), 403),
    "an asterisk": (head(target=b"*", method=b"OPTIONS"), 404),
    "a tunnel": (head(target=b"127.0.0.1:1", method=b"CONNECT"), 404),
    "another protocol": (head(b"Upgrade: h2c\r\nConnection: upgrade\r\n"), 200),
    "a target of nulls": (head(target=b"/%00%0d%0a"), 404),
    "line ends without CR": (head().replace(b"\r\n", b"\n"), 200),
    "a header of two lines": (head(b"X: a\r\n b\r\n"), 200),
    "another name of this machine": (head(host=b"Host: localhost:80\r\n"), 200),
    "the name of another site": (head(host=b"Host: rebound.example\r\n"), 403),
    "a name that begins as ours": (head(host=b"Host: localhost.example\r\n"), 403),
    "an address in a name": (head(host=b"Host: 127.0.0.1.example\r\n"), 403),
    "a name with a user": (head(host=b"Host: 127.0.0.1@evil.example\r\n"), 403),
    "a page of another site": (head(b"Origin: http://evil.example\r\n"), 403),
    "a page of nowhere": (head(b"Origin: null\r\n"), 403),
    "a link of another site": (head(b"Sec-Fetch-Site: cross-site\r\n"), 403),
}


@pytest.fixture(scope="module", params=doors.LOOPS)
def monitored(request):
    """A monitor at each kind of door, and a list of what was smuggled into it."""
    commands, smuggled = Commands(), []
    basics.add_to(commands)
    commands.command("health", blocks=False)(lambda: lines("OK"))
    commands.command("smuggled", blocks=False, action=True)(lambda: smuggled.append(1) or lines("OK"))
    with doors.running(request.param) as loop:
        started = loop.call(
            lambda: start(0, http=0, door=loop.door, commands=commands, actions=True, limits=Limits(line=LINE, idle=5))
        )
        yield started, smuggled
        loop.call(started.close)


def said(address, data):
    """The statuses of all answers to a client that sends this and ends; a door that hangs up early has said all."""
    host, _, port = address.rpartition(":")
    found = b""
    with socket.create_connection((host, int(port)), 10) as link:
        try:
            link.sendall(data)
            link.shutdown(socket.SHUT_WR)
            while piece := link.recv(1 << 16):
                found += piece
        except ConnectionError:
            pass
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", found)]


@pytest.mark.parametrize("what", REFUSED)
def test_what_could_be_understood_in_two_ways_is_refused_and_ends_the_connection(monitored, what):
    started, smuggled = monitored
    smuggled.clear()
    data, statuses = REFUSED[what]
    [status] = said(started.http.address, data)
    assert status in statuses
    assert not smuggled


@pytest.mark.parametrize("what", ANSWERED)
def test_what_is_a_request_is_answered_and_so_is_the_next_one(monitored, what):
    started, _ = monitored
    data, status = ANSWERED[what]
    assert said(started.http.address, data + head()) == [status, 200]


def test_a_page_that_has_a_browser_speak_to_the_door_of_lines_calls_nothing(monitored):
    started, smuggled = monitored
    host, _, port = started.address.rpartition(":")
    smuggled.clear()
    posted = head(b"Content-Length: 50\r\n", method=b"POST") + b"interactive\nsmuggled\n" * 3
    with socket.create_connection((host, int(port)), 10) as link:
        link.sendall(posted)
        answer = link.makefile("rb").read()
    assert answer.startswith(b"Invalid command 'POST'")
    assert b"Interactive" not in answer
    assert not smuggled
