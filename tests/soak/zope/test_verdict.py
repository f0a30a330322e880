import pytest

from tests.soak.zope.logs import Line
from tests.soak.zope.verdict import TOO_MANY, Failover, Failure, breaches, is_actionable

CONFLICT = (
    'Internal Server Error\n\nTraceback (most recent call last):\n  File "x.py"\nZODB.POSException.ConflictError: '
)
AGAIN = CONFLICT + "database conflict error (oid 0x06, serial this txn started with 0x040d 2026, serial currently)"
NEW = CONFLICT + "database conflict error (oid 0x06, serial this txn started with 0x00 1900, serial currently)"
MADE = Failover("kill_the_server", 10.0, 20.0, 0, 1)


def failed(text, status="500"):
    return Failure(12.0, "client0a", "POST", status, text)


def line(text, *more, level="WARNING", logger="zkfleet.zeo.storage"):
    return Line("zope0", 12.0, level, logger, text, more)


def test_conflicts_that_zope_gave_up_are_no_breach():
    assert list(breaches([failed(AGAIN)], [], [MADE])) == []


@pytest.mark.parametrize(
    ("failure", "word"),
    [
        (failed(NEW), "1 requests failed: POST 500 ZODB.POSException.ConflictError"),
        (failed("oops\nValueError: A different object already has the same oid"), "ValueError: A different"),
        (failed("TimeoutError: timed out", "none"), "POST none TimeoutError"),
        (failed("Bad  Gateway"), "Bad Gateway"),
    ],
)
def test_each_other_failure_is_a_breach(failure, word):
    [breach] = breaches([failure], [], [MADE])
    assert word in breach


def test_a_line_that_an_operator_knows_is_no_breach_and_an_unknown_one_is():
    assert list(breaches([], [line("zeo_no_servers path=/a")], [MADE])) == []
    [breach] = breaches([], [line("zeo_what path=/a"), line("zeo_what path=/b")], [MADE])
    assert breach == "2 lines that nobody can act on: WARNING zkfleet.zeo.storage zeo_what"


def test_an_exception_of_zope_is_known_by_its_class():
    served = ("Exception while serving /a", "Traceback (most recent call last):")
    of_conflict = line(*served, "ZODB.POSException.ConflictError: x", level="ERROR", logger="waitress")
    of_value = line(*served, "ValueError: x", level="ERROR", logger="waitress")
    assert is_actionable(of_conflict.kind)
    assert not is_actionable(of_value.kind)


def test_a_failover_that_drowns_its_reason_is_a_breach():
    lines = [line("zeo_no_servers path=/a")] * TOO_MANY
    assert list(breaches([], lines, [MADE])) == []
    [breach] = breaches([], [*lines, lines[0]], [MADE])
    assert breach == f"failover 1 (kill_the_server): zope0 logged {TOO_MANY + 1} times"
