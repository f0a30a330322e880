import contextlib
import http.client
import json
import socket
import subprocess
import sys
import threading

import psutil
import pytest

from tests.conftest import wait_for
from tests.monitor import doors
from tests.monitor.conftest import Client
from zkfleet.errors import BadInput
from zkfleet.monitor import Certificates, Column, Kind, Limits, fields, lines

MIB = 1 << 20


@pytest.fixture
def web(start, commands):
    """Starts monitors with a door for HTTP."""

    @commands.command("health", blocks=False)
    def health():
        return lines("OK")

    @commands.command("ready")
    def ready():
        return lines("database: away", ok=False)

    @commands.command("count")
    def count(number: int = 1, *words: str):
        return fields([Column("sum", "It.", kind=Kind.GAUGE)], {"sum": number + len(words)})

    @commands.command("kick", action=True)
    def kick(client: str):
        return lines(f"kicked {client}")

    return lambda **options: start(**{"http": 0} | options)


def asked(started, path, *, method="GET", headers=None, body=None, tls=None):
    """What is said to one request, the status and the text."""
    address = started.http.address
    with contextlib.closing(
        http.client.HTTPSConnection(address, timeout=10, context=tls)
        if tls
        else http.client.HTTPConnection(address, timeout=10)
    ) as connection:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_pages_say_what_the_commands_say_and_503_if_something_is_wrong(web):
    started = web()
    assert asked(started, "/health") == (200, "OK\n")
    assert asked(started, "/ready") == (503, "database: away\n")
    assert asked(started, "/ready", method="HEAD") == (503, "")


@pytest.mark.parametrize("loop", doors.LOOPS)
def test_all_doors_speak_http(loop, web):
    with doors.running(loop) as running:
        started = running.call(lambda: web(door=running.door))
        assert asked(started, "/health") == (200, "OK\n")
        assert asked(started, "/commands/count.json?number=3")[0] == 200
        running.call(started.close)


def test_an_answer_is_the_json_of_the_line_protocol(web):
    started = web()
    status, text = asked(started, "/commands/count.json?number=3&words=a%20b")
    with Client(started.address) as client:
        assert (status, text) == (200, client.send(b"json count 3 a b\n").rest())
    assert json.loads(text)["answer"] == {"sum": 5}


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/commands/count.json?number=x", 400, "usage: count [NUMBER]"),
        ("GET", "/commands/count.json?other=1", 400, "there is no other"),
        ("GET", "/commands/count.json?number=1&number=2", 400, "twice"),
        ("GET", "/commands/count.json?" + "a=1&" * 200, 400, "more than 100"),
        ("GET", "/commands/cuont.json", 404, "The nearest: count"),
        ("GET", "/commands/count", 404, "/commands/NAME.json"),
        ("GET", "/commands/.json", 404, "Invalid command"),
        ("GET", "/", 404, "/metrics"),
        ("POST", "/commands/count.json", 405, "ask with GET"),
        ("GET", "/commands/kick.json?client=a", 405, "ask with POST"),
        ("DELETE", "/health", 405, "ask with GET"),
        ("POST", "/commands/kick.json?client=a", 403, "actions=True"),
        ("GET", "/health?number=1", 400, "there is no number"),
    ],
)
def test_what_is_wrong_is_refused_with_the_remedy(web, method, path, status, said):
    found, text = asked(web(), path, method=method)
    assert found == status
    assert said in text
    if path.startswith("/commands/"):
        assert json.loads(text)["ok"] is False


def test_actions_are_posted(web):
    assert asked(web(actions=True), "/commands/kick.json?client=a", method="POST", body="x")[0] == 200


def test_a_command_that_fails_or_is_late_says_so(web, commands):
    released = threading.Event()
    commands.command("fail")(lambda: 1 / 0)
    commands.command("stay", deadline=0.05)(lambda: str(released.wait(10)))
    started = web()
    assert asked(started, "/commands/fail.json")[0] == 500
    status, text = asked(started, "/commands/stay.json")
    released.set()
    assert (status, json.loads(text)["error"]) == (503, "no answer in 0.05 s")


@pytest.mark.parametrize("blocks", [True, False])
def test_a_command_that_ends_the_process_or_never_ends_harms_nobody(web, commands, blocks):
    @commands.command("exits", blocks=blocks)
    def exits():
        raise SystemExit(3)

    @commands.command("forever", blocks=blocks)
    def forever():
        while True:
            yield "and on and on\n"

    started = web(limits=Limits(answer=10_000))
    for name, said in [("exits", "SystemExit: 3"), ("forever", "more than 10000 bytes")]:
        status, text = asked(started, f"/commands/{name}.json")
        assert status == 500
        assert said in json.loads(text)["error"]
    assert asked(started, "/health") == (200, "OK\n")


