"""Whatever is written in ZooKeeper, or said by a peer, no command shows more than text of as many lines as before."""

import contextlib
import functools
import itertools
import json

import pytest
from click.testing import CliRunner
from hypothesis import Phase, example, given, settings
from kazoo.client import KazooClient

from tests.cli.test_every_command import commands, takes_an_ensemble
from tests.foreign import CONTROLS, HALVES, WORST, does_nothing, foreign, writable
from tests.zeo.asked import listener
from zkfleet.cli import main
from zkfleet.cli.output import emit_plan, lines_of
from zkfleet.devserver import DevServer
from zkfleet.monitor.client import Asking, ask
from zkfleet.monitor.places import place

# `{name}` is a name that ZooKeeper takes, `{key}` a key of properties.
CALLS = [
    ("addresses", "/svc"),
    ("addresses", "/svc/away"),
    ("doctor",),
    ("get", "/svc"),
    ("get", "/svc", "no"),
    ("get", "/svc", "{key}"),
    ("get", "/svc", "linked"),
    ("get", "/svc/odd"),
    ("get", "/loop/a"),
    ("ln", "/svc/away", "/svc/away"),
    ("rm", "/svc"),
    ("rm", "-r", "-n", "/svc"),
    ("rm", "/svc/away/below"),
    ("set", "/svc/away", "x=1"),
    ("show",),
    ("show", "/svc/away"),
    ("show", "/{name}"),
    ("tree export",),
    ("tree export", "/{name}"),
    ("tree graph", "/"),
    ("tree graph", "/", "--as", "mermaid"),
    ("tree import", "FILE", "-n", "--trim"),
    ("tree import", "FILE", "/svc/away"),
    ("tree plan", "FILE", "--trim"),
    ("tree plan", "ODD"),
    ("monitor", "--path", "/", "--all", "process"),
    ("monitor", "--path", "/", "process"),
    ("monitor", "--path", "/svc/away", "process"),
    ("monitor", "--path", "/monitors", "process"),
    ("top", "--once", "--interval", "0.1"),
    ("top", "/svc/away", "--once"),
    ("zeo status", "/db", "--interval", "0"),
    ("zeo status", "/svc/away", "--interval", "0"),
    ("zeo identify", "/db"),
    ("zeo identify", "/svc/away"),
    ("zeo pack", "/db"),
    ("zeo pack", "/svc/away"),
    ("zeo check", "/db", "-m"),
    ("zeo check", "/svc/away"),
]
# `demo`, `run` and `tree apply` show nothing that is read there but errors, which are shown by the same function.
ELSEWHERE = {"demo", "run", "tree apply"}
_numbers = itertools.count()


def test_every_command_that_takes_an_ensemble_is_called_here():
    assert {name for name, *_ in CALLS} | ELSEWHERE == {name for name, one in commands() if takes_an_ensemble(one)}


@pytest.fixture(scope="module")
def server():
    with DevServer(tick=0.2) as server:
        client = KazooClient(server.hosts)
        client.start()
        yield client, server.hosts
        client.stop()
        client.close()


@contextlib.contextmanager
def fleet(server, text, name):
    """A connection string for a fleet in which all that can be is this text, or this name; and its monitor's words."""
    client, hosts = server
    root = f"/run{next(_numbers)}"

    def make(path, ephemeral=False, **properties):
        data = json.dumps({key.replace("KEY", text): value for key, value in properties.items()}).encode()
        client.create(root + path, data, ephemeral=ephemeral)

    one_line = text.replace("\n", "")  # a monitor has as many lines as it likes
    told = {"ok": True, "text": f"{one_line}\n", "answer": {"pid": 1, "command": text, "uptime": 1.0}}
    with listener(json.dumps(told).encode() + b"\n", then=lambda link: link.recv(1000)) as monitor:
        client.create(root, b"{}")
        make("/svc", type=text, KEY=text, **{"away ->": f"/nowhere{name}", "linked =>": f"/svc{name} x"})
        make("/svc/odd", KEY=text, **{"KEY =>": text, "KEY ->": text})
        make("/svc/10.0.0.1:80", ephemeral=True, pid=text, host=text, monitor=text)
        make("/loop")
        make("/loop/a", **{f"x{name} ->": "/loop/b/y", "z =>": f"/loop/a {text}"})
        make("/loop/b", **{"y ->": f"/loop/a/x{name}"})
        make("/db")
        make("/db/127.0.0.1:1", storages=[text, "1"], role=text, monitor=text, database={text: text})
        make("/db.standby")
        make("/db.standby/a-1", state=text, locked_by=text, since=1.0)
        make("/monitors")
        make(f"/monitors/{monitor}", ephemeral=True, kind="monitor", KEY=text)
        make(f"/{name}", type=text, KEY=text)
        make(f"/{name}/{name}", ephemeral=True, KEY=text)
        client.create(f"{root}/{name}/data", f"text {text}".encode(errors="backslashreplace"))
        yield f"{hosts}{root}"


