import json
import os
import stat

import pytest

from tests.monitor.conftest import Client, ask
from zkfleet import monitor
from zkfleet.errors import BadInput


def test_it_is_asked_over_a_unix_socket_of_this_user(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with monitor.start() as started:
        assert started.address == str(tmp_path / "zkfleet" / f"monitor-{os.getpid()}.sock")
        assert stat.S_IMODE(os.stat(started.address).st_mode) == 0o600
        assert ask(started.address, "health") == "OK\n"
    assert not os.path.exists(started.address)


def test_it_is_asked_over_a_port(start):
    started = start(0)
    assert started.address.startswith("127.0.0.1:")
    assert ask(started.address, "quit") == "Goodbye.\n"


def test_an_answer_comes_as_text_and_as_json(start, commands):
    said = [monitor.Column("name", "Whose."), monitor.Column("size", "How large.", "bytes")]

    @commands.command("sizes", columns=said)
    def sizes():
        return monitor.table(said, [{"name": "a", "size": 2048}, {"name": "bb"}])

    address = start().address
    assert ask(address, "sizes") == "name     size\na     2.0 KiB\nbb          -\n"
    assert json.loads(ask(address, "json sizes")) == {
        "command": "sizes",
        "ok": True,
        "answer": [{"name": "a", "size": 2048}, {"name": "bb", "size": None}],
    }


def test_a_program_is_told_the_text_and_whether_all_is_well(start, commands):
    commands.command("ready")(lambda: monitor.lines("mail: full", ok=False))
    address = start().address
    assert json.loads(ask(address, "told ready")) == {"command": "ready", "ok": False, "text": "mail: full\n"}
    assert json.loads(ask(address, "told redy"))["error"] == "Invalid command 'redy'"
    assert ask(address, "told").startswith("told COMMAND ... answers")


def test_a_port_that_is_taken_is_a_warning_and_false(start, caplog):
    first = start(0)
    assert start(first.address) is False
    assert "somebody listens there already" in caplog.text
    assert ask(first.address, "quit") == "Goodbye.\n"


def test_a_socket_on_which_somebody_listens_is_left_alone(start, caplog):
    first = start()
    assert start(first.address) is False
    assert "somebody listens there already" in caplog.text
    assert ask(first.address, "quit") == "Goodbye.\n"


def test_what_is_no_socket_is_left_alone(start, tmp_path):
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(BadInput, match="something else than a socket"):
        start(str(file))
    assert file.read_text() == "precious"


def test_interactive_stays_until_quit(start):
    with Client(start().address) as client:
        assert client.send(b"interactive\n").line() == 'Interactive mode on.  Use "quit" To exit.\n'
        assert client.send(b"nothing\n").line() == "Invalid command 'nothing'\n"
        assert client.line() == 'Try "help".\n'
        assert client.send(b"quit\n").rest() == "Goodbye.\n"
