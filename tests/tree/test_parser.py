import pytest

from zkfleet.errors import TreeErrors
from zkfleet.tree import Node, parse, render

LOAD_BALANCERS = """
/lb : ipvs
  /pools
    /cms
      # The address is fixed because it's
      # exposed externally
      address = '1.2.3.4:80'
      providers -> /cms/providers
/cms : z4m cms
  threads = 3
  limits => /lb/pools limits
  /providers
"""


def problems(text):
    with pytest.raises(TreeErrors) as caught:
        parse(text, "cms.tree")
    return caught.value.problems


def test_a_tree_is_read():
    assert parse(LOAD_BALANCERS) == Node(
        {},
        {
            "lb": Node(
                {"type": "ipvs"},
                {"pools": Node({}, {"cms": Node({"address": "1.2.3.4:80", "providers ->": "/cms/providers"})})},
            ),
            "cms": Node({"type": "z4m cms", "threads": 3, "limits =>": "/lb/pools limits"}, {"providers": Node()}),
        },
    )


def test_the_canonical_text_has_properties_then_links_then_children_each_sorted():
    text = "/n\n  /b\n  z -> /n\n  q => /n z\n  y = 1\n  a => ../m\n  /a\n  x = 2\n"
    assert render(parse(text)) == ("/n\n  x = 2\n  y = 1\n  a => ../m\n  q => /n z\n  z -> /n\n  /a\n  /b\n")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("3.5", 3.5),
        ("1e300", 1e300),
        ("True", True),
        ("None", None),
        ("'a'", "a"),
        ('"it\'s"', "it's"),
        ("u'old'", "old"),
        ("'a' 'b'", "ab"),
        ("[1, 'a', None]", [1, "a", None]),
        ("(1, 2)", [1, 2]),
        ("{'a': {'b': [1]}}", {"a": {"b": [1]}}),
        ("3 # three", 3),
        ("'# no comment'", "# no comment"),
        (r"'\u00e9'", "é"),
    ],
)
def test_values_are_python_literals(line, value):
    read = parse(f"/n\n  x = {line}").children["n"].properties["x"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "line", "column", "found", "remedy"),
    [
        ("/a\n\tx = 1", 2, 1, "tabs are not indentation", "spaces"),
        ("/a\n  \tx = 1", 2, 3, "tabs are not indentation", "spaces"),
        ("/a\n    x = 1\n  y = 2", 3, 3, "inconsistent indentation", "4 spaces"),
        ("/a\n  /b\n    /c\n   /d", 4, 4, "inconsistent indentation", "4 spaces"),
        ("/a\n  x = 1\n    y = 2", 3, 5, "a property under a property", "2 spaces"),
        ("/a\n  x = 1\n    /b", 3, 5, "a node under a property", "2 spaces"),
        ("x = 1\n/a", 1, 1, "a property above the first node", "below a /node"),
        ("/a\n/b\n/a", 3, 1, "the node /a a second time", "one of them"),
        ("/a\n  x = 1\n  x = 2", 3, 3, "the property 'x' a second time", "out"),
        ("/a : b\n  type = 'c'", 2, 3, "the property 'type' a second time", "out"),
        ("/a\n  x -> ", 2, 7, "nothing behind ->", "path"),
        ("/a\n  x -> /b c", 2, 11, "a bad link", "one path"),
        ("/a\n  x => /b c d", 2, 8, "a bad link", "path"),
        ("/a\n  x => =", 2, 8, "a bad link: =", "called = needs quotes"),
        ("/a\n  x => = 5", 2, 8, "a bad link: = 5", "called = needs quotes"),
        ("/a\n  x => = y", 2, 10, "no literal: y", "'text'"),
        ("/a\n  x => = u'/b//c d'", 2, 10, "a bad link: an empty name", "path"),
        ("/a\n  x => = u''", 2, 10, "a bad link: not a path", "path"),
        ("/a\n  x -> ''", 2, 8, "a bad link: not a path", "path"),
        ("/a\n  x -> /b//c", 2, 8, "a bad link: an empty name", "path"),
        ("/a\n  x => /b/ y", 2, 8, "a bad link: an empty name", "path"),
        ("/a\n  x = y", 2, 7, "no literal", "True, False, None"),
        ("/a\n  x = __import__('os').system('false')", 2, 7, "no literal", "numbers"),
        ("/a\n  x = [1, 2", 2, 7, "no value", "quotes"),
        ("/a\n  x = plain text", 2, 7, "no value", "text needs quotes"),
        ("/a\n  x = {1, 2}", 2, 7, "JSON cannot hold: a set", "lists"),
        ("/a\n  x = b'1'", 2, 7, "JSON cannot hold: a bytes", "numbers"),
        ("/a\n  x = 1e999", 2, 7, "JSON cannot hold: inf", "numbers"),
        ("/a\n  x = 1j", 2, 7, "JSON cannot hold: a complex", "numbers"),
        ("/a\n  x = {1: 2}", 2, 7, "JSON cannot hold: the key 1", "dictionaries"),
        ("/a/b", 1, 2, "a slash in a name", "indentation"),
        ("/a\n  /b/", 2, 4, "a slash in a name", "indentation"),
        ("/a\n  /..", 2, 4, "'..' as a name", "indentation"),
        ("/.", 1, 2, "'.' as a name", "indentation"),
        ("/a\0b", 1, 2, "a NUL character", "indentation"),
        ("/", 1, 2, "an empty name", "indentation"),
        ("/'a", 1, 1, "no node", "quotes"),
        ("/a\n  x = 1\n  x => /b", 3, 3, "a property that shadows the link of the same name", "one of the two"),
        ("/a\n  x => /b\n  x = 1", 3, 3, "a property that shadows the link of the same name", "one of the two"),
        ("/a\n  gibberish", 2, 3, "neither a node nor a property", "name = literal"),
        ("/a :", 1, 4, "a colon without a type", "leave the colon out"),
    ],
)
def test_what_is_wrong_is_said_with_the_place_and_the_remedy(text, line, column, found, remedy):
    [problem] = problems(text)
    assert (problem.source, problem.line, problem.column) == ("cms.tree", line, column)
    assert found in problem.found
    assert remedy in problem.remedy


