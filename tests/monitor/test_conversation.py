import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkfleet.monitor.answers import Mode
from zkfleet.monitor.asking import Reply
from zkfleet.monitor.conversation import Close, Conversation, Run, Send

# What commands of these names have become of the connection.
MODES = {"interactive": Mode.INTERACTIVE, "quit": Mode.QUIT, "more": Mode.MORE, "enough": Mode.INTERACTIVE}


def talk(pieces, *, ends=False, **options):
    """All orders that pieces of input lead to, each command answered at once with its words."""
    conversation = Conversation(longest=options.pop("longest", 100), **options)
    given = []

    def follow(orders):
        for order in orders:
            given.append(order)
            if isinstance(order, Run):
                mode = MODES.get(order.words[-1] if order.words[0] == "more" else order.words[0])
                follow(conversation.answered(Reply(" ".join(order.words), mode)))

    for piece in pieces:
        follow(conversation.received(piece))
    if ends:
        follow(conversation.ended())
    return given


def runs(*pieces, **options):
    return [order.words for order in talk(pieces, **options) if isinstance(order, Run)]


def test_one_command_is_answered_and_then_the_connection_is_closed():
    assert talk([b"hello you\n"]) == [Run(("hello", "you")), Send("hello you"), Close()]


def test_lines_may_end_as_in_telnet():
    assert runs(b"hello  you \r\n") == [("hello", "you")]


def test_what_comes_after_the_command_is_ignored():
    assert runs(b"hello\nworld\n", b"more\n") == [("hello",)]


def test_interactive_goes_on_until_quit():
    assert runs(b"interactive\na\nb\nquit\nc\n") == [("interactive",), ("a",), ("b",), ("quit",)]
    assert talk([b"interactive\nquit\nc\n"])[-1] == Close()


def test_an_empty_line_repeats_the_last_command_with_its_arguments():
    assert runs(b"interactive\na 1\n\n  \n") == [("interactive",), ("a", "1"), ("a", "1"), ("a", "1")]


def test_an_empty_line_before_any_command_is_nothing():
    assert runs(b"\n\n") == []
    assert talk([b"\n\n"]) == []
    assert runs(b"\n\na\n") == [("a",)]


def test_a_command_may_claim_all_further_lines_the_empty_ones_too():
    assert runs(b"more\n1 2\n\nquit\nx\n") == [("more",), ("more", "1", "2"), ("more",), ("more", "quit")]


def test_who_claimed_all_lines_may_give_the_connection_back():
    assert runs(b"more\nenough\nb\n") == [("more",), ("more", "enough"), ("b",)]


def test_nothing_is_taken_out_of_the_input_before_the_answer():
    conversation = Conversation(longest=100)
    assert conversation.received(b"interactive\na\n") == [Run(("interactive",))]
    assert conversation.received(b"b\n") == []
    assert conversation.answered(Reply("", Mode.INTERACTIVE)) == [Run(("a",))]
    assert conversation.answered(Reply("said")) == [Send("said"), Run(("b",))]


@pytest.mark.parametrize("pieces", [[b"x" * 101], [b"x" * 101 + b"\n"], [b"x" * 60, b"x" * 60], [b"\n" + b"x" * 101]])
def test_a_line_that_is_too_long_ends_it(pieces):
    assert talk(pieces) == [Send("a line of more than 100 bytes\n"), Close()]


def test_a_line_may_be_as_long_as_that():
    assert runs(b"x" * 100 + b"\n") == [("x" * 100,)]


def test_a_line_that_was_not_finished_is_no_command():
    assert talk([b"pack 1"], ends=True) == [Close()]


def test_who_has_sent_all_hears_the_answer_first():
    conversation = Conversation(longest=100)
    conversation.received(b"a\n")
    assert conversation.ended() == []
    assert conversation.answered(Reply("said")) == [Send("said"), Close()]


def test_the_token_comes_first_and_is_not_answered():
    assert runs(b"token s3cret\na\n", token="s3cret") == [("a",)]


@pytest.mark.parametrize("line", [b"a\n", b"token\n", b"token other\n", b"token s3cret x\n", b"\n", b"TOKEN s3cret\n"])
def test_without_the_token_nothing_is_run(line):
    assert talk([line, b"token s3cret\na\n"], token="s3cret") == [
        Send("no such token: the first line is to be `token XXXX`\n"),
        Close(),
    ]


def test_a_token_that_nobody_needs_is_taken():
    assert runs(b"token any\na\n") == [("a",)]
    assert runs(b"interactive\ntoken any\n") == [("interactive",), ("token", "any")]


def test_garbage_is_words_like_any_other():
    assert runs(b"\xff\xfe\x00 \xc3\xa9\n") == [("\\xff\\xfe\x00", "é")]


words = st.sampled_from([b"a", b"interactive", b"quit", b"more", b"enough", b"token s", b"", b"\r", b"x" * 60, b"\xff"])
inputs = st.lists(st.tuples(words, st.sampled_from([b"\n", b"\r\n", b" ", b""]))).map(
    lambda parts: b"".join(b"".join(pair) for pair in parts)
)


def cut(data, places):
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


@given(inputs, st.lists(st.integers(0, 10_000)), st.sampled_from(["", "s"]), st.booleans())
def test_it_does_not_matter_how_the_input_is_cut(data, places, token, ends):
    whole = talk([data], token=token, ends=ends)
    assert talk(cut(data, places), token=token, ends=ends) == whole


@given(st.binary(max_size=500), st.lists(st.integers(0, 500)))
def test_nor_what_is_in_it(data, places):
    whole = talk([data], longest=20)
    assert talk(cut(data, places), longest=20) == whole
    assert whole.count(Close()) <= 1
    assert Close() not in whole[:-1]
