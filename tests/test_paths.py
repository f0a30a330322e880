import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkfleet import paths
from zkfleet.errors import BadPath


@pytest.mark.parametrize("path", ["/", "/a", "/a/b", "/10.0.0.1:80", "/a b/é", "/..."])
def test_good_paths_are_returned(path):
    assert paths.check(path) == path


@pytest.mark.parametrize(
    "path", ["", "a", "//", "/a/", "/a//b", "/.", "/a/..", "/a\0", "/a\n", "/\ud800", "/\U00010000", "/\uf000", 5, None]
)
def test_what_zookeeper_would_refuse_is_refused(path):
    with pytest.raises(BadPath):
        paths.check(path)


@pytest.mark.parametrize(
    ("path", "base", "result"),
    [
        ("b", "/a", "/a/b"),
        ("../b", "/a", "/b"),
        ("../../b", "/a", "/b"),
        (".", "/a", "/a"),
        ("..", "/", "/"),
        ("/x/./y//z/", "/a", "/x/y/z"),
        ("", "/a", "/a"),
    ],
)
def test_dots_have_their_usual_meanings(path, base, result):
    assert paths.normalise(path, base) == result


@given(st.lists(st.sampled_from(["a", "b", "c"])))
def test_joining_undoes_splitting(names):
    path = "/" + "/".join(names)
    if names:
        assert paths.join(*paths.split(path)) == path
    assert list(paths.ancestors(path)) == ["/" + "/".join(names[:n]) for n in reversed(range(len(names)))]
    assert all(paths.within(path, above) for above in paths.ancestors(path))


def test_a_path_is_not_within_one_whose_name_begins_alike():
    assert not paths.within("/ab", "/a")


@pytest.mark.parametrize("target", ["/", "/a", "b", "../b", "./a/..", "/a/../b", "."])
def test_a_link_may_be_relative(target):
    assert paths.check_link(target) == target


@pytest.mark.parametrize("target", ["", "//", "/a/", "a//b", "b/", "/a\0", None, 5])
def test_a_link_has_no_empty_names(target):
    with pytest.raises(BadPath):
        paths.check_link(target)
