"""How do the services hang together, as a picture?

A graph of a tree: a box for every node that has a type, is linked to, or holds
links; arrows for the links, nesting by path.  As DOT, Mermaid, or SVG (which
the `dot` program draws).
"""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from zkfleet import paths
from zkfleet.errors import BadPath, LinkLoop, MissingDependency, NodeNotFound, ZkfleetError
from zkfleet.spelling import spell
from zkfleet.tree import links
from zkfleet.tree.model import NODE_LINK, PROPERTY_LINK, Node
from zkfleet.tree.validate import flatten

DOT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Edge:
    """A link: from a node, to a node, by its name; property links are dashed."""

    source: str
    target: str
    label: str
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """Boxes and arrows.

    Attributes:
        boxes: paths with their types ("" if they have none), in order.
        edges: links, in order.
        dangling: targets of links that lead to no node of the tree.
    """

    boxes: tuple[tuple[str, str], ...]
    edges: tuple[Edge, ...]
    dangling: frozenset[str] = frozenset()

    def dot(self) -> str:
        """Return the graph in Graphviz's language."""
        lines = ["digraph zkfleet {", "  rankdir=LR;", '  node [shape=box, style=rounded, fontname="sans-serif"];']
        for path, kind in self.boxes:
            label = _quoted(path, kind) if kind else _quoted(path)
            extra = ", color=red" if path in self.dangling else ""
            lines.append(f"  {_quoted(path)} [label={label}{extra}];")
        for edge in self.edges:
            style = ", style=dashed" if edge.dashed else ""
            lines.append(f"  {_quoted(edge.source)} -> {_quoted(edge.target)} [label={_quoted(edge.label)}{style}];")
        return "\n".join([*lines, "}", ""])

    def mermaid(self) -> str:
        """Return the graph in Mermaid's language."""
        names = {path: f"n{number}" for number, (path, _) in enumerate(self.boxes)}
        lines = ["graph LR"]
        for path, kind in self.boxes:
            lines.append(f'  {names[path]}["{_escaped(path)}{"<br/>" + _escaped(kind) if kind else ""}"]')
        for edge in self.edges:
            arrow = "-.->" if edge.dashed else "-->"
            lines.append(f'  {names[edge.source]} {arrow}|"{_escaped(edge.label)}"| {names[edge.target]}')
        return "\n".join([*lines, ""])

    def svg(self) -> str:
        """Return the graph as a picture.

        Raises:
            MissingDependency: the `dot` program is not installed.
        """
        program = shutil.which("dot")
        if program is None:
            raise MissingDependency(
                "drawing needs the dot program, and it is not installed",
                hint="on Debian: sudo apt-get install graphviz; --as mermaid needs nothing",
            )
        done = subprocess.run(  # noqa: S603  the program's path is ours, the input is text
            [program, "-Tsvg"], input=self.dot(), capture_output=True, text=True, timeout=DOT_SECONDS, check=False
        )
        if done.returncode:
            raise ZkfleetError(f"dot failed: {done.stderr.strip()}")
        return done.stdout


def _quoted(*lines: str) -> str:
    return '"' + "\\n".join(spell(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines) + '"'


def _escaped(text: str) -> str:
    return spell(text).replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")


def make_graph(root: Node) -> Graph:
    """Return the graph of a tree: typed nodes and the links between nodes."""
    nodes = dict(flatten(root))
    edges = tuple(sorted(_edges(root), key=lambda edge: (edge.source, edge.label)))
    ends = {end for edge in edges for end in (edge.source, edge.target)}
    typed = {path for path, properties in nodes.items() if "type" in properties}
    boxes = tuple((path, str(nodes.get(path, {}).get("type", ""))) for path in sorted(ends | typed))
    return Graph(boxes, edges, frozenset(end for end in ends if end not in nodes))


def _edges(root: Node) -> Iterator[Edge]:
    nodes = dict(flatten(root))
    for path, properties in nodes.items():
        for key, value in properties.items():
            if not isinstance(value, str):
                continue
            if key.endswith(NODE_LINK):
                name = key.removesuffix(NODE_LINK)
                yield Edge(path, _end(paths.join(path, name), value, path, nodes.get), name)
            elif key.endswith(PROPERTY_LINK):
                target, _ = links.split_property_link(value)
                yield Edge(path, _end(None, target, path, nodes.get), key.removesuffix(PROPERTY_LINK), dashed=True)


def _end(link: str | None, target: str, base: str, lookup: links.Lookup) -> str:
    """Return where a link ends: a node, or for a dangling one what it names."""
    try:
        return links.resolve(link or paths.normalise(target, base), lookup)
    except (NodeNotFound, LinkLoop, BadPath):
        try:
            return paths.normalise(target, base)
        except BadPath:
            return target
