import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.zeo.test_status import NOW, said, tid
from zkfleet.errors import ConnectFailed
from zkfleet.zeo.checking import Level, Limits, judge, metrics, report
from zkfleet.zeo.described import Described, Standing
from zkfleet.zeo.status import EMPTY
from zkfleet.zeo.surveying import Survey


def judged(answers, described=None, **limits):
    return judge(Survey(answers, described or {}, NOW), Limits(**limits))


def test_nothing_wrong_is_ok():
    level, line = judged({"a:1": {"1": said(connections=2)}})
    assert level is Level.OK
    assert line == "servers 1, clients 2, last transaction 5.0 s ago"


def test_nobody_registered_is_critical():
    assert judged({}) == (Level.CRITICAL, "nobody is registered")


@pytest.mark.parametrize(
    ("answer", "level", "text"),
    [
        (ConnectFailed("a:1: refused"), Level.CRITICAL, "a:1: refused"),
        ({}, Level.WARNING, "a:1: No storages"),
        ({"1": said(last=EMPTY)}, Level.WARNING, "Empty storage '1'"),
        ({"1": said(locked_at=NOW - 31)}, Level.WARNING, "commit lock held for 31.0 s"),
        ({"1": said(locked_at=NOW - 31, lock_holder="c:1 a")}, Level.WARNING, "commit lock held for 31.0 s by c:1 a"),
        ({"1": said(locked_at=NOW - 29, waiting=10)}, Level.OK, "servers 1"),
        ({"1": said(waiting=11)}, Level.WARNING, "11 transactions wait"),
    ],
)
def test_what_is_wrong_has_a_level_and_is_said(answer, level, text):
    found = judged({"a:1": answer})
    assert found[0] is level
    assert text in found[1]


def test_standbys_are_counted_and_one_that_cannot_open_is_warned_of():
    waiting = [Standing("b-1", "serving"), Standing("b-2", "waiting"), Standing("b-3", "waiting")]
    found = Survey({"a:1": {"1": said()}}, at=NOW, standing=waiting)
    assert judge(found, Limits())[1].startswith("servers 1, standbys 2, clients ")
    blocked = Survey({"a:1": {"1": said()}}, at=NOW, standing=[Standing("b-2", "blocked", locked_by="17")])
    assert judge(blocked, Limits()) == (Level.WARNING, "b-2: the storage's file is another process's: 17")
    nobody = Survey({}, at=NOW, standing=waiting[1:])
    assert judge(nobody, Limits()) == (Level.CRITICAL, "nobody is registered, standbys 2")
    alone = Survey({}, at=NOW, standing=[Standing("b-2", "blocked", locked_by="17"), Standing("b-3", "waiting")])
    assert judge(alone, Limits()) == (
        Level.CRITICAL,
        "nobody is registered, standbys 2; b-2: the storage's file is another process's: 17",
    )


def test_limits_are_options():
    answers = {"a:1": {"1": said(locked_at=NOW - 2, waiting=1)}, "b:1": {"1": said(last=tid(15))}}
    assert judged(answers)[0] is Level.OK
    level, line = judged(answers, lag=9.0, lock=1.0, waiting=0)
    assert level is Level.WARNING
    assert "a:1 1: commit lock held for 2.0 s; a:1 1: 1 transactions wait" in line
    assert "b:1 1: 10.0 s behind the newest" in line


def test_the_worst_state_wins_and_is_said_first():
    level, line = judged({"a:1": {"1": said(waiting=99)}, "b:1": ConnectFailed("b:1: refused")})
    assert level is Level.CRITICAL
    assert line.startswith("b:1: refused; a:1 1: 99")


def test_different_databases_under_one_path_are_critical():
    answers = {"a:1": {"1": said(), "2": said()}, "b:1": {"1": said()}}
    same = {"a:1": Described(databases={"1": "A", "2": "B"}), "b:1": Described(databases={"1": "A"})}
    assert judged(answers, same)[0] is Level.OK
    other = same | {"b:1": Described(databases={"1": "C"})}
    level, line = judged(answers, other)
    assert level is Level.CRITICAL
    assert line == "different databases are storage '1': A at a:1, C at b:1"


def test_metrics_have_the_names_of_zeo_nagios():
    before = Survey({"a:1": {"1": said(), "my base": said()}}, at=NOW - 60)
    now = Survey({"a:1": {"1": said(connections=2, loads=30), "my base": said()}}, at=NOW)
    assert metrics(now, None, "minutes")[:4] == [
        "active_txns=0",
        "connections=2",
        "waiting=0",
        "'my base:active_txns'=0",
    ]
    rates = metrics(now, before, "hours")
    names = [each.partition("=")[0] for each in rates[3:9]]
    assert names == ["aborts", "commits", "conflicts", "conflicts_resolved", "loads", "stores"]
    assert "loads=1800.0" in rates


def test_metrics_of_several_servers_say_whose_they_are():
    now = Survey({"a:1": {"1": said()}, "b:1": {"x": said()}, "c:1": ConnectFailed("no")}, at=NOW)
    assert [each for each in metrics(now, None, "minutes") if "waiting" in each] == ["a:1:waiting=0", "b:1:x:waiting=0"]


def test_a_report_is_one_line_and_metrics():
    assert report(Level.OK, "fine") == "OK: fine\n"
    assert report(Level.WARNING, "so so", ["a=1"]) == "WARNING: so so|a=1\n"
    assert report(Level.CRITICAL, "bad", ["a=1", "b=2", "c=3"]) == "CRITICAL: bad|a=1\n| b=2\n c=3\n"


@given(st.sampled_from(Level), st.text(), st.lists(st.just("a=1"), max_size=3))
def test_no_message_breaks_the_form(level, line, values):
    first, _, rest = report(level, line, values).partition("\n")
    assert first.count("|") == bool(values)
    assert rest.count("|") == (len(values) > 1)