@pytest.fixture(scope="module")
def shown(server, tmp_path_factory):
    """What every call shows of a fleet in which this text is: stdout and stderr of each."""
    folder = tmp_path_factory.mktemp("trees")
    (folder / "FILE").write_text("/svc\n  y = 1\n")

    def show(text, name):
        (folder / "ODD").write_bytes(f"/a\n  {text} = \n".encode(errors="replace"))
        with fleet(server, text, name) as hosts:
            found = []
            for command, *arguments in CALLS:
                words = [word.format(key=text, name=name) if "{" in word else word for word in arguments]
                words = [str(folder / word) if word in ("FILE", "ODD") else word for word in words]
                done = CliRunner().invoke(main, [*command.split(), *words, "-z", hosts])
                assert done.exception is None or isinstance(done.exception, SystemExit), (command, done.exception)
                found.append(((command, *arguments), done.stdout, done.stderr))
            return found

    return show


@pytest.fixture(scope="module")
def plain(shown):
    """The same of text that does nothing, when a test asks for it: what a command sets is set back after each test."""
    # What is no plain name has lines of its own in a tree; a mark that does nothing is enough for that.
    return functools.cache(lambda: shown("pl\u00a0ain", "od\u00a0d"))


def legal(text):
    """A text as ZooKeeper takes it for a name."""
    return "od\u202ed" + "".join(mark for mark in text if mark not in [*CONTROLS, *HALVES, "/"])


@settings(max_examples=3, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # a call costs too much for less
@example(WORST)
@given(writable)
def test_no_command_shows_a_line_that_others_wrote(shown, plain, text):
    for (call, out, err), (_, plain_out, plain_err) in zip(shown(f"\x07{text}", legal(text)), plain(), strict=True):
        # Problems are those of what is written there, and a link may lead to the first word of it.
        if call == ("tree plan", "ODD") or call[0] == "tree graph":
            does_nothing(out, of=call)
            does_nothing(err, of=call)
        else:
            does_nothing(out, lines=len(plain_out.splitlines()), of=call)
            does_nothing(err, lines=len(plain_err.splitlines()), of=call)


@given(foreign)
def test_colours_are_ours_alone(text):
    marks = list(lines_of(f"+ {text}\n"))
    assert marks == f"+ {text}".split("\n")


def test_plans_have_lines_of_our_own(capsys):
    emit_plan("human", "+ /a\u2028b\u202e\n    + x = 1\x85\n1 to create", "{}")
    assert capsys.readouterr().out == "+ /a\\u2028b\\u202e\n    + x = 1\\x85\n1 to create\n"


@settings(max_examples=10)
@example(WORST)
@given(foreign)
def test_what_a_monitor_says_does_nothing(text):
    said = {"ok": False, "text": text, "error": text, "hint": text}
    for words in (json.dumps(said).encode(), text.encode(errors="replace")):
        with listener(words + b"\n", then=lambda link: link.recv(1000)) as address:
            done = CliRunner().invoke(main, ["monitor", address, "process"])
        assert does_nothing(done.stderr, lines=2)
        assert does_nothing(done.stdout, lines=0)


@example(f"{WORST}\t{WORST}")
@settings(max_examples=10)
@given(foreign)
def test_lines_of_a_monitor_stay_lines(text):
    with listener(
        json.dumps({"ok": True, "text": f"a\tb\r\n{text}"}).encode() + b"\n", then=lambda link: None
    ) as address:
        told = ask(place(address), ["process"], Asking())
    assert told.text.startswith("a       b\n")
    assert told.text.count("\n") == text.count("\n") + 1
