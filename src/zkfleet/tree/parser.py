"""Which tree does a text describe, and what is wrong with it?

One item a line: `/name [: type]` is a node, `name = literal` a property,
`name -> path` a node link, `name => path [property]` a property link, `#`
begins a comment.  An item belongs to the nearest node above that is indented
less.  Names and paths that would be misread are written as quoted text.

All problems are found in one pass: a line that is wrong is noted and left out.
"""

import ast
import re
from dataclasses import dataclass
from typing import Any

from zkfleet import paths
from zkfleet.errors import BadPath, TreeErrors
from zkfleet.tree.links import split_property_link
from zkfleet.tree.model import BYTES, NODE_LINK, PROPERTY_LINK, Node
from zkfleet.tree.problem import Problem
from zkfleet.tree.values import NoLiteral, read_literal

_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_NODE = re.compile(rf"/(?P<name>{_QUOTED}|[^\s'\"#](?:\S*[^\s:])?|)\s*(?::\s*(?P<type>\S.*?)?)?\s*(?:(?<=\s)#.*)?\Z")
_ITEM = re.compile(rf"(?P<name>{_QUOTED}|[^\s='\"#/](?:(?!->|=)\S)*?)\s*(?P<arrow>=>|=|->)\s*(?P<rest>.*?)\s*\Z")
_TARGET = re.compile(rf"(?P<target>{_QUOTED}|[^\s'\"#]\S*)(?:\s+(?P<name>{_QUOTED}|[^\s'\"#]\S*))?\s*(?:#.*)?\Z")
_EXPORTED = re.compile(r"=(?:\s+(?P<literal>.*))?\Z")
_QUOTES = ("'", '"')
_ITEM_FORMS = "write /name, name = literal, name -> path or name => path property"


@dataclass(slots=True)
class _Open:
    """A node that items may still be added to."""

    indent: int
    node: Node
    item_indent: int | None = None
    after_property: bool = False
    links: frozenset[str] = frozenset()


class _Wrong(Exception):
    """A line that cannot be used."""

    def __init__(self, column: int, found: str, remedy: str) -> None:
        self.column, self.found, self.remedy = column, found, remedy


def parse(text: str, source: str = "<tree>") -> Node:
    """Return the tree that a text describes.

    Args:
        text: the whole text.
        source: its name, for messages.

    Returns:
        A root without properties, whose children are the top-level nodes.

    Raises:
        TreeErrors: with every problem in the text.
    """
    return _Parser(source).parse(text)


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._problems: list[Problem] = []
        self._open = [_Open(-1, Node({}, {}))]

    def parse(self, text: str) -> Node:
        for number, line in enumerate(text.split("\n"), 1):
            line = line.rstrip("\r \t")
            content = line.lstrip(" ")
            if not content or content[0] == "#":
                continue
            try:
                self._line(line, content, len(line) - len(content), number)
            except _Wrong as wrong:
                self._note(number, wrong.column, wrong.found, wrong.remedy)
        if self._problems:
            raise TreeErrors(sorted(self._problems))
        return self._open[0].node

    def _note(self, line: int, column: int, found: str, remedy: str) -> None:
        self._problems.append(Problem(self._source, line, column, found, remedy))

    def _line(self, line: str, content: str, indent: int, number: int) -> None:
        if content[0] == "\t":
            without = line.lstrip()
            if without.startswith("#"):
                return
            self._note(number, indent + 1, "tabs are not indentation", "indent with spaces")
            content, indent = without, len(line[: len(line) - len(without)].expandtabs(8))
        while indent <= self._open[-1].indent:
            self._open.pop()
        holder = self._open[-1]
        if holder.item_indent is None:
            holder.item_indent = indent
        elif indent != holder.item_indent:
            self._note_indent(holder, holder.item_indent, indent, content, number)
        if content[0] == "/":
            self._node(holder, content, indent)
        else:
            holder.after_property = True
            self._item(holder, content, indent)

    # -- structure

    def _note_indent(self, holder: _Open, wanted: int, indent: int, content: str, number: int) -> None:
        spaces = f"indent it by {wanted} spaces, like its siblings"
        if indent > wanted and holder.after_property:
            what = "a node" if content[0] == "/" else "a property"
            self._note(number, indent + 1, f"{what} under a property", f"only nodes hold something: {spaces}")
        else:
            self._note(number, indent + 1, f"inconsistent indentation: {indent} spaces", spaces)

    def _node(self, holder: _Open, content: str, indent: int) -> None:
        holder.after_property = False
        node = Node({}, {})
        # Even if its name is wrong, what stands below it is looked at.
        self._open.append(_Open(indent, node))
        match = _NODE.match(content)
        if match is None:
            raise _Wrong(indent + 1, f"no node: {content}", "write /name or /name : type; odd names need quotes")
        name, kind = match.groups()
        if name[:1] in _QUOTES:
            name = _unquoted(name, indent + 2)
        if fault := paths.name_fault(name):
            raise _Wrong(indent + 2, fault.rstrip(","), "a name is one part of a path: nest nodes by indentation")
        if name in holder.node.children:
            raise _Wrong(indent + 1, f"the node /{name} a second time", "put everything below one of them")
        holder.node.children[name] = node  # type: ignore[index]
        if kind is not None:
            node.properties["type"] = kind  # type: ignore[index]
        elif content[-1] == ":":
            raise _Wrong(indent + len(content), "a colon without a type", "write /name : type, or leave the colon out")

    # -- properties and links

    def _item(self, holder: _Open, content: str, indent: int) -> None:
        match = _ITEM.match(content)
        if match is None:
            raise _Wrong(indent + 1, f"neither a node nor a property: {content}", _ITEM_FORMS)
        if holder.indent < 0:
            raise _Wrong(indent + 1, f"a property above the first node: {content}", "put it below a /node")
        name, arrow, rest = match.groups()
        if name[0] in _QUOTES:
            name = _unquoted(name, indent + 1)
        column = indent + match.start(3) + 1
        if not rest:
            raise _Wrong(column, f"nothing behind {arrow}", _ITEM_FORMS)
        key, value = _KINDS[arrow](name, rest, column)
        self._put(holder, name, key, value, indent + 1)

    def _put(self, holder: _Open, name: str, key: str, value: Any, column: int) -> None:
        properties = holder.node.properties
        if key in properties:
            raise _Wrong(column, f"the property {key!r} a second time", "take one of them out")
        properties[key] = value  # type: ignore[index]
        if key is not name and key == name + PROPERTY_LINK:
            holder.links |= {name}
        if holder.links and name in holder.links and name in properties:
            raise _Wrong(column, f"a property that shadows the link of the same name: {name!r}", "keep one of the two")


