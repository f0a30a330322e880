import contextlib
import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.fsIndex import fsIndex

from tests.zeo import making
from zkfleet.cli import main
from zkfleet.zeo.databases import identify, look

OTHER = "b" * 32


@pytest.fixture
def file(tmp_path):
    """Data that have an identity, in the file and beside it."""
    with contextlib.closing(FileStorage(str(tmp_path / "Data.fs"))) as storage:
        identify(storage)
    return tmp_path / "Data.fs"


@pytest.fixture
def run(hosts):
    def call(*arguments, code=0):
        done = CliRunner(env={"ZKFLEET_ZOOKEEPER": hosts}).invoke(main, ["zeo", "identify", *map(str, arguments)])
        assert done.exit_code == code, (done.output, done.exception)
        return done

    return call


@pytest.fixture
def config(file, hosts, registry):
    registry.import_tree("/db\n")
    found = file.with_name("zeo.conf")
    found.write_text(making.a_config(zookeeper=hosts, path="/db", storage=making.a_filestorage(file)))
    return found


def known(file):
    with contextlib.closing(FileStorage(str(file), read_only=True)) as storage:
        return look(storage)


def words(done):
    return [tuple(word.values()) for word in json.loads(done.stdout)]


def beside(file):
    return f"{file}.zkfleet"


def test_it_shows_what_the_data_and_the_file_beside_them_say(run, file):
    identity = known(file).root
    lines = [line.split() for line in run(file).stdout.splitlines()]
    assert lines == [["STORAGE", "IDENTITY", "SAID", "BY"], ["1", identity, "data"], ["1", identity, beside(file)]]


def test_it_shows_what_the_registered_servers_say(run, file, config, registry):
    with registry.register("/db", "127.0.0.1:8100", database={"1": OTHER}):
        done = run(config, "--format", "json")
        assert words(done)[-1] == ("1", OTHER, "127.0.0.1:8100")
        assert "they do not agree; --set changes" in done.stderr  # the others do not agree either
        file.with_name("Data.fs.zkfleet").unlink()
        assert "they do not agree; --accept or --set changes" in run(config).stderr
        assert words(run("/db", "--format", "json")) == [("1", OTHER, "127.0.0.1:8100")]


def test_without_zookeeper_it_shows_the_rest(run, file, config):
    done = run(config, "-z", "127.0.0.1:1", "--timeout", "0.2")
    assert known(file).root in done.stdout
    assert "registered servers are not shown" in done.stderr


def test_data_that_are_served_are_shown_and_not_changed(run, file):
    identity = known(file).root
    with contextlib.closing(FileStorage(str(file))):
        assert identity in run(file).stdout
        assert "another process has the data open" in run(file, "--new", code=1).stderr
    assert known(file).root == identity


def test_an_identity_is_set(run, file):
    assert words(run(file, "--set", OTHER, "--format", "json")) == [("1", OTHER, "data"), ("1", OTHER, beside(file))]
    assert known(file).root == OTHER


def test_a_copy_becomes_another_database(run, file):
    before = known(file).root
    run(file, "--new")
    assert known(file).root not in ("", before)


def test_after_a_restore_what_the_others_know_is_accepted(run, file, config, registry):
    """A backup lies here that is older than identities are."""
    identity = known(file).root
    file.unlink()
    with contextlib.closing(FileStorage(str(file))):
        pass
    assert words(run(config, "--format", "json"))[0] == ("1", "", "data")
    with registry.register("/db", "127.0.0.1:8100", database={"1": OTHER}):
        assert f"do not agree: {', '.join(sorted((identity, OTHER)))}" in run(config, "--accept", code=1).stderr
    run(config, "--accept")
    assert known(file).root == identity


def test_there_may_be_nothing_to_accept(run, file):
    file.with_name("Data.fs.zkfleet").unlink()
    assert "only the data have an identity" in run(file, "--accept", code=1).stderr


def test_of_several_storages_one_is_named(run, file, tmp_path):
    config = tmp_path / "zeo.conf"
    storages = making.a_filestorage(file, "a") + "\n" + making.a_filestorage(tmp_path / "b.fs", "b")
    config.write_text(making.a_config(address="8100", storage=storages))
    assert "name one with --storage" in run(config, "--new", code=1).stderr
    assert "hint: there are: a, b" in run(config, "--new", "-s", "c", code=1).stderr
    run(config, "--set", OTHER, "-s", "a")
    assert known(file).root == OTHER
    assert not (tmp_path / "b.fs").exists()


@pytest.mark.parametrize("wrong", [["--new", "--accept"], ["--set", OTHER, "--new"]])
def test_two_changes_are_wrong_usage(run, file, wrong):
    run(file, *wrong, code=2)


def test_what_is_no_file_is_not_changed(run, tmp_path):
    assert "no such file" in run(tmp_path / "missing.fs", "--new", code=1).stderr
    assert "no such file" in run(tmp_path, code=1).stderr
    assert not (tmp_path / "missing.fs").exists()


def test_what_is_no_identity_is_not_set(run, file):
    before = known(file)
    assert "no identity" in run(file, "--set", "mine", code=1).stderr
    assert known(file) == before


@pytest.mark.parametrize("change", [[], ["--new"], ["--accept"]], ids=["shown", "--new", "--accept"])
def test_a_storage_that_is_not_there_is_an_error_that_names_those_that_are(run, file, config, registry, change):
    for target in (file, config):
        done = run(target, "-s", "2", *change, code=1)
        assert done.stderr == f"error: {target} has no storage '2'\nhint: there are: 1\n"
    with registry.register("/db", "127.0.0.1:8100", database={"1": OTHER}):
        assert run("/db", "-s", "2", code=1).stderr == "error: /db has no storage '2'\nhint: there are: 1\n"


def test_what_is_neither_a_filestorage_nor_a_configuration_is_called_what_it_is(run, tmp_path):
    packed = tmp_path / "x.gz"
    packed.write_bytes(gzip.compress(b"data"))
    said = f"error: {packed} is no FileStorage: it is compressed by gzip\nhint: unpack it with gunzip\n"
    assert run(packed, code=1).stderr == said
    (tmp_path / "fleet.tree").write_text("/a\n  /b\n")
    assert "fleet.tree is no FileStorage, and is read as" in run(tmp_path / "fleet.tree", code=1).stderr


def test_data_that_are_being_served_are_shown_without_a_warning_about_their_index(run, file, caplog):
    with contextlib.closing(FileStorage(str(file))) as storage:
        Path(f"{file}.index").write_bytes(Path(f"{file}.index").read_bytes())
        for n in range(3):
            transaction = TransactionMetaData(description=f"commit {n}")
            storage.tpc_begin(transaction)
            storage.tpc_vote(transaction)
            storage.tpc_finish(transaction)
        index = fsIndex.load(f"{file}.index")["index"]
        index[b"\0" * 7 + b"\7"] = 4
        index.save(4, f"{file}.index")
        run(file)
    assert "Ignoring index" not in caplog.text
