"""Text of somebody else's, for tests of what it does to terminals and logs."""

from hypothesis import strategies as st

# What a terminal obeys, what begins a line, what turns the direction: C0, DEL and C1,
# separators of lines, marks of direction, halves of surrogate pairs.
CONTROLS = [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0))]
SEPARATORS = ["\u2028", "\u2029"]
DIRECTIONS = [*"\u061c\u200e\u200f", *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))]
HALVES = ["\ud800", "\udfff"]
MARKS = [*CONTROLS, *SEPARATORS, *DIRECTIONS, *HALVES]
# What it would like to be taken for.
FORGED = "CRITICAL zkfleet: all is lost"
WORST = f"a\x1b[2J\r\n{FORGED}\n\x9b31m\u202eb\u2028{FORGED}\x85c\u2066\x00\x7f"
foreign = st.lists(st.sampled_from([*MARKS, "a", "b", " ", FORGED]), min_size=1, max_size=12).map("".join)
# What JSON and UTF-8 can hold.
writable = foreign.map(lambda text: "".join(mark for mark in text if mark not in HALVES) or "\x1b")


def does_nothing(text, *, lines=None, of=""):
    """Check that a text does nothing to a terminal, and that it has so many lines, each with its end."""
    assert not [mark for mark in MARKS if mark in text.replace("\n", "")], (of, ascii(text))
    if lines is None:
        assert not [line for line in text.splitlines() if line.startswith(FORGED)], (of, ascii(text))
    else:
        assert (len(text.splitlines()), text[-1:]) == (lines, "\n" if lines else ""), (of, ascii(text))
    return True
