import copy
import logging
import pickle
import traceback

import pytest

from zkfleet.errors import BadInput, NodeNotFound, ServerBehind, TooLarge, WrongDatabase

ERRORS = [
    BadInput("what", hint="how"),
    NodeNotFound("/a/b", "/a"),
    TooLarge("/a", 2, 1),
    ServerBehind("a:1", has="1", seen="2"),
    WrongDatabase("a:1", found="x", expected="y"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_can_be_copied_and_sent_to_another_process(error, again):
    made = again(error)
    assert type(made) is type(error)
    assert (str(made), made.hint, vars(made)) == (str(error), error.hint, vars(error))


def test_a_server_that_is_behind_is_told_with_times():
    error = ServerBehind("a:1", has="0" * 16, seen="040d66095c089cee")
    assert str(error) == (
        "a:1: its last transaction is 0000000000000000, "
        "and 040d66095c089cee (2026-12-01 03:53:21 UTC) has been seen here"
    )


def test_a_traceback_ends_with_what_to_do(caplog):
    try:
        raise NodeNotFound("/a/b")
    except NodeNotFound as exc:
        said = "".join(traceback.format_exception(exc))
        logging.getLogger("application").exception("it failed")
    assert said.rstrip().endswith(f"no such znode: /a/b\nhint: {NodeNotFound('/a/b').hint}")
    assert "\nhint: " in caplog.text


def test_a_hint_that_is_changed_is_told_once():
    error = BadInput("what", hint="how")
    error.add_note("by the way")
    error.hint = "better"
    assert (error.hint, error.__notes__) == ("better", ["by the way", "hint: better"])
    error.hint = ""
    assert error.__notes__ == ["by the way"]
    assert not getattr(BadInput("what"), "__notes__", None)
