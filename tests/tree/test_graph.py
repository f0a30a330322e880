import shutil

import pytest

from zkfleet.errors import MissingDependency
from zkfleet.tree import make_graph, parse, validate

FLEET = """
/lb : ipvs
  /pool
    providers -> /cms/providers
    limit => /cms threads
    "gone" -> /cms/nothing
/cms : z4m "cms"
  threads = 4
  /providers
"""


def test_typed_nodes_and_links_are_drawn_in_dot():
    text = make_graph(parse(FLEET)).dot()
    assert text.startswith("digraph")
    assert '"/cms" [label="/cms\\nz4m \\"cms\\""];' in text
    assert '"/lb/pool" -> "/cms/providers" [label="providers"];' in text
    assert '"/lb/pool" -> "/cms" [label="limit", style=dashed];' in text
    assert '"/cms/nothing" [label="/cms/nothing", color=red];' in text


def test_typed_nodes_and_links_are_drawn_in_mermaid():
    lines = make_graph(parse(FLEET)).mermaid().splitlines()
    assert lines[0] == "graph LR"
    assert '  n0["/cms<br/>z4m &quot;cms&quot;"]' in lines
    assert '  n4 -.->|"limit"| n0' in lines


def test_a_picture_needs_the_dot_program_and_says_so(monkeypatch):
    if shutil.which("dot"):
        assert "<svg" in make_graph(parse(FLEET)).svg()
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MissingDependency) as caught:
        make_graph(parse(FLEET)).svg()
    assert "graphviz" in caught.value.hint


def test_validation_finds_dangling_links_and_loops_with_their_places():
    text = "/a\n  x -> /a/nothing\n  y -> z\n  z -> y\n  p => /a q\n  other -> /elsewhere/x\n  q => /a p\n"
    found = [(problem.line, problem.column, problem.found) for problem in validate(text, "t")]
    assert [(line, column) for line, column, _ in found] == [(2, 3), (3, 3), (4, 3), (5, 3), (7, 3)]
    assert "there is no /a/nothing" in found[0][2]
    assert "/a/y -> /a/z -> /a/y" in found[1][2]
    assert "/a p -> /a q -> /a p" in found[3][2]


def test_validation_reports_what_the_parser_finds():
    assert [problem.line for problem in validate("x = 1\n/a\n  b = set()")] == [1, 3]


def test_a_good_text_has_no_problems():
    assert validate("/a\n  x -> b\n  y => b z\n  /b\n    z = 1\n") == []
