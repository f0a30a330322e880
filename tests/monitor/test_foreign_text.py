"""Whatever transactions, threads, requests and labels say of themselves, an answer has lines of its own alone."""

import asyncio
import threading

import pytest
import transaction
from hypothesis import example, given, settings

from tests.conftest import wait_for
from tests.foreign import FORGED, WORST, does_nothing, foreign
from zkfleet.errors import BadInput
from zkfleet.monitor import plugins
from zkfleet.monitor.answers import Column, Kind, fields, lines, table
from zkfleet.monitor.asking import call
from zkfleet.monitor.commands import COMMANDS, Commands
from zkfleet.monitor.health import READINESS
from zkfleet.monitor.history import History
from zkfleet.monitor.limits import Limits
from zkfleet.monitor.loading import load
from zkfleet.monitor.metrics import scraping
from zkfleet.monitor.running import Running

WHAT = [Column("name", "What it is.", kind=Kind.LABEL), Column("more", "What else."), Column("n", "", kind=Kind.GAUGE)]
# Those that ask somebody else, take long, or tell of the interpreter alone.
LEFT_OUT = {"profile", "memory", "objects", "pack", "kick", "more"}


def said(commands, *words):
    running = Running(commands, Limits(), actions=True)
    return running.now(call(commands, words, actions=True)).text


def made(text):
    """Commands that say this text wherever they can."""
    commands = Commands()
    row = {"name": text, "more": {text: [text, {"a": text}]}, "n": 1}
    commands.command("rows", columns=WHAT)(lambda: table(WHAT, [row]))
    commands.command("record", columns=WHAT)(lambda: fields(WHAT, row))
    commands.command("texts")(lambda: lines(text, f"a{text}"))

    def fail():
        raise ValueError(text)

    def refuse():
        raise BadInput(text, hint=text)

    commands.command("fails")(fail)
    commands.command("refuses")(refuse)
    return commands


@pytest.mark.parametrize(("name", "number"), [("rows", 2), ("record", 3), ("texts", 2), ("fails", 1), ("refuses", 2)])
@settings(max_examples=20)
@example(WORST)
@given(text=foreign)
def test_an_answer_has_its_own_lines(name, number, text):
    commands = made(text)
    assert does_nothing(said(commands, name).replace("\t", ""), lines=number)
    for form in ("json", "told"):
        assert does_nothing(said(commands, form, name), lines=1)


@settings(max_examples=20)
@given(foreign)
def test_metrics_have_their_own_lines(text):
    commands = made(text)
    scrape = scraping(Running(commands, Limits())).function()
    written = [line for line in scrape.splitlines() if not line.startswith("#")]
    assert len([line for line in written if line.startswith("zkfleet_rows_n{")]) == 1
    assert does_nothing(scrape)
    assert all(line.startswith("zkfleet_") for line in written)


@settings(max_examples=20)
@given(foreign)
def test_what_a_plugin_writes_does_nothing(text):
    commands = Commands()
    plugins.register(lambda output: output.write(text), "old", commands=commands)
    written = said(commands, "old")
    assert does_nothing(written.replace("\r\n", "\n").replace("\t", "").replace(FORGED, ""))


@pytest.fixture
def busy(main, monkeypatch):
    """A process in which everything that can be has a text of somebody's: a thread, a task, a transaction, a check."""
    monkeypatch.setattr(History, "slow_after", 0.0)
    load()

    def make(text):
        over, ready, loop = threading.Event(), threading.Event(), asyncio.new_event_loop()

        async def wait():
            asyncio.current_task().set_name(text)
            ready.set()
            while not over.is_set():
                await asyncio.sleep(0.01)

        thread = threading.Thread(target=loop.run_until_complete, args=(wait(),), name=text)
        thread.start()
        wait_for(ready.is_set)
        READINESS.add("odd", lambda: text)
        manager = transaction.TransactionManager()
        connection = main.open(manager)
        connection.setDebugInfo(text)
        manager.get().note(text.encode("ascii", "backslashreplace").decode() if "\ud800" in text else text)
        manager.get().user = text
        connection.root()["x"] = 1
        manager.commit()

        def end():
            over.set()
            thread.join()
            loop.close()
            connection.close()
            READINESS.remove("odd")

        return end

    return make


def told_of_all():
    """What every command says that needs no argument, by its name, and what it says in JSON."""
    found = {}
    for command in COMMANDS:
        if command.name not in LEFT_OUT and not command.action and not any(one.needed for one in command.parameters):
            found[command.name] = said(COMMANDS, command.name), said(COMMANDS, "json", command.name)
    for words in ("connections 0 * stacks", "monitor 0", "conflicts last", "threads"):
        found[words] = said(COMMANDS, *words.split()), said(COMMANDS, "json", *words.split())
    return found


def test_no_command_of_this_process_shows_a_line_that_others_wrote(busy):
    end = busy("plain")
    plain = told_of_all()
    end()
    end = busy(WORST)
    odd = told_of_all()
    end()
    assert r"\x1b[2J" in odd["threads"][0]
    assert all(r"\u202e" in odd[name][0] for name in ("threads", "tasks", "slow", "connections", "ready", "monitor 0"))
    for name, (text, document) in odd.items():
        does_nothing(text.replace("\t", ""), of=name)
        does_nothing(document, lines=1, of=name)
    for name in ("ready", "connections", "monitor 0", "tasks"):
        assert len(odd[name][0].splitlines()) == len(plain[name][0].splitlines()), name
