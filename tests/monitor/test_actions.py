"""Which commands change something?  A new one must be told here, with what it is called with."""

import contextlib
import http.client

import pytest

from tests.monitor.conftest import ask
from zkfleet.monitor.commands import COMMANDS
from zkfleet.monitor.loading import load

LOOK, ACTION = False, True
# Of each command: calls of it, as words, and whether that changes anything but what is said next.  Those that
# only take time, such as `profile`, change nothing: they are refused to pages of other sites as all others.
CALLS = {
    "cache": {(): LOOK},
    "calls": {(): LOOK},
    "clients": {(): LOOK},
    "conflicts": {(): LOOK, ("last",): LOOK},
    "connections": {(): LOOK, ("0", "*", "stacks"): LOOK},
    "databases": {(): LOOK},
    "dbinfo": {(): LOOK},
    "deferreds": {(): LOOK},
    "gc": {(): LOOK},
    "health": {(): LOOK},
    "help": {(): LOOK},
    "interactive": {(): LOOK},
    "invalidations": {(): LOOK},
    "json": {(): LOOK},
    "kick": {("1",): ACTION},
    "locks": {(): LOOK},
    "loglevel": {("root",): LOOK, ("root", "DEBUG"): ACTION},
    "memory": {("top",): LOOK, ("start",): ACTION, ("stop",): ACTION, ("start", "5"): ACTION},
    "minimize": {(): ACTION},
    "monitor": {(): LOOK},
    "objects": {(): LOOK},
    "pack": {("0", "-"): ACTION},
    "pool": {(): LOOK},
    "process": {(): LOOK},
    "profile": {("0.01",): LOOK},
    "quit": {(): LOOK},
    "reactor": {(): LOOK},
    "ready": {(): LOOK},
    "registrations": {(): LOOK},
    "servers": {(): LOOK},
    "session": {(): LOOK},
    "slow": {(): LOOK},
    "startup": {(): LOOK},
    "tasks": {(): LOOK},
    "threads": {(): LOOK},
    "told": {(): LOOK},
    "views": {(): LOOK},
    "zeocache": {(): LOOK},
    "zeoclient": {(): LOOK},
    "zeoserver": {(): LOOK},
    "zeostatus": {(): LOOK},
}
OURS = [(name, words) for name, calls in CALLS.items() for words in calls]


@pytest.fixture(scope="module", autouse=True)
def loaded():
    load()


def test_of_every_command_it_is_said_whether_it_changes_anything():
    ours = {one.name for one in COMMANDS if one.function.__module__.startswith("zkfleet.monitor")}
    assert ours == CALLS.keys()


@pytest.mark.parametrize(("name", "words"), OURS)
def test_a_call_is_an_action_if_it_changes_something(name, words):
    command = COMMANDS.get(name)
    assert command.changes(command.read(list(words))) is CALLS[name][words]


def test_an_action_is_a_call_that_is_off_over_lines_and_is_posted_over_http(tmp_path):
    from zkfleet import monitor

    actions = [(name, words) for name, words in OURS if CALLS[name][words]]
    with monitor.start(str(tmp_path / "sock"), http=0) as started:
        for name, words in actions:
            assert ask(started.address, " ".join((name, *words))).startswith(
                f"{name}: it changes something, and is off"
            )
            query = "&".join(
                f"{one.name}={word}" for one, word in zip(COMMANDS.get(name).parameters, words, strict=False)
            )
            statuses = []
            for method in ("GET", "POST"):
                with contextlib.closing(http.client.HTTPConnection(started.http.address, timeout=10)) as connection:
                    connection.request(method, f"/commands/{name}.json?{query}")
                    statuses.append(connection.getresponse().status)
            assert statuses == [405, 403], (name, words)