# -- who may ask


def test_what_others_reach_is_refused_without_a_secret(web, start):
    with pytest.raises(BadInput, match="answers everybody"):
        web(http=":0")
    assert web(http=":0", insecure=True)


@pytest.mark.parametrize(
    "given", [None, "Bearer other", "Basic s3cret", "s3cret", "Bearer", "Bearer s3cretx", "Bearer \xff"]
)
def test_without_the_token_nothing_is_said(web, given):
    headers = {} if given is None else {"Authorization": given}
    status, text = asked(web(token="s3cret"), "/health", headers=headers)
    assert status == 401
    assert "OK" not in text


def test_with_the_token_it_answers(web):
    started = web(token="s3cret")
    for scheme in ["Bearer", "bearer"]:
        assert asked(started, "/health", headers={"Authorization": f"{scheme} s3cret"}) == (200, "OK\n")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "["},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_page_of_another_site_cannot_have_a_browser_ask(web, headers):
    assert asked(web(actions=True), "/commands/kick.json?client=a", method="POST", headers=headers)[0] == 403


def test_a_browser_on_this_machine_may_ask(web):
    started = web()
    port = started.http.address.rpartition(":")[2]
    for host in ["localhost", "127.0.0.1", "[::1]"]:
        headers = {"Host": f"{host}:{port}", "Origin": f"http://{host}:{port}", "Sec-Fetch-Site": "same-origin"}
        assert asked(started, "/health", headers=headers) == (200, "OK\n")


def test_tls_is_spoken_and_certificates_are_asked_for(web, certificates, trusting):
    made = {"certificate": str(certificates / "server.crt"), "key": str(certificates / "server.key")}
    started = web(tls=Certificates(**made, authorities=str(certificates / "client.crt")))
    assert asked(started, "/health", tls=trusting(certificates, name="client")) == (200, "OK\n")
    with pytest.raises(OSError):  # refused, or broken off
        asked(started, "/health", tls=trusting(certificates))


def test_it_listens_on_a_unix_socket_too(web, tmp_path):
    started = web(http=str(tmp_path / "web.sock"))
    with Client(started.http.address) as client:
        assert client.send(b"GET /health HTTP/1.0\r\n\r\n").rest().endswith("\r\n\r\nOK\n")


def test_a_port_that_is_taken_leaves_nothing_behind(web, start, tmp_path):
    first = web()
    assert start(str(tmp_path / "second.sock"), http=first.http.address) is False
    assert not (tmp_path / "second.sock").exists()
    assert asked(first, "/health") == (200, "OK\n")


def test_closing_the_monitor_closes_its_door_for_http(web):
    started = web()
    started.close()
    with pytest.raises(ConnectionRefusedError):
        asked(started, "/health")


# -- bad input and faults


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"health\n\n", 400),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000, 431),
        (b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + b"x" * 20_000, 413),
        (
            b"POST /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nfff0\r\n" + b"x" * 20_000,
            413,
        ),
    ],
)
def test_what_is_no_request_is_refused_and_closed(web, sent, status):
    started = web()
    with Client(started.http.address) as client:
        said = client.send(sent).rest()
    assert said.startswith(f"HTTP/1.1 {status} ")
    assert asked(started, "/health") == (200, "OK\n")


@pytest.mark.slow
def test_a_hundred_megabytes_without_an_end_take_no_memory(web):
    started = web()
    before = psutil.Process().memory_info().rss
    with Client(started.http.address) as client:
        with contextlib.suppress(OSError):
            for _ in range(100):
                client.socket.sendall(b"x" * MIB)
        assert asked(started, "/health") == (200, "OK\n")
    assert psutil.Process().memory_info().rss - before < 20 * MIB
    wait_for(lambda: not started.http.board.talks)


