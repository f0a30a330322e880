import pytest

from tests.monitor.conftest import Client, ask
from zkfleet.monitor import plugins


def hello(connection, name="world"):
    """Say hello

    Provide a name if you're not the world.
    """
    connection.write(f"Hi {name}, nice to meet ya!\n")


def calc(connection, *args):
    if args and args[0] == "quit":
        return plugins.QUIT_MARKER
    if args:
        print(sum(map(int, args)), file=connection)
    connection.write(b".")
    return plugins.MORE_MARKER


@pytest.fixture
def address(start, commands):
    plugins.register(hello, commands=commands)
    plugins.register(hello, "hi", commands=commands)
    plugins.register(calc, commands=commands)
    plugins.register(lambda connection: plugins.INTERACTIVE_MARKER, "stay", commands=commands)
    return start().address


def test_a_plugin_of_zc_monitor_is_a_command(address):
    assert ask(address, "hi") == "Hi world, nice to meet ya!\n"
    assert ask(address, "hello Jim") == "Hi Jim, nice to meet ya!\n"
    assert "  hi -- Say hello\n" in ask(address, "help")
    assert ask(address, "help hi") == ("Help for hi:\n\nSay hello\n\n    Provide a name if you're not the world.\n\n")


def test_a_plugin_may_claim_all_further_lines(address):
    with Client(address) as client:
        assert client.send(b"calc\n").socket.recv(10) == b"."
        assert client.send(b"2 2\n").line() == "4\n"
        assert client.socket.recv(10) == b"."
        assert client.send(b"quit\n").rest() == ""


def test_a_plugin_may_turn_interactive_mode_on(address):
    assert ask(address, "stay", "hi", "", "quit") == "Hi world, nice to meet ya!\n" * 2 + "Goodbye.\n"


def test_a_plugin_that_is_called_wrongly_is_an_error_in_one_line(address):
    said = ask(address, "hello Jim 42")
    assert said.startswith("hello: TypeError: hello() takes from 1 to 2 positional arguments but 3 were given (error ")


def test_a_plugin_that_writes_for_ever_ends(start, commands):
    def endless(connection):
        while True:
            connection.write("x" * 1_000_000)

    plugins.register(endless, commands=commands)
    assert ask(start().address, "endless").startswith("endless: OSError: a plugin wrote more than")
