import pytest

from tests.zeo.test_status import NOW, said
from zkfleet.errors import BadInput, ConnectFailed
from zkfleet.zeo.earlier import load, save
from zkfleet.zeo.surveying import Survey


def test_what_was_said_is_there_the_next_time(tmp_path):
    file = tmp_path / "status"
    assert load(file) is None
    answers = {"a:1": {"1": said(commits=3, locked_at=1.5)}}
    save(file, Survey(answers | {"b:1": ConnectFailed("no")}, at=NOW))
    assert load(file) == Survey(answers, at=NOW)
    assert [each.name for each in tmp_path.iterdir()] == ["status"]


@pytest.mark.parametrize("text", ["", "{}", '{"1": {"commits": 3}}', '{"at": 1, "servers": {"a:1": {"1": {"x": 1}}}}'])
def test_the_file_of_another_version_is_a_beginning(tmp_path, text):
    file = tmp_path / "status"
    file.write_text(text)
    assert load(file) is None


@pytest.mark.parametrize("text", ["root:x:0:0", "[1, 2]", "\0\xff"])
def test_a_file_of_something_else_is_left_alone(tmp_path, text):
    file = tmp_path / "status"
    file.write_text(text)
    with pytest.raises(BadInput, match="something else"):
        load(file)
