import contextlib
import json
import shutil
import signal
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from persistent.mapping import PersistentMapping
from ZEO.ClientStorage import ClientStorage
from ZODB import DB
from ZODB.FileStorage import FileStorage

from tests.conftest import wait_for
from tests.zeo import making, slow_packer
from tests.zeo.asked import ZeoServer
from zkfleet.cli import main
from zkfleet.devserver import DevServer
from zkfleet.errors import OutcomeUnknown
from zkfleet.registry import connect
from zkfleet.testing import Proxy
from zkfleet.testing.zookeeper import free_port
from zkfleet.zeo import Server, packer
from zkfleet.zeo.asking import ask
from zkfleet.zeo.inside import kick, look_inside
from zkfleet.zeo.surveying import Asking

pytestmark = pytest.mark.slow

PATH = "/databases/main"
REVISION = "x" * 100_000


@pytest.fixture(scope="module")
def zookeeper():
    with DevServer(tick=0.2) as server:
        yield server


@pytest.fixture
def registry(zookeeper):
    with connect(zookeeper.hosts) as registry:
        registry.import_tree("/databases\n  /main\n", trim=True)
        yield registry


@pytest.fixture
def pack(zookeeper):
    def run(*arguments, code=0):
        command = ["zeo", "pack", PATH, "--timeout", "5", *arguments]
        done = CliRunner(env={"ZKFLEET_ZOOKEEPER": zookeeper.hosts}).invoke(main, command)
        assert done.exit_code == code, done.output
        return done

    return run


@pytest.fixture
def data(tmp_path):
    """A database with ten revisions of an object, and one object that nothing refers to."""
    file = tmp_path / "Data.fs"
    with contextlib.closing(DB(FileStorage(str(file)))) as db:
        with db.transaction() as connection:
            connection.root()["lost"] = PersistentMapping(said=REVISION)
        for number in range(10):
            with db.transaction() as connection:
                connection.root.said = f"{number}{REVISION}"
        with db.transaction() as connection:
            del connection.root()["lost"]
    return file


def served(zookeeper, storage, *, more="", address="127.0.0.1"):
    return Server(making.a_config(address=address, zookeeper=zookeeper.hosts, storage=storage, more=more))


def slow(file, name="1"):
    return f"<filestorage {name}>\npath {file}\npacker tests.zeo.slow_packer.packer\n</filestorage>"


def go(file, problem=""):
    Path(f"{file}.go").write_text(problem)


def packing(server, storage="1"):
    pack = ask(str(server.address))[storage].pack
    return pack is not None and pack.ended is None


def lose_connection():
    """Break the connection of the one who packs."""

    def numbers():
        return [one.number for one in look_inside(5)[0].clients if one.storage]

    [number] = numbers()
    kick(number, 5)
    wait_for(lambda: number not in numbers())


def registered(registry):
    wait_for(lambda: making.addresses(registry))


def test_the_server_that_serves_packs_and_says_the_sizes(zookeeper, registry, pack, data):
    with served(zookeeper, making.a_filestorage(data)) as server:
        registered(registry)
        before = data.stat().st_size
        done = pack("--format", "json")
        said = json.loads(done.stdout)
        after = data.stat().st_size
        assert said == {
            "path": PATH, "days": 0.0, "gc": None, "server": str(server.address), "storage": "1",
            "size_before": before, "size_after": after, "seconds": said["seconds"],
        }  # fmt: skip
        assert after < before / 5
        assert f"packing storage 1 at {server.address}: {before:,} bytes (1.2 MiB)" in done.stderr
        line = pack().stdout
    assert line.startswith(f"packed storage 1 at {server.address} in ")
    assert f"{after:,} bytes ({after / 1024:.1f} KiB) before" in line


def test_what_is_young_is_kept(zookeeper, registry, pack, data):
    with served(zookeeper, making.a_filestorage(data)):
        registered(registry)
        before = data.stat().st_size
        assert json.loads(pack("--days", "1", "--format", "json").stdout)["size_after"] == before
        pack("--days", "100000")


def test_garbage_goes_or_stays_as_it_is_told(zookeeper, registry, pack, data):
    with served(zookeeper, making.a_filestorage(data)) as server:
        registered(registry)
        pack("--no-gc")
        kept = data.stat().st_size
        making.commit((server.address.host, server.address.port))  # it packs nothing if nothing has changed
        pack("--gc")
        assert data.stat().st_size < kept - len(REVISION)


def test_a_server_that_cannot_be_told_of_garbage_says_so(registry, pack, tmp_path):
    with ZeoServer(tmp_path) as server, registry.register(PATH, server.text):
        DB(ClientStorage(server.address)).close()
        error = pack("--no-gc", code=1).stderr
        assert "cannot be said with a pack of the storage '1'" in error
        assert "pack-gc" in error
        assert "packed storage 1" in pack().stdout


