"""Is anything wrong with a tree text, its links included?

Beyond what the parser finds: links that lead to nothing inside the text, and
links in a loop.  A link to a node that the text does not have may still be
good where the tree is put, so it is only told of if the first name of what it
comes to, relative or not, is one of the text's own top-level nodes.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from zkfleet import paths
from zkfleet.errors import LinkLoop, NodeNotFound, TreeErrors
from zkfleet.tree import links
from zkfleet.tree.model import NODE_LINK, PROPERTY_LINK, Node
from zkfleet.tree.parser import parse
from zkfleet.tree.problem import Problem


def validate(text: str, source: str = "<tree>") -> list[Problem]:
    """Return everything that is wrong with a tree text, in the order of the text."""
    try:
        root = parse(text, source)
    except TreeErrors as exc:
        return [problem for problem in exc.problems if isinstance(problem, Problem)]
    places = _places(text)
    return sorted(
        Problem(source, *places.get((at, key), (1, 1)), found, remedy) for at, key, found, remedy in faults(root)
    )


def faults(root: Node) -> Iterator[tuple[str, str, str, str]]:
    """Yield `(path, property, what is wrong, remedy)` for each bad link of a tree."""
    nodes = dict(flatten(root))

    def lookup(path: str) -> Mapping[str, Any] | None:
        return nodes.get(path)

    for path, properties in nodes.items():
        for key, value in properties.items():
            if isinstance(value, str) and key.endswith((NODE_LINK, PROPERTY_LINK)):
                yield from _fault(path, key, value, lookup, root)


def flatten(root: Node) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every node's path and properties, the root first."""
    waiting = [("/", root)]
    while waiting:
        path, node = waiting.pop()
        yield path, node.properties
        waiting += [(paths.join(path, name), child) for name, child in node.children.items()]


def _fault(
    path: str, key: str, value: str, lookup: Callable[[str], Mapping[str, Any] | None], root: Node
) -> Iterator[tuple[str, str, str, str]]:
    try:
        if key.endswith(NODE_LINK):
            links.resolve(paths.join(path, key.removesuffix(NODE_LINK)), lookup)
        else:
            links.property_value(path, key.removesuffix(PROPERTY_LINK), lookup)
    except LinkLoop as exc:
        yield path, key, str(exc), exc.hint
    except NodeNotFound as exc:
        first = exc.missing.split(" ")[0].split("/")[1:2]
        if first and first[0] in root.children:
            yield path, key, f"a dangling link: there is no {exc.missing}", "correct the path, or add the node"


_LINE = re.compile(r"(?P<indent> *)(?:/(?P<node>\S+)|(?P<name>[^\s=]+?)\s*(?P<arrow>=>|->))")


def _places(text: str) -> dict[tuple[str, str], tuple[int, int]]:
    """Return the line and column of every link, by its node's path and its property."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    stack: list[tuple[int, str]] = [(-1, "/")]
    for number, line in enumerate(text.split("\n"), 1):
        match = _LINE.match(line)
        if match is None:
            continue
        indent = len(match["indent"])
        while indent <= stack[-1][0]:
            stack.pop()
        if match["node"] is not None:
            stack.append((indent, paths.join(stack[-1][1], match["node"].strip("'\""))))
        else:
            found[stack[-1][1], f"{match['name']} {match['arrow']}"] = (number, indent + 1)
    return found
