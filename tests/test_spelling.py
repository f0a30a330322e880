import json
import logging
import pickle

import pytest
from hypothesis import given, settings

from tests.foreign import DIRECTIONS, FORGED, HALVES, MARKS, WORST, does_nothing, foreign
from zkfleet import errors
from zkfleet.spelling import get_logger, spell, spell_exception, spell_json, spell_lines, spell_record


@given(foreign)
def test_what_is_spelled_is_one_line_that_does_nothing(text):
    assert does_nothing(spell(text) + "\n", lines=1)
    assert spell(spell(text)) == spell(text)


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_is_spelled_as_in_a_literal(mark):
    assert spell(f"a{mark}b") == f"a{repr(mark)[1:-1]}b"


@pytest.mark.parametrize("text", ["", "main", "Grüße", "日本語", "سلام", "a\u00a0b", "👋🏽", r"C:\temp", "x" * 1000])
def test_what_people_write_stays(text):
    assert spell(text) == spell_lines(text) == text


@given(foreign)
def test_lines_of_a_text_stay_and_nothing_else(text):
    shown = spell_lines(text)
    assert shown.count("\n") == text.count("\n")
    assert not [mark for mark in MARKS if mark in shown.replace("\r\n", "").replace("\n", "").replace("\t", "")]


@given(foreign)
def test_a_document_means_the_same(text):
    document = spell_json(json.dumps({text: text}, ensure_ascii=False))
    assert json.loads(document) == {text: text}
    assert does_nothing(document + "\n", lines=1)
    assert spell_json(json.dumps("Grüße\U000e0041", ensure_ascii=False)) == r'"Grüße\udb40\udc41"'


# -- errors

TID = "03fe" * 4  # which nobody else writes
TWO = {errors.TooLarge: ("/a", 2, 1), errors.ChrootNotFound: ("/a", "h:1/a"), errors.AccessDenied: ("/a", "read")}
OTHERS = {
    errors.ObjectGone: ("main", "0" * 16, "it is gone"),
    errors.LinkLoop: (["/a", "/b"],),
    errors.StalePlan: (["/a"],),
    errors.TreeErrors: (["a:1:1: what"],),
    errors.CommittedAlready: (),
}
NAMED = {
    errors.ServerBehind: (("h:1",), {"has": TID, "seen": TID}),
    errors.WrongDatabase: (("h:1",), {"found": "a", "expected": "b"}),
    errors.EscapedObject: (("result", "an object"), {"hint": "do not"}),
}


def kinds(kind=errors.ZkfleetError):
    return [kind, *(below for one in kind.__subclasses__() for below in kinds(one))]


def made(kind, text):
    """An error of this kind in which all that can be text of others is."""
    positional, named = NAMED.get(kind, (TWO.get(kind) or OTHERS.get(kind, ("it failed",)), {}))
    if kind not in {**NAMED, **TWO, **OTHERS}:
        named = {} if kind in (errors.NodeNotFound, errors.CommitUnknown) else {"hint": "do this"}

    def foreign(value):
        if value == TID:
            return value
        return text if isinstance(value, str) else [text for _ in value] if isinstance(value, list) else value

    return kind(*map(foreign, positional), **{name: foreign(value) for name, value in named.items()})


@pytest.mark.parametrize("kind", sorted(set(kinds()), key=lambda kind: kind.__name__))
@settings(max_examples=10)
@given(text=foreign)
def test_an_error_says_what_others_wrote_in_one_line(kind, text):
    error = made(kind, text)
    assert does_nothing(f"{error}\n", lines=1)
    assert does_nothing(f"{error.hint}\n", lines=1)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.hint) == (str(error), error.hint)


def test_the_facts_of_an_error_are_as_they_were():
    assert errors.NodeNotFound("/a\u202eb").path == "/a\u202eb"


# -- the log


@pytest.fixture
def logged(caplog):
    """A logger, and what was written by it: as a program writes it that has set up logging by hand."""
    caplog.set_level(logging.DEBUG)
    formatter = logging.Formatter("%(levelname)s %(message)s")
    return get_logger("zkfleet.tests.spelling"), lambda: formatter.format(caplog.records[-1]) + "\n"


@given(text=foreign)
def test_a_record_is_one_line_whatever_it_tells(text):
    logger, records = get_logger("zkfleet.tests.spelling"), []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage() + "\n")
    logger.addHandler(handler)
    try:
        logger.error("peer_lost peer=%s name=%r reason=%s after=%.1f", text, text, ValueError(text), 1.5)
        logger.error("peers_lost peers=%s", [text])
        logger.error("peers_lost peers=%s", {text: text})
        logger.error("peer_lost name=%(name)s", {"name": text})
        logger.error(text)
        logger.error(ValueError(text))
    finally:
        logger.removeHandler(handler)
    assert all(does_nothing(record, lines=1) for record in records), records
    assert records[0].startswith("peer_lost peer=")
    assert records[0].endswith("after=1.5\n")


def test_what_is_plain_is_handed_on_as_it_is(logged, caplog):
    logger, written = logged
    logger.warning("link_lost hosts=%s name=%r number=%d", "h:1", "main", 3)
    assert caplog.records[-1].args == ("h:1", "main", 3)
    assert written() == "WARNING link_lost hosts=h:1 name='main' number=3\n"


def test_a_traceback_has_the_lines_of_its_frames_and_no_others(logged):
    logger, written = logged

    def told(text):
        try:
            try:
                raise KeyError(text)
            except KeyError:
                raise ValueError(text) from None
        except ValueError:
            logger.exception("callback_failed path=%s", text)
        return written()

    plain = told("plain")
    assert "ValueError: plain\n" in plain
    assert does_nothing(told(WORST), lines=len(plain.splitlines()))


def test_a_chain_of_exceptions_stays_one(logged):
    logger, written = logged
    try:
        try:
            raise KeyError("first")
        except KeyError as exc:
            raise ValueError(f"second{WORST}") from exc
    except ValueError as exc:
        logger.error("it_failed", exc_info=exc)
        shown = spell_exception(exc)
    assert does_nothing(shown)
    assert "KeyError: 'first'\n\nThe above exception was the direct cause" in written()
    assert "\nValueError: second" in written()


def test_a_handler_may_spell_what_loggers_of_others_are_given(caplog):
    caplog.handler.addFilter(spell_record)
    try:
        logging.getLogger("somebody").error("label %s\n", WORST)
    finally:
        caplog.handler.removeFilter(spell_record)
    assert does_nothing(caplog.records[-1].getMessage() + "\n", lines=1)


def test_every_mark_that_turns_the_direction_is_known():
    assert not [mark for mark in DIRECTIONS + HALVES if spell(mark) == mark]
    assert spell(FORGED) == FORGED
