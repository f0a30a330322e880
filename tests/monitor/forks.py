"""Forked children of the tests' process."""

import contextlib
import os
import signal
import socket

import pytest

# Later Pythons warn of every fork of a process with threads.
FORKS = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@contextlib.contextmanager
def a_child():
    """A forked child that does nothing, and lives on."""
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def in_a_child(function):
    """What a function returns, a text, in a forked child."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(20)
        child = os.fork()
        if child == 0:
            try:
                said = function()
            except BaseException as exc:
                said = repr(exc)
            ours.send(said.encode() or b"nothing")
            os._exit(0)
        try:
            return theirs.recv(1000).decode()
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
