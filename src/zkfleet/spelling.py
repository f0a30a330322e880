r"""How is text of others written for people, on terminals and in logs?

What comes out of ZooKeeper or from a peer may hold anything: codes that a terminal obeys, line ends that begin
a line of somebody's own, marks that turn the direction of what follows, halves of characters that no encoding
takes.  All of these are written here as Python writes them in a literal, such as `\x1b` and `\u202e`; the rest
stays as it is.  What is spelled twice is spelled as once, so whoever is in doubt spells.

Where that is done, so that nobody needs to remember it:

    errors      the message and the hint of every `ZkfleetError`, by its constructor
    logs        every argument of every record, by the loggers that `get_logger` returns
    commands    every line that `cli.output` prints
    monitors    every cell, line and label of an answer, by `monitor.wording` and `monitor.families`

Values for programs are left alone: attributes of errors, JSON but for `spell_json`, what functions return.
"""

import json
import logging
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Controls (C0, DEL, C1), marks of direction, line and paragraph separators, what is
# invisible or a tag, and halves of surrogate pairs.
_OTHERS = (
    "\x7f-\x9f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
)
_UNSAFE = re.compile(f"[\x00-\x1f{_OTHERS}]")
_UNSAFE_IN_LINES = re.compile(f"[\x00-\x08\x0b\x0c\x0e-\x1f{_OTHERS}]|\r(?!\n)")
# Answers may be long: what is ASCII, as most are, is looked through many times faster in this way.
_ASCII_IN_LINES = {mark: repr(chr(mark))[1:-1] for mark in [*range(32), 127] if chr(mark) not in "\t\n\r"}
_FRAME = re.compile(r"\s*File \"")


def spell(text: str) -> str:
    """Return a text as one line that does nothing to whoever reads it."""
    return text if text.isprintable() else _UNSAFE.sub(_literal, text)


def spell_lines(text: str) -> str:
    """Return a text of several lines that does nothing; line ends and tabs stay, as its author wrote them."""
    if text.isascii() and "\r" not in text:
        return text.translate(_ASCII_IN_LINES)
    return _UNSAFE_IN_LINES.sub(_literal, text)


def spell_json(document: str) -> str:
    """Return a JSON document that means the same, and does nothing to whoever looks at it."""
    if document.isascii() and "\x7f" not in document:  # JSON has escaped what is below
        return document
    return _UNSAFE_IN_LINES.sub(lambda found: json.dumps(found[0])[1:-1], document)


def spell_exception(exc: BaseException) -> str:
    """Return a traceback; what an exception says is one line of it, whatever it says."""
    return "".join(map(_part, traceback.format_exception(exc)))


def _literal(found: re.Match[str]) -> str:
    return repr(found[0])[1:-1]


def _part(text: str) -> str:
    """Return a part of a traceback: a frame, whose lines are its source, or what an exception says."""
    if _FRAME.match(text):
        return spell_lines(text)
    said = text.strip("\n")
    before, _, after = text.partition(said) if said else (text, "", "")
    return f"{before}{spell(said)}{after}"


@dataclass(frozen=True, slots=True)
class Spelled:
    """A value whose text is spelled when it is written."""

    value: object

    def __str__(self) -> str:
        return spell(str(self.value))

    def __repr__(self) -> str:
        return spell(repr(self.value))


def get_logger(name: str) -> logging.Logger:
    """Return the logger of this name, which spells what it is given; it takes the place of `logging.getLogger`."""
    logger = logging.getLogger(name)
    logger.addFilter(spell_record)  # once, however often it is added
    return logger


def spell_record(record: logging.LogRecord) -> bool:
    """Spell a record of the log: a filter, of a logger or of a handler, that passes everything."""
    record.msg = _argument(record.msg)
    if isinstance(record.args, Mapping):
        record.args = {name: _argument(value) for name, value in record.args.items()}
    elif record.args:
        record.args = tuple(map(_argument, record.args))
    if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
        record.exc_text = spell_exception(record.exc_info[1]).rstrip("\n")  # which formatters write as it is
    return True


def _argument(value: Any) -> Any:
    if value is None or isinstance(value, int | float | Spelled):
        return value
    return value if isinstance(value, str) and not _UNSAFE.search(value) else Spelled(value)