def test_one_of_several_storages_is_named(zookeeper, registry, pack, tmp_path, data):
    storages = making.a_filestorage(data, "main") + "\n" + making.a_filestorage(tmp_path / "c.fs", "catalog")
    with served(zookeeper, storages):
        registered(registry)
        error = pack(code=1).stderr
        assert "has 2 storages: catalog, main" in error
        assert "hint: name one: --storage NAME" in error
        assert "no storage 'x'" in pack("--storage", "x", code=1).stderr
        assert "packed storage catalog" in pack("--storage", "catalog").stdout
    # A plain server's node does not say what it has.
    folder = tmp_path / "plain"
    folder.mkdir()
    with ZeoServer(folder, storages=("a", "b")) as server, registry.register(PATH, server.text):
        assert "has 2 storages: a, b" in pack(code=1).stderr


def test_a_server_that_reads_alone_is_not_asked(zookeeper, registry, pack, data, tmp_path):
    shutil.copy(data, tmp_path / "copy.fs")
    config = making.a_config(
        address="127.0.0.1", zookeeper=zookeeper.hosts, storage=making.a_filestorage(data), zeo="read-only true"
    )
    with Server(config):
        registered(registry)
        started = time.monotonic()
        assert "read-only, and no other server has the storage '1'" in pack(code=1).stderr
        assert time.monotonic() - started < 4
        with served(zookeeper, making.a_filestorage(tmp_path / "copy.fs")) as writes:
            wait_for(lambda: len(making.addresses(registry)) == 2)
            assert json.loads(pack("--format", "json").stdout)["server"] == str(writes.address)


def test_a_server_that_speaks_tls_is_asked_in_it(registry, pack, tmp_path, certificates):
    settings = f"""<ssl>
      certificate {certificates}/server.crt
      key {certificates}/server.key
      authenticate {certificates}/client.crt
    </ssl>"""
    with ZeoServer(tmp_path, settings=settings) as server, registry.register(PATH, server.text, storages=["1"]):
        shown = ["--zeo-certificate", f"{certificates}/client.crt", "--zeo-key", f"{certificates}/client.key"]
        assert "packed storage 1" in pack("--zeo-ca", f"{certificates}/server.crt", *shown).stdout


def test_a_standby_is_not_asked(zookeeper, registry, pack, data):
    with (
        served(zookeeper, making.a_filestorage(data), more="standby on") as first,
        contextlib.closing(served(zookeeper, making.a_filestorage(data), more="standby on")) as second,
    ):
        registered(registry)
        second.start()
        assert json.loads(pack("--format", "json").stdout)["server"] == str(first.address)


def test_who_is_not_there_is_said(registry, pack):
    assert f"nobody is registered at {PATH}" in pack(code=1).stderr
    with registry.register(PATH, f"127.0.0.1:{free_port()}", storages=["1"]):
        assert "Connect" in pack("--timeout", "1", code=1).stderr
    nowhere = f"127.0.0.1:{free_port()}"
    assert "no ZooKeeper answered" in pack("-z", nowhere, "--timeout", "0.5", code=1).stderr
    assert "--days" in pack("--days", "-1", code=2).stderr


def test_a_pack_goes_on_when_the_wait_is_over_and_a_second_one_is_refused(zookeeper, registry, pack, data):
    with served(zookeeper, slow(data)) as server:
        registered(registry)
        error = pack("--wait", "0.3", code=1).stderr
        assert "is not over after 0.3 s; it goes on there" in error
        assert "is being packed already" in pack(code=1).stderr
        status = CliRunner(env={"ZKFLEET_ZOOKEEPER": zookeeper.hosts}).invoke(
            main, ["zeo", "status", PATH, "--interval", "0", "--format", "json"]
        )
        [row] = json.loads(status.stdout)
        assert (row["role"], row["state"], row["note"]) == ("primary", "packing", "")
        assert ask(str(server.address))["1"].pack.written == 1000
        before = data.stat().st_size
        go(data)
        wait_for(lambda: not packing(server))
        assert data.stat().st_size < before / 5


def test_the_log_of_a_server_whose_client_has_left_has_no_traceback(zookeeper, registry, pack, tmp_path, data):
    (tmp_path / "slow_packer.py").write_text(Path(slow_packer.__file__).read_text())
    port = free_port()
    config = making.a_config(
        address=f"127.0.0.1:{port}",
        zookeeper=zookeeper.hosts,
        storage=slow(data).replace("tests.zeo.slow_packer", "slow_packer"),
        more="session-timeout 2000",
    )
    with making.ServerProcess(tmp_path, config) as server:
        wait_for(lambda: ("127.0.0.1", port) in making.addresses(registry))
        pack("--wait", "0.3", code=1)
        go(data)
        wait_for(lambda: ask(f"127.0.0.1:{port}")["1"].pack.ended)
        ask(f"127.0.0.1:{port}")  # the loop has been round since
        assert "Traceback" not in server.log