def test_a_problem_prints_as_editors_read_it():
    [problem] = problems("/cms\n\tthreads = 3")
    assert str(problem) == "cms.tree:2:1: tabs are not indentation (indent with spaces)"


def test_all_problems_are_found_at_once():
    found = problems("x = 1\n/a\n\ty = 2\n  z = set()\n/a\n  l -> \n  /b/c\n")
    assert [problem.line for problem in found] == [1, 3, 4, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("line", "link"),
    [
        ("x => = u'/app threads'", "/app threads"),
        ("x => = '../app'", "../app"),
        ("x => = '/app  threads '  # one", "/app threads"),
        ("x => =/app threads", "=/app threads"),
        ("x => '=' threads", "= threads"),
    ],
)
def test_property_links_are_read_as_zc_zk_exported_them(line, link):
    tree = parse(f"/a\n  {line}\n")
    assert tree.children["a"].properties == {"x =>": link}
    assert parse(render(tree)) == tree


def test_an_expression_is_never_evaluated(tmp_path):
    mark = tmp_path / "evaluated"
    problems(f"/a\n  x = open({str(mark)!r}, 'w').close()")
    problems("/a\n  x = ().__class__.__base__.__subclasses__()")
    assert not mark.exists()


def test_a_deep_tree_needs_no_recursion():
    text = "".join("  " * level + "/n\n" for level in range(3000))
    assert render(parse(text)) == text


def test_line_ends_of_other_systems_are_read():
    assert parse("/a\r\n  x = 1\r\n") == parse("/a\n  x = 1\n")
