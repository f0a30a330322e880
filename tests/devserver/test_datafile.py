"""A file that one server at a time holds, replaced as a whole."""

import os

import pytest

from zkfleet.devserver.datafile import DataFile
from zkfleet.errors import BadInput


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def file(path):
    file = DataFile(path)
    file.hold()
    yield file
    file.release()


def test_a_new_file_is_there_at_once_and_empty(path):
    file = DataFile(path)
    assert not file.hold()
    assert file.read() == ""
    file.release()
    file.release()


def test_a_file_is_replaced_as_a_whole(file, path):
    file.write("first")
    with path.open() as reader:
        file.write("second")
        assert reader.read() == "first"
    assert file.read() == path.read_text() == "second"
    assert os.listdir(path.parent) == ["data"]


def test_what_is_beside_a_file_is_left_alone(file, path):
    notes, link = path.with_name("notes"), path.with_name(".data.new")
    notes.write_text("mine")
    link.symlink_to(notes)
    file.write("text")
    assert (notes.read_text(), link.is_symlink(), path.is_symlink()) == ("mine", True, False)
    assert sorted(os.listdir(path.parent)) == [".data.new", "data", "notes"]


def test_a_file_is_its_owner_s_alone_and_keeps_the_mode_that_it_was_given(file, path):
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    file.write("text")
    assert path.stat().st_mode & 0o777 == 0o640


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(file, path):
    file.write("first")
    with pytest.raises(UnicodeEncodeError):
        file.write("second\ud800")
    assert path.read_text() == "first"
    assert os.listdir(path.parent) == ["data"]
    file.write("third")
    assert path.read_text() == "third"


def test_one_at_a_time_holds_it_whatever_was_written(file, path):
    for text in ("", "first", "second"):
        if text:
            file.write(text)
        with pytest.raises(BadInput, match="another dev server uses it"):
            DataFile(path).hold()
    file.release()
    other = DataFile(path)
    assert other.hold()
    other.release()


def test_who_comes_back_does_not_write_over_what_another_wrote(file, path):
    file.write("mine")
    file.release()
    other = DataFile(path)
    other.hold()
    other.write("yours")
    other.release()
    with pytest.raises(BadInput, match="has written to it since"):
        file.hold()
    assert path.read_text() == "yours"


def test_who_comes_back_to_a_file_that_is_gone_makes_it_anew(file, path):
    file.write("mine")
    file.release()
    path.unlink()
    assert not file.hold()
    file.write("again")
    assert path.read_text() == "again"


def test_a_forked_child_does_not_keep_others_off(file, path):
    child = os.fork()
    if not child:
        os.read(os.pipe()[0], 1)  # until it is ended
        os._exit(0)
    try:
        file.release()
        other = DataFile(path)
        other.hold()
        other.release()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


@pytest.mark.parametrize("what", ["folder", "pipe", "no folder"])
def test_what_is_no_plain_file_is_refused_and_left_alone(tmp_path, what):
    path = tmp_path / "data" if what != "no folder" else tmp_path / "none" / "data"
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInput, match="data: "):
        DataFile(path).hold()
    assert sorted(tmp_path.rglob("*")) == before