def test_whoever_is_refused_by_the_storage_is_told_why(registry, pack, tmp_path, data):
    """A plain server says nothing of its packs: it is the storage that refuses the second one."""
    (tmp_path / "slow_packer.py").write_text(Path(slow_packer.__file__).read_text())
    server = ZeoServer(tmp_path)
    text = server._configuration.read_text().replace(
        f"path {tmp_path / '1'}.fs", f"path {data}\npacker slow_packer.packer"
    )
    server._configuration.write_text(text)
    with server, registry.register(PATH, server.text):
        pack("--wait", "0.3", code=1)
        assert "is being packed already" in pack(code=1).stderr
        go(data)


def test_a_pack_that_fails_says_why(zookeeper, registry, pack, data):
    go(data, "disk full")
    with served(zookeeper, slow(data)) as server:
        registered(registry)
        error = pack(code=1).stderr
        assert f"{server.address}: the pack of the storage '1' failed: OSError: disk full" in error
        assert ask(str(server.address))["1"].pack.error == "OSError: disk full"


def test_a_pack_whose_connection_is_lost_is_waited_for_all_the_same(zookeeper, registry, pack, data):
    with served(zookeeper, slow(data)) as server:
        registered(registry)
        one = making.Attempt(pack, "--format", "json")
        wait_for(lambda: packing(server))
        lose_connection()
        go(data)
        said = json.loads(one.outcome(20).stdout)
        assert said["size_after"] == data.stat().st_size
        assert said["size_after"] < said["size_before"] / 5


def test_a_pack_that_fails_after_the_connection_was_lost_has_failed(zookeeper, registry, pack, data):
    with served(zookeeper, slow(data)) as server:
        registered(registry)
        one = making.Attempt(lambda: pack(code=1))
        wait_for(lambda: packing(server))
        lose_connection()
        go(data, "disk full")
        assert "failed: OSError: disk full" in one.outcome(20).stderr


def test_an_earlier_pack_is_not_taken_for_one_that_never_began(zookeeper, registry, data, monkeypatch):
    monkeypatch.setattr(packer, "BACK_WITHIN", 0.5)
    elsewhere = "/databases/relayed"
    registry.import_tree("/databases\n  /relayed\n")
    with served(zookeeper, f"<filestorage 1>\npath {data}\n</filestorage>") as server:
        relay, how = Proxy(server.address.port), Asking(timeout=5)
        with contextlib.ExitStack() as undo, registry.register(elsewhere, relay.hosts):
            undo.callback(relay.stop)
            packer.pack(registry, elsewhere, how=how)
            one = making.Attempt(
                lambda: packer.pack(registry, elsewhere, how=how, begun=lambda *_: relay.swallow(requests=True))
            )
            wait_for(lambda: relay.swallowed)
            relay.cut()
            error = one.outcome(20)
            assert isinstance(error, OutcomeUnknown)
            assert "does not say that it began this pack" in str(error)


@pytest.mark.parametrize("comes_back", [False, True])
def test_of_a_server_that_dies_in_the_middle_it_is_not_known(
    zookeeper, registry, pack, tmp_path, data, comes_back, monkeypatch
):
    monkeypatch.setattr(packer, "BACK_WITHIN", 20.0 if comes_back else 0.5)
    (tmp_path / "slow_packer.py").write_text(Path(slow_packer.__file__).read_text())
    storage = slow(data).replace("tests.zeo.slow_packer", "slow_packer")
    port = free_port()
    address = f"127.0.0.1:{port}"
    config = making.a_config(address=address, zookeeper=zookeeper.hosts, storage=storage, more="session-timeout 2000")
    with making.ServerProcess(tmp_path, config) as server:
        wait_for(lambda: ("127.0.0.1", port) in making.addresses(registry))
        one = making.Attempt(lambda: pack(code=1))
        wait_for(lambda: ask(address)["1"].pack)
        server.signal(signal.SIGKILL)
        server.ends()
        with making.ServerProcess(tmp_path, config) if comes_back else contextlib.nullcontext():
            error = one.outcome(20).stderr
    assert f"{address}: it is not known whether the storage '1' was packed" in error
    assert ("started again" if comes_back else "does not answer") in error
    assert "hint: pack it again" in error


def test_zookeeper_may_go_away_meanwhile(tmp_path, data):
    with DevServer(tick=0.2) as zookeeper:
        with connect(zookeeper.hosts) as registry:
            registry.import_tree("/databases\n  /main\n")
        server = served(zookeeper, slow(data)).start()
        with connect(zookeeper.hosts) as registry:
            registered(registry)
        command = ["zeo", "pack", PATH, "-z", zookeeper.hosts, "--timeout", "2"]
        one = making.Attempt(CliRunner().invoke, main, command)
        wait_for(lambda: packing(server))
    go(data)
    try:
        done = one.outcome(20)
        assert (done.exit_code, "packed storage 1" in done.stdout) == (0, True), done.output
    finally:
        server.close()
