import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from persistent.TimeStamp import TimeStamp

from tests.foreign import WORST, does_nothing, foreign
from zkfleet.errors import ConnectFailed
from zkfleet.zeo.asking import Said
from zkfleet.zeo.checking import Limits, complaints, judge, metrics, report
from zkfleet.zeo.described import Described, Standing
from zkfleet.zeo.status import EMPTY, Row, rows_of, seconds, span, table
from zkfleet.zeo.surveying import Survey

NOW = 1_800_000_000.0


def tid(ago):
    """The id of a transaction so many seconds ago."""
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(NOW - ago, UTC)
    return TimeStamp(at.year, at.month, at.day, at.hour, at.minute, at.second).raw().hex()


def said(**fields):
    counters = dict.fromkeys(("connections", "loads", "stores", "commits", "aborts", "conflicts"), 0)
    rest = {"conflicts_resolved": 0, "active": 0, "waiting": 0, "locked_at": None, "started": "x", "last": tid(5)}
    return Said(**(counters | rest | fields))


def row(survey, before=None):
    [found] = rows_of(survey, before)
    return found


def test_a_row_says_what_the_server_and_its_node_say():
    described = Described(role="primary", read_only=True, databases={"1": "abc"})
    answer = {"1": said(connections=3, waiting=2, locked_at=NOW - 34, lock_holder="c:1 admin /edit")}
    found = row(Survey({"a:1": answer}, {"a:1": described}, NOW))
    assert found == Row(
        "a:1", "1", "primary, read-only", "abc", 3, None, 34.0, 2, tid(5), found.age, 0.0, lock_holder="c:1 admin /edit"
    )
    assert found.age == pytest.approx(5)
    assert "  c:1 admin /edit\n" in table([found], [""])


def test_rates_are_between_two_surveys():
    before = Survey({"a:1": {"1": said(commits=10)}}, at=NOW - 2)
    assert row(Survey({"a:1": {"1": said(commits=25)}}, at=NOW), before).commits == 7.5


@pytest.mark.parametrize("now", [said(commits=1, started="later"), said(commits=1)])
def test_a_server_that_began_anew_has_no_rate(now):
    before = Survey({"a:1": {"1": said(commits=10)}}, at=NOW - (0 if now.started == "x" else 2))
    assert row(Survey({"a:1": {"1": now}}, at=NOW), before).commits is None


def test_lag_is_to_the_newest_of_the_same_storage():
    answers = {"a:1": {"1": said(last=tid(10)), "2": said(last=tid(1))}, "b:1": {"1": said(last=tid(70))}}
    lags = {(found.address, found.storage): found.lag for found in rows_of(Survey(answers, at=NOW))}
    assert lags == {("a:1", "1"): 0, ("a:1", "2"): 0, ("b:1", "1"): pytest.approx(60)}


def test_an_empty_storage_has_no_age_and_no_lag():
    found = rows_of(Survey({"a:1": {"1": said(last=EMPTY)}, "b:1": {"1": said()}}, at=NOW))[0]
    assert (found.age, found.lag) == (None, None)


def test_who_gives_no_answer_has_a_row_that_says_why():
    assert row(Survey({"a:1": ConnectFailed("a:1: refused")})).problem == "refused"
    assert row(Survey({"a:1": {}})).problem == "No storages"
    described = {"a:1": Described(storages=("main",))}
    assert "'main'" in row(Survey({"a:1": {"1": said()}}, described)).problem


def test_only_the_storages_that_a_node_names_are_shown():
    described = {"a:1": Described(storages=("2",))}
    assert row(Survey({"a:1": {"1": said(), "2": said()}}, described, NOW)).storage == "2"


def test_standbys_have_rows_behind_the_servers():
    standing = [
        Standing("b-2", "waiting", NOW - 60),
        Standing("b-1", "serving"),
        Standing("b-3", "blocked", None, "17"),
    ]
    _, second, third = rows_of(Survey({"a:1": {"1": said()}}, at=NOW, standing=standing))
    assert (second.address, second.role, second.state, second.in_state) == ("b-2", "standby", "waiting", 60)
    assert (third.state, third.in_state, third.locked_by) == ("blocked", None, "17")
    assert "  b-2      -        standby, waiting  -" in table([second], [""])


def test_what_is_wrong_is_seen_without_colour():
    text = table([Row("a:1", "1", clients=3), Row("b:1", problem="refused")], ["", "refused"])
    head, good, bad = text.splitlines()
    assert head.split()[:3] == ["ADDRESS", "STORAGE", "ROLE"]
    assert good.startswith("   a:1")
    assert bad.startswith("!  b:1")
    assert bad.endswith("refused")
    assert good.index("3") == head.index("CLIENTS")


@pytest.mark.parametrize(
    ("length", "text"),
    [(None, "-"), (0.04, "0.0 s"), (119, "119.0 s"), (150, "2.5 min"), (7200, "2.0 h"), (2e5, "2.3 d")],
)
def test_lengths_of_time_are_for_people(length, text):
    assert span(length) == text


@given(st.integers(0, 10**9))
def test_a_transaction_id_holds_its_time(ago):
    assert seconds(tid(ago)) == pytest.approx(NOW - ago, abs=1)


@example(WORST)
@given(foreign)
def test_what_servers_and_their_nodes_say_begins_no_line(text):
    answer = {text: said(locked_at=NOW - 60, lock_holder=text), "1": said()}
    named = {
        "a:1": Described((text, "1"), role=text, databases={"1": text}),
        "b:2": Described(("1",), databases={"1": "x"}),
    }
    standing = [Standing(text, state=text, since=NOW, locked_by=text)]
    survey = Survey({"a:1": answer, "b:2": ConnectFailed(text)}, named, NOW, standing)
    rows = rows_of(survey)
    notes = ["; ".join(one.text for one in complaints(row, Limits())) for row in rows]
    assert does_nothing(table(rows, notes), lines=1 + len(rows))
    level, line = judge(survey, Limits())
    values = metrics(survey, None, "minutes")
    assert does_nothing(report(level, line, values), lines=len(values))
