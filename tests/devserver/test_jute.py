"""How ZooKeeper's values are spelled in bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkfleet.devserver import jute

BELOW_16_BITS = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]))


@given(BELOW_16_BITS)
def test_text_is_utf_8(text):
    spelled = jute.text(text)
    assert spelled[4:] == text.encode()
    assert jute.Reader(spelled).text() == text


@given(st.text())
def test_any_utf_8_is_read(text):
    assert jute.decoded(text.encode()) == text


def test_a_character_beyond_16_bits_is_spelled_as_two_surrogates():
    assert jute.text("x\U0001f600")[4:] == b"x\xed\xa0\xbd\xed\xb8\x80"


@pytest.mark.parametrize(
    ("data", "marks"),
    [
        (b"\xed\xa0\x80", 1),
        (b"\xed\xa0", 1),
        (b"\xed\xa0\xbd\xed\xb8\x80", 2),
        (b"\xc0\x80", 2),
        (b"\xe0\x80\x80", 3),
        (b"\xe2\x82", 1),
        (b"\xf0\x9f\x98", 1),
        (b"\xf4\x90\x80\x80", 4),
    ],
)
def test_what_is_no_utf_8_has_as_many_marks_as_in_java(data, marks):
    assert jute.decoded(b"a" + data + b"z") == "a" + "\ufffd" * marks + "z"
    assert jute.decoded(data) == "\ufffd" * marks