@pytest.mark.slow
def test_who_never_reads_a_large_answer_is_dropped(web, commands):
    commands.command("large", blocks=False)(lambda: lines("x" * (50 * MIB)))
    started = web(limits=Limits(answer=64 * MIB, idle=0.2))
    assert len(asked(started, "/commands/large.json")[1]) > 50 * MIB
    with Client(started.http.address) as client:
        client.send(b"GET /commands/large.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_for(lambda: started.http.board.unread > 30 * MIB)
        wait_for(lambda: not started.http.board.talks)
    assert asked(started, "/health") == (200, "OK\n")


@pytest.mark.slow
def test_a_thousand_requests_come_over_one_connection(web):
    started = web()
    with contextlib.closing(http.client.HTTPConnection(started.http.address, timeout=10)) as connection:
        for _ in range(1000):
            connection.request("GET", "/health")
            assert connection.getresponse().read() == b"OK\n"
        assert len(started.http.board.talks) == 1


def test_requests_that_do_not_wait_are_answered_in_order(web):
    request = "GET /commands/count.json?number={} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with Client(web().http.address) as client:
        said = client.send("".join([*(request.format(number) for number in range(50)), last]).encode()).rest()
    sums = [json.loads(line)["answer"]["sum"] for line in said.splitlines() if line.startswith("{")]
    assert sums == list(range(50))
    assert said.endswith("OK\n")


def test_half_a_request_and_silence_is_told_and_closed(web):
    started = web(limits=Limits(idle=0.1))
    with Client(started.http.address) as half, Client(started.http.address) as silent:
        assert half.send(b"GET /health HTTP/1.1\r\nHo").rest().startswith("HTTP/1.1 408 ")
        assert silent.rest() == ""


def test_half_a_request_and_the_end_runs_nothing(web):
    with Client(web(actions=True).http.address) as client:
        client.send(b"POST /commands/kick.json?client=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab")
        client.socket.shutdown(socket.SHUT_WR)
        assert "kicked" not in client.rest()


def test_who_has_said_all_hears_the_answer(web):
    with Client(web().http.address) as client:
        client.send(b"GET /commands/count.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.rest().endswith('{"command":"count","ok":true,"answer":{"sum":1}}\n')


def test_who_asks_whether_to_go_on_is_told_to(web):
    with Client(web(actions=True).http.address) as client:
        client.send(
            b"POST /commands/kick.json?client=a HTTP/1.1\r\nHost: localhost\r\n"
            b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
        )
        assert client.line() == "HTTP/1.1 100 \r\n"
        assert "kicked a" in client.send(b"x").rest()


def test_more_connections_than_may_be_take_the_place_of_idle_ones(web):
    started = web(limits=Limits(connections=3))
    with contextlib.ExitStack() as held:
        for _ in range(20):
            held.enter_context(Client(started.http.address))
        assert asked(started, "/health") == (200, "OK\n")
        assert len(started.http.board.talks) <= 3


def test_who_comes_when_all_are_busy_is_told_503(web, commands):
    released = threading.Event()
    commands.command("stay")(lambda: str(released.wait(10)))
    started = web(limits=Limits(connections=1))
    with Client(started.http.address) as busy:
        busy.send(b"GET /commands/stay.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        wait_for(lambda: started.running.jobs)
        status, text = asked(started, "/health")
        released.set()
        assert busy.rest().startswith("HTTP/1.1 200 ")
    assert (status, text) == (503, "all 1 connections are taken\n")


def test_lines_are_answered_while_http_is_not(web, commands):
    released = threading.Event()
    commands.command("block", blocks=False)(lambda: str(released.wait(10)))
    started = web()
    with Client(started.http.address) as client:
        client.send(b"GET /commands/block.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        with Client(started.address) as other:
            assert other.send(b"health\n").rest() == "OK\n"
        released.set()
        client.rest()


WITHOUT = """
import os, sys
sys.modules[sys.argv[1]] = None
from zkfleet import monitor
from zkfleet.errors import MissingDependency
with monitor.start(sys.argv[2]):
    pass
try:
    monitor.start(sys.argv[2], http=0)
except MissingDependency as exc:
    print(exc.hint, os.path.exists(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("library", ["h11", "prometheus_client"])
def test_who_has_not_the_libraries_is_told_which_extra_has_them(library, tmp_path):
    command = [sys.executable, "-c", WITHOUT, library, str(tmp_path / "a.sock")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.stdout == "pip install 'zkfleet[monitor]' False\n", done.stderr


@pytest.mark.slow
def test_the_libraries_are_loaded_only_for_who_asks_for_them(tmp_path):
    program = "import sys; from zkfleet import monitor\nwith monitor.start(sys.argv[1]): pass\nprint(*sys.modules)"
    command = [sys.executable, "-c", program, str(tmp_path / "a.sock")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert not {"h11", "prometheus_client", "zkfleet.monitor.http"} & set(done.stdout.split())
