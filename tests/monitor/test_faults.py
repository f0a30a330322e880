"""Bad input and worse clients, at every door: memory stays bounded, and the process serves on."""

import os
import socket
import threading
import time

import psutil
import pytest

from tests.conftest import wait_for
from tests.monitor.conftest import Client, ask
from tests.monitor.doors import LOOPS, running
from tests.monitor.forks import FORKS, in_a_child
from zkfleet import monitor
from zkfleet.monitor import Limits

MIB = 1 << 20


@pytest.fixture
def commands(commands):
    @commands.command("health", blocks=False)
    def health():
        return monitor.lines("OK")

    @commands.command("large", blocks=False)
    def large():
        return monitor.lines("x" * (50 * MIB))

    @commands.command("forever")
    def forever():
        while True:
            yield "and on and on\n"

    @commands.command("raises", blocks=False)
    def raises():
        raise LookupError("no such\nthing")

    @commands.command("exits")
    def exits():
        raise SystemExit(3)

    @commands.command("exits-at-once", blocks=False)
    def exits_at_once():
        raise SystemExit(3)

    @commands.command("interrupts")
    def interrupts():
        raise KeyboardInterrupt

    return commands


@pytest.fixture(params=LOOPS)
def start(request, start):
    """Starts monitors as `start` does, at each of the doors."""
    with running(request.param) as loop:
        started = []

        def start_one(*arguments, **options):
            started.append(loop.call(lambda: start(*arguments, door=loop.door, **options)))
            return started[-1]

        yield start_one
        for one in started:
            loop.call(one.close)


def serves_on(address):
    return ask(address, "health") == "OK\n"


def grown(since):
    return (psutil.Process().memory_info().rss - since) / MIB


def send_until_refused(client, data, most):
    """Send up to so many bytes, or until the other side has enough."""
    sent = 0
    try:
        while sent < most:
            sent += client.socket.send(data)
    except (ConnectionError, TimeoutError):
        pass
    return sent


@pytest.mark.parametrize("address", [None, 0])
def test_100_mb_without_a_line_end_cost_no_memory_and_no_time(start, address):
    started = start(address)
    before, begun = psutil.Process().memory_info().rss, time.process_time()
    with Client(started.address) as client:
        send_until_refused(client, b"x" * MIB, 100 * MIB)
        assert serves_on(started.address)
    assert grown(before) < 20
    assert time.process_time() - begun < 5
    wait_for(lambda: not started.board.talks)


def test_a_line_that_is_too_long_is_told_so_though_more_comes(start):
    started = start(0)
    with Client(started.address) as client:
        client.send(b"x" * 300_000)
        assert client.rest() == "a line of more than 8192 bytes\n"


def test_binary_garbage_is_an_unknown_command(start):
    started = start()
    with Client(started.address) as client:
        said = client.send(bytes(range(256)) * 8 + b"\n").rest()
    assert said.startswith("Invalid command ")
    assert serves_on(started.address)


@pytest.mark.slow
def test_half_a_line_and_silence_is_closed_after_the_idle_time(start):
    started = start(limits=Limits(idle=0.2))
    with Client(started.address) as client:
        assert client.send(b"hea").rest() == "closed after 0.2 s of silence\n"
    with Client(started.address) as client:
        assert client.rest() == "closed after 0.2 s of silence\n"
    wait_for(lambda: not started.board.talks)


@pytest.mark.slow
def test_who_stays_may_be_silent_for_longer(start):
    started = start(limits=Limits(idle=0.1, interactive_idle=0.5))
    with Client(started.address) as client:
        client.send(b"interactive\n").line()
        begun = time.monotonic()
        assert client.rest() == "closed after 0.5 s of silence\n"
        assert time.monotonic() - begun >= 0.4


@pytest.mark.slow
def test_1000_idle_connections_keep_nobody_out(start):
    started = start()
    idle = [Client(started.address) for _ in range(1000)]
    assert serves_on(started.address)
    assert len(started.board.talks) <= 100
    for one in idle:
        one.socket.close()
    wait_for(lambda: not started.board.talks)


@pytest.mark.slow
def test_who_is_being_answered_or_stays_makes_no_room(start):
    started = start(limits=Limits(connections=2))
    with Client(started.address) as first, Client(started.address) as second:
        for client in (first, second):
            client.send(b"interactive\n").line()
        assert ask(started.address, "health") == "all 2 connections are taken\n"
        first.send(b"quit\n").rest()
        wait_for(lambda: len(started.board.talks) == 1)
        assert serves_on(started.address)


@pytest.mark.slow
@pytest.mark.parametrize("address", [None, 0])
def test_a_client_that_never_reads_a_large_answer_is_dropped_in_the_end(start, address):
    started = start(address, limits=Limits(answer=64 * MIB, idle=0.3))
    with Client(started.address) as client:
        client.send(b"large\n")
        wait_for(lambda: started.board.unread > 30 * MIB)
        assert serves_on(started.address)
        wait_for(lambda: not started.board.talks)
    assert started.board.unread == 0


def test_a_client_that_reads_a_large_answer_gets_all_of_it(start):
    started = start(limits=Limits(answer=64 * MIB))
    assert len(ask(started.address, "large")) == 50 * MIB + 1


