from typing import Annotated, Literal

import pytest

from tests.monitor.conftest import ask
from zkfleet.errors import BadInput
from zkfleet.monitor import Between, Commands, Limits, asking, lines


@pytest.fixture
def commands():
    made = Commands()

    @made.command("pack", action=True)
    def pack(days: Annotated[int, Between(0, 365)], database: str = "", how: Literal["fast", "slow"] | None = None):
        """Pack a database.

        It is smaller then.

        Args:
            days: not for help.
        """
        return lines(f"{days} {database} {how}")

    @made.command("wait")
    def wait(seconds: float, *words: str):
        return lines(f"{seconds} {words}")

    return made


def refused(function, *args):
    with pytest.raises(BadInput) as caught:
        function(*args)
    return f"{caught.value} | {caught.value.hint}"


def test_help_is_the_docstring_and_usage_the_signature(commands):
    pack = commands.get("pack")
    assert pack.summary == "Pack a database."
    assert pack.help == "Pack a database.\n\nIt is smaller then."
    assert pack.usage == "pack DAYS [DATABASE] [fast|slow]"
    assert commands.get("wait").usage == "wait SECONDS [WORDS ...]"
    assert commands.get("wait").summary == "?"


def test_words_become_arguments(commands):
    assert commands.get("pack").read(["3", "main", "slow"]) == [3, "main", "slow"]
    assert commands.get("wait").read(["0.5", "a", "b", "c"]) == [0.5, "a", "b", "c"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "DAYS is missing"),
        (["x"], "DAYS is a whole number, and not 'x'"),
        (["__import__('os')"], "DAYS is a whole number, and not \"__import__('os')\""),
        (["-1"], "DAYS is at least 0 and at most 365, and not '-1'"),
        (["1", "main", "fast", "more"], "one word too many: 'more'"),
        (["1", "main", "Fast"], "HOW is one of fast, slow, and not 'Fast'"),
    ],
)
def test_what_is_wrong_is_told_with_the_usage(commands, words, said):
    assert refused(commands.get("pack").read, words) == f"pack: {said} | usage: pack DAYS [DATABASE] [fast|slow]"


@pytest.mark.parametrize("word", ["nan", "inf", "-inf", "1e999"])
def test_what_is_no_finite_number_is_none(commands, word):
    assert "and not" in refused(commands.get("wait").read, [word])


def test_arguments_by_name_are_the_same(commands):
    assert commands.get("pack").read_named({"database": "main", "days": "3"}) == [3, "main"]
    assert commands.get("wait").read_named({"seconds": "1", "words": "a b"}) == [1.0, "a", "b"]
    assert "there is no nothing" in refused(commands.get("pack").read_named, {"nothing": "1"})
    assert "how needs database before it" in refused(commands.get("pack").read_named, {"days": "1", "how": "fast"})


def test_what_changes_something_is_off_unless_it_is_enabled(commands):
    words = ["pack", "1"]
    assert "is off" in refused(lambda: asking.call(commands, words, actions=False))
    assert asking.call(commands, words, actions=True).arguments == (1,)


def test_an_unknown_command_names_the_nearest(commands):
    said = refused(lambda: asking.call(commands, ["pakc"], actions=False))
    assert said == "Invalid command 'pakc' | Try \"help\".  The nearest: pack"
    assert refused(lambda: asking.call(commands, ["?"], actions=False)) == "Invalid command '?' | Try \"help\"."


def test_a_parameter_that_no_word_can_mean_is_a_bug():
    with pytest.raises(TypeError):
        Commands().command("odd")(lambda *, keyword: None)


@pytest.mark.parametrize("wrong", [{"line": 0}, {"idle": -1.0}, {"deadline": float("nan")}])
def test_limits_that_cannot_be_are_refused(wrong):
    with pytest.raises(BadInput):
        Limits(**wrong)


HELP = """Supported commands:
  hello -- Say hello
  help -- List the commands, or explain one.
  interactive -- Stay connected for more than one command.
  json -- Answer in JSON: `json COMMAND ...`.
  quit -- Close the connection.
  told -- Answer in JSON that holds the text: `told COMMAND ...`.
"""
HELP_HELLO = """Help for hello:

Say hello

    Provide a name if you're not the world.

    usage: hello [NAME]

"""


def test_help_looks_as_it_did_in_zc_monitor(tmp_path):
    from zkfleet import monitor
    from zkfleet.monitor import basics

    commands = Commands()
    basics.add_to(commands)

    @commands.command("hello", blocks=False)
    def hello(name: str = "world"):
        """Say hello

        Provide a name if you're not the world.
        """
        return lines(f"Hi {name}, nice to meet ya!")

    with monitor.start(str(tmp_path / "sock"), commands=commands) as started:
        assert ask(started.address, "help") == HELP
        assert ask(started.address, "help hello") == HELP_HELLO
        assert ask(started.address, "hello Jim") == "Hi Jim, nice to meet ya!\n"
        assert ask(started.address, "help nothing") == "Invalid command 'nothing'\nTry \"help\".\n"


def test_the_help_of_a_command_of_one_line_has_no_more_lines_than_it_needs(commands):
    from zkfleet.monitor import basics

    @commands.command("hi")
    def hi(name: str = "world"):
        """Say hello."""

    explained = basics.explained(commands.get("hi")).text
    assert explained == "Help for hi:\n\nSay hello.\n\n    usage: hi [NAME]\n\n"
    commands.command("bare")(lambda: "")
    assert basics.explained(commands.get("bare")).text == "Help for bare:\n\n\n\n"


def test_a_reply_says_what_came_of_it_and_has_the_answer_itself(commands):
    from zkfleet.monitor.asking import Outcome
    from zkfleet.monitor.running import Running

    @commands.command("fails", blocks=False)
    def fails():
        raise LookupError("nothing")

    @commands.command("refuses", blocks=False)
    def refuses():
        raise BadInput("refuses: no", hint="ask for another")

    running = Running(commands, Limits())
    said = running.now(asking.call(commands, ["wait", "1"], actions=False))
    assert (said.outcome, said.answer) == (Outcome.ANSWERED, lines("1.0 ()"))
    for name, outcome in [("fails", Outcome.FAILED), ("refuses", Outcome.REFUSED)]:
        said = running.now(asking.call(commands, [name], actions=False))
        assert (said.outcome, said.answer) == (outcome, None)