def _unquoted(text: str, column: int) -> str:
    if text[:1] not in _QUOTES:
        return text
    try:
        name = ast.literal_eval(text)
        name.encode()
    except (SyntaxError, ValueError) as exc:
        raise _Wrong(column, f"quotes around no text: {text}", "close the quotes, and double backslashes") from exc
    return str(name)


def _property(name: str, rest: str, column: int) -> tuple[str, Any]:
    try:
        return name, read_literal(rest, as_bytes=name == BYTES)
    except NoLiteral as exc:
        raise _Wrong(column, exc.found, exc.remedy) from exc


def _target(rest: str, column: int) -> re.Match[str]:
    match = _TARGET.match(rest)
    if match is None:
        raise _Wrong(column, f"a bad link: {rest}", "write a path, in quotes if it holds spaces")
    return match


def _path(text: str, column: int) -> str:
    try:
        return paths.check_link(_unquoted(text, column))
    except BadPath as exc:
        raise _Wrong(column, f"a bad link: {exc}", "write a path such as /a/b, ../b or b") from exc


def _node_link(name: str, rest: str, column: int) -> tuple[str, Any]:
    match = _target(rest, column)
    if match["name"] is not None:
        raise _Wrong(
            column + match.start("name"), f"a bad link: {rest}", "a node link is one path; => takes a property"
        )
    return name + NODE_LINK, _path(match["target"], column)


def _property_link(name: str, rest: str, column: int) -> tuple[str, Any]:
    if exported := _EXPORTED.match(rest):
        return name + PROPERTY_LINK, _exported_link(rest, exported, column)
    match = _target(rest, column)
    target = _path(match["target"], column)
    other = _unquoted(match["name"], column + match.start("name")) if match["name"] else ""
    link = f"{target} {other}".strip()
    if split_property_link(link) != (target, other):
        raise _Wrong(column, f"a bad link: {rest}", "a property link cannot lead over a path with spaces")
    return name + PROPERTY_LINK, link


def _exported_link(rest: str, match: re.Match[str], column: int) -> str:
    """Return the link in `name => = literal`: so zc.zk exported one, as a property `name =>` with its value."""
    link = None
    if match["literal"]:
        at = column + match.start("literal")
        link = _property("", match["literal"], at)[1]
    if not isinstance(link, str):
        raise _Wrong(column, f"a bad link: {rest}", "write name => path property; a node called = needs quotes")
    target, other = split_property_link(link)
    return f"{_path(target, at)} {other}".strip()


_KINDS = {"=": _property, "->": _node_link, "=>": _property_link}
