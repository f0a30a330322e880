"""What is answered does not depend on the door."""

import json
import threading

import pytest

from tests.conftest import wait_for
from tests.monitor.conftest import Client
from tests.monitor.doors import LOOPS, running
from zkfleet import monitor
from zkfleet.errors import BadInput, WaitTimedOut
from zkfleet.monitor import Certificates
from zkfleet.monitor.answers import Mode

SCRIPTS = [
    ["help"],
    ["help help"],
    ["health"],
    ["slow"],
    ["json slow"],
    ["late"],
    ["breaks"],
    ["nothing"],
    ["slow 1 2"],
    ["sum", "1 2", "", "3", "quit", "health"],
    ["json sum", "1 2", "", "3", "quit", "health"],
    ["told sum 1", "2", "quit"],
    ["interactive", "slow", "", "json health", "parts", "quit", "health"],
    ["x" * 9000],
    ["token any", "health"],
]


def add_to(commands, forever):
    @commands.command("health", blocks=False)
    def health():
        return monitor.lines("OK")

    @commands.command("slow")
    def slow():
        return monitor.lines(threading.current_thread().name)

    @commands.command("late", deadline=0.05)
    def late():
        forever.wait(10)

    @commands.command("breaks", blocks=False)
    def breaks():
        """Break in a way that is told with the usage."""
        raise BadInput("breaks: it did", hint="do not")

    @commands.command("parts")
    def parts():
        yield from ("a", "b\n" * 100_000, "c\n")

    @commands.command("sum", claims_input=True, blocks=False)
    def sum_(*words):
        if words == ("quit",):
            return monitor.lines("enough", mode=Mode.QUIT)
        return monitor.lines(str(sum(map(int, words))), mode=Mode.MORE)


@pytest.mark.parametrize("address", ["unix", "tcp"])
def test_all_doors_say_the_same(start, commands, address):
    forever = threading.Event()
    add_to(commands, forever)
    said = {}
    for name in LOOPS:
        with running(name) as loop:
            started = loop.call(lambda: start(0 if address == "tcp" else None, door=loop.door))
            for script in SCRIPTS:
                with Client(started.address) as client:
                    client.send("".join(f"{line}\r\n" for line in script).encode())
                    said.setdefault(tuple(script)[:3], {})[name] = client.rest()
            loop.call(started.close)
    forever.set()
    for script, answers in said.items():
        assert len(set(answers.values())) == 1, (script, answers)
    assert said["late",]["thread"] == "late: no answer in 0.05 s\n"
    assert said["sum", "1 2", ""]["thread"] == "0\n3\n0\n3\nenough\n"
    assert [json.loads(line)["answer"] for line in said["json sum", "1 2", ""]["thread"].splitlines()] == [
        ["0"], ["3"], ["0"], ["3"], ["enough"],
    ]  # fmt: skip
    assert [json.loads(line)["text"] for line in said["told sum 1", "2", "quit"]["thread"].splitlines()] == [
        "1\n", "2\n", "enough\n",
    ]  # fmt: skip
    assert said["x" * 9000,]["thread"] == "a line of more than 8192 bytes\n"


@pytest.mark.parametrize("name", LOOPS)
def test_a_command_that_blocks_holds_up_nobody_else(start, commands, name):
    forever = threading.Event()
    add_to(commands, forever)

    @commands.command("waits", deadline=60)
    def waits():
        forever.wait(10)
        return monitor.lines("at last")

    with running(name) as loop:
        started = loop.call(lambda: start(door=loop.door))
        with Client(started.address) as waiting:
            waiting.send(b"waits\n")
            wait_for(lambda: started.running.jobs)
            with Client(started.address) as other:
                assert other.send(b"health\n").rest() == "OK\n"
            forever.set()
            assert waiting.rest() == "at last\n"
        loop.call(started.close)


@pytest.mark.parametrize("name", LOOPS)
def test_all_that_a_client_asked_in_one_breath_is_answered_in_order(start, commands, name):
    add_to(commands, threading.Event())
    with running(name) as loop:
        started = loop.call(lambda: start(door=loop.door))
        with Client(started.address) as client:
            client.send(b"interactive\n" + b"health\n" * 2000 + b"slow\nquit\n")
            said = client.rest().splitlines()
        loop.call(started.close)
    assert said[1:] == ["OK"] * 2000 + ["zkfleet-monitor-slow", "Goodbye."]


@pytest.mark.parametrize("name", LOOPS)
def test_who_has_sent_all_and_closes_its_half_is_answered(start, commands, name):
    add_to(commands, threading.Event())
    with running(name) as loop:
        started = loop.call(lambda: start(0, door=loop.door))
        for line in ["slow", "health", "parts"]:
            with Client(started.address) as client:
                client.send(f"{line}\n".encode())
                client.socket.shutdown(1)
                assert client.rest()
        loop.call(started.close)


def test_a_monitor_whose_command_blocks_the_loop_says_that_it_cannot_be_closed_yet(start, commands, monkeypatch):
    monkeypatch.setattr("zkfleet.monitor.threads.PATIENCE", 0.05)
    begun, released = threading.Event(), threading.Event()

    @commands.command("lies", blocks=False)
    def lies():
        begun.set()
        released.wait(10)
        return monitor.lines("late")

    started = start()
    with Client(started.address) as client:
        client.send(b"lies\n")
        assert begun.wait(10)
        with pytest.raises(WaitTimedOut):
            started.close()
        released.set()
        assert client.rest() == "late\n"
    wait_for(lambda: "zkfleet-monitor" not in {one.name for one in threading.enumerate()})


# asyncio's TLS is not over before the client says so.
@pytest.mark.parametrize(("name", "is_encrypted"), [*((name, False) for name in LOOPS), ("twisted", True)])
def test_who_reads_late_reads_all(start, commands, certificates, trusting, monkeypatch, name, is_encrypted):
    @commands.command("large", blocks=False)
    def large():
        return monitor.lines("x" * 1_000_000)

    for room in ("plain", "twisted"):
        monkeypatch.setattr(f"zkfleet.monitor.{room}.SECONDS_FOR_LAST_WORDS", 0.01)
    tls = Certificates(str(certificates / "server.crt"), str(certificates / "server.key")) if is_encrypted else None
    with running(name) as loop:
        started = loop.call(lambda: start(0, door=loop.door, tls=tls))
        with Client(started.address, tls=trusting(certificates) if is_encrypted else None) as client:
            client.send(b"large\n")
            # The door is done with it: what the client has not read is with the system.
            wait_for(lambda: started.board.answered and not started.board.talks)
            assert len(client.rest()) == 1_000_001
        loop.call(started.close)
