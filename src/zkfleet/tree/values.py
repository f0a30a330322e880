"""Which value does a piece of text spell?

Values are Python literals that JSON can hold.  `ast.literal_eval` builds them
from the syntax tree of constants alone: no name is looked up, nothing called.
"""

import ast
import re
import warnings
from collections.abc import Iterable
from typing import Any

from zkfleet.errors import BadProperties
from zkfleet.tree.model import fault

LITERALS = "numbers, 'text', True, False, None, [lists] and {'dictionaries': ...}"
REMEDY = f"write one of {LITERALS} and nothing else; text needs quotes"
_PLAIN_INTEGER = re.compile(r"(?:0|[1-9][0-9]{0,17})\Z")
_PLAIN_TEXT = re.compile(r"'[^'\\\n{]*'\Z")


class NoLiteral(ValueError):
    """A text that spells no value; `remedy` says what would."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found)
        self.found, self.remedy = found, remedy


def read_literal(text: str, *, as_bytes: bool = False) -> Any:
    """Return the value that a text spells.

    Args:
        text: the literal.
        as_bytes: a bytes literal is allowed; its spelling is the value, which
            is how the model holds data that are no text.

    Raises:
        NoLiteral: it is no literal, or one that JSON cannot hold.
    """
    # The two commonest kinds are read without a parser.
    if _PLAIN_INTEGER.match(text):
        return int(text)
    if _PLAIN_TEXT.match(text):
        return text[1:-1]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = ast.literal_eval(text)
    except (ValueError, TypeError) as exc:
        raise NoLiteral(f"an expression that is no literal: {_short(text)}", REMEDY) from exc
    except (SyntaxError, MemoryError, RecursionError) as exc:
        raise NoLiteral(f"no value: {_short(text)}", REMEDY) from exc
    if as_bytes and isinstance(value, bytes):
        return repr(value)
    if why := fault(value):
        raise NoLiteral(f"a value that JSON cannot hold: {why}", f"write {LITERALS}")
    return _as_json(value)


def _as_json(value: Any) -> Any:
    """Return the value with lists for tuples, as it comes back from JSON."""
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    return value


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def parse_assignments(texts: Iterable[str]) -> dict[str, Any]:
    """Return the names and values in several `NAME=LITERAL`.

    Raises:
        BadProperties: one has no name, or no literal, or a name is there twice.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise BadProperties(f"not NAME=LITERAL: {text!r}", hint="for example threads=4 or comment=\"'a text'\"")
        if name in found:
            raise BadProperties(f"the property {name!r} a second time", hint="take one of them out")
        try:
            found[name] = read_literal(value.strip())
        except NoLiteral as exc:
            raise BadProperties(exc.found, hint=exc.remedy) from exc
    return found