@pytest.mark.slow
def test_many_that_never_read_are_dropped_before_memory_is_short(start):
    started = start(limits=Limits(answer=64 * MIB, unread=110 * MIB))
    before = psutil.Process().memory_info().rss
    clients = [Client(started.address) for _ in range(5)]
    for client in clients:
        client.send(b"large\n")
    wait_for(lambda: started.board.answered == 5 and len(started.board.talks) == 2)
    assert grown(before) < 300
    assert serves_on(started.address)
    for client in clients:
        client.socket.close()


def test_who_does_not_read_in_interactive_mode_is_asked_nothing_more(start):
    started = start()
    before = psutil.Process().memory_info().rss
    with Client(started.address, timeout=0.2) as client:
        send_until_refused(client, b"interactive\n" + b"help\n" * 200_000, 20 * MIB)
        assert grown(before) < 30
        assert started.board.unread < MIB
        assert len(started.board.talks) == 1
        assert serves_on(started.address)


def test_who_asks_on_while_a_command_runs_is_not_read_from(start, commands):
    released = threading.Event()

    @commands.command("waits", deadline=60)
    def waits():
        released.wait(10)

    started = start()
    with Client(started.address, timeout=0.2) as client:
        client.send(b"interactive\nwaits\n")
        assert send_until_refused(client, b"health\n" * 10_000, 100 * MIB) < 2 * MIB
        assert serves_on(started.address)
    released.set()


def test_an_answer_without_end_is_cut(start):
    said = ask(start(limits=Limits(answer=10_000)).address, "forever")
    assert said.startswith("and on and on\n")
    assert said.endswith("\n... cut after 10000 bytes\n")
    assert len(said) < 10_100


def test_an_answer_in_json_that_is_too_long_is_an_error(start):
    assert "more than 10000 bytes" in ask(start(limits=Limits(answer=10_000)).address, "json forever")


def test_what_a_command_raises_is_one_line_with_the_id_of_the_log(start, caplog):
    started = start()
    said = ask(started.address, "raises")
    assert said.startswith("raises: LookupError: no such thing (error ")
    assert said.count("\n") == 1
    id_ = said.split("error ")[1][:8]
    assert f"command_failed id={id_} command=raises" in caplog.text
    assert "Traceback" in caplog.text


def test_the_traceback_is_shown_to_who_stays_on_a_unix_socket(start):
    for address, shown in [(None, True), (0, False)]:
        said = ask(start(address).address, "interactive", "raises", "quit")
        assert ("Traceback" in said) is shown


@pytest.mark.parametrize("name", ["exits", "exits-at-once", "interrupts"])
def test_a_command_that_ends_the_process_does_not(start, name):
    started = start()
    assert ask(started.address, name).startswith(f"{name}: ")
    assert serves_on(started.address)


def test_commands_that_never_end_are_counted_and_no_more_than_so_many(start, commands):
    released = threading.Event()

    @commands.command("stuck", deadline=0.05)
    def stuck():
        released.wait(20)

    started = start(limits=Limits(running=3))
    assert [ask(started.address, "stuck") for _ in range(3)] == ["stuck: no answer in 0.05 s\n"] * 3
    assert ask(started.address, "stuck") == "stuck: no thread is left for it; not answered yet: stuck, stuck, stuck\n"
    assert serves_on(started.address)
    released.set()
    wait_for(lambda: not started.running.jobs)
    assert ask(started.address, "exits").startswith("exits: SystemExit")


def test_a_command_that_writes_in_parts_ends_when_nobody_waits(start, commands):
    @commands.command("drips", deadline=0.05)
    def drips():
        while True:
            yield "."
            threading.Event().wait(0.01)

    started = start()
    assert ask(started.address, "drips") == "drips: no answer in 0.05 s\n"
    wait_for(lambda: not started.running.jobs)


def test_a_client_that_leaves_before_its_answer_disturbs_nobody(start, commands):
    released = threading.Event()

    @commands.command("waits")
    def waits():
        released.wait(10)
        return monitor.lines("too late")

    started = start(0)
    client = Client(started.address)
    client.send(b"waits\n")
    wait_for(lambda: started.running.jobs)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.socket.close()
    wait_for(lambda: not started.board.talks)
    released.set()
    wait_for(lambda: not started.running.jobs)
    assert serves_on(started.address)


def test_a_removed_socket_file_is_made_again(start):
    started = start(limits=Limits(looks=0.05))
    os.unlink(started.address)
    wait_for(lambda: os.path.exists(started.address))
    assert serves_on(started.address)


@FORKS
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_is_not_answered(start, tmp_path):
    started = start()
    os.chmod(started.address, 0o777)
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.name.startswith(("pytest", "test_")):
            folder.chmod(0o755)

    def child():
        os.setuid(65534)
        with Client(started.address) as client:
            return client.rest()

    assert in_a_child(child) == "this monitor answers its own user\n"
    assert serves_on(started.address)


def test_a_wrong_token_is_not_answered(start):
    started = start(0, token="s3cret")
    refused = "no such token: the first line is to be `token XXXX`\n"
    assert ask(started.address, "health") == refused
    assert ask(started.address, "token other", "health") == refused
    assert ask(started.address, "token s3cret", "health") == "OK\n"
