import contextlib
import json
import signal
import subprocess
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from urllib.request import Request, urlopen

import App.config
import pytest
import ZODB
from click.testing import CliRunner
from ZODB.interfaces import IDatabase
from zope import component

from tests.conftest import wait_for
from tests.monitor.conftest import Client, ask
from zkfleet.cli import main
from zkfleet.devserver import DevServer
from zkfleet.errors import BadInput
from zkfleet.monitor import COMMANDS, databases
from zkfleet.monitor.settings import MonitorSettings
from zkfleet.monitor.zope import IMonitorPlugin, interfaces
from zkfleet.monitor.zope.configured import Fleet, configured, line_of
from zkfleet.monitor.zope.starting import add_utilities, process_starting
from zkfleet.registry import connect
from zkfleet.testing.zookeeper import free_port


@pytest.fixture(autouse=True)
def nothing_of_zope_left(monkeypatch):
    """Whoever asks Zope for its configuration makes one, which sets variables of the environment for good."""
    monkeypatch.setattr(App.config, "_config", App.config._config)
    for name in ("INSTANCE_HOME", "CLIENT_HOME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


CONF = """
instancehome {home}
<zodb_db main>
  <filestorage>
    path {home}/var/Data.fs
  </filestorage>
  mount-point /
</zodb_db>
<zodb_db catalog>
  <mappingstorage>
  </mappingstorage>
  mount-point /catalog
</zodb_db>
<product-config zc.z3monitor>
  bind {home}/monitor.sock
</product-config>
"""
INI = """
[app:main]
use = egg:Zope#main
zope_conf = {home}/etc/zope.conf
[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = 0
[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = plain
[logger_root]
level = INFO
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain
[formatter_plain]
format = %(message)s
"""
ZCML = """<configure xmlns="http://namespaces.zope.org/zope">
  <include package="Products.Five" />
  <include package="zkfleet.monitor.zope" />
  <utility provides="zkfleet.monitor.zope.IMonitorPlugin" component="greeting.hello" name="hello" />
</configure>
"""
PLUGIN = """
def hello(connection, name="world"):
    '''Say hello.'''
    connection.write(f"Hi {name}!\\n")
"""

# What Zope's main thread does when the process starts; a command that is said not to block does.
HANGING = """
import os, signal, sys, threading
from zkfleet.monitor import COMMANDS, start
from zkfleet.monitor import threads as door
from zkfleet.monitor.zope.starting import _close_at_sigterm

door.PATIENCE = 0.1

@COMMANDS.command("hang", blocks=False)
def hang():
    os.write(1, b"hangs\\n")
    threading.Event().wait()

_close_at_sigterm(start(sys.argv[1]))
while True:
    try:
        signal.pause()
    except Exception as exc:
        os.write(1, repr(exc).encode())
"""


@contextlib.contextmanager
def zope(home, conf=CONF):
    """A Zope process that is started in a folder."""
    for name in ["etc", "var"]:
        (home / name).mkdir()
    (home / "etc/zope.conf").write_text(conf.format(home=home))
    (home / "etc/site.zcml").write_text(ZCML)
    (home / "zope.ini").write_text(INI.format(home=home))
    (home / "greeting.py").write_text(PLUGIN)
    runs = "import sys; sys.path.insert(0, '.'); from Zope2.Startup.serve import main; sys.exit(main())"
    with open(home / "log", "w") as log:
        process = subprocess.Popen([sys.executable, "-c", runs, "zope.ini"], cwd=home, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_zope_process_answers_until_it_is_ended(tmp_path):
    with zope(tmp_path) as process:
        socket = str(tmp_path / "monitor.sock")
        wait_for(lambda: Path(socket).exists() or process.poll() is not None, timeout=60)
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert "Supported commands:" in ask(socket, "help")
        assert ask(socket, "monitor").splitlines()[0].isdigit()
        assert len(ask(socket, "dbinfo").split()) == len(ask(socket, "dbinfo catalog").split()) == 5
        assert "catalog" in ask(socket, "databases")
        assert "there is no database" in ask(socket, "dbinfo elsewhere")
        assert ask(socket, "health") == ask(socket, "ready") == "OK\n"
        assert "Error" not in ask(socket, "connections")
        assert ask(socket, "slow").startswith("database")
        assert ask(socket, "conflicts").startswith("database")
        assert ask(socket, "hello Jim") == "Hi Jim!\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM
        assert not Path(socket).exists()


@pytest.mark.slow
def test_a_process_is_ended_though_a_command_hangs(tmp_path):
    socket = str(tmp_path / "monitor.sock")
    with subprocess.Popen([sys.executable, "-c", HANGING, socket], stdout=subprocess.PIPE) as process:
        try:
            wait_for(lambda: Path(socket).exists() or process.poll() is not None)
            with Client(socket) as client:
                client.send(b"hang\n")
                assert process.stdout.readline() == b"hangs\n"
                process.send_signal(signal.SIGTERM)
                assert process.wait(10) == -signal.SIGTERM
        finally:
            process.kill()
    assert not Path(socket).exists()


def told_by(*words, hosts):
    """What a command says as a value; the token is in the environment."""
    env = {"ZKFLEET_ZOOKEEPER": hosts, "ZKFLEET_MONITOR_TOKEN": "s3cret"}
    done = CliRunner(env=env).invoke(main, [*words, "--format", "json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def scraped(port):
    request = Request(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": "Bearer s3cret"})
    with urlopen(request, timeout=10) as answer:
        return answer.read().decode()


@contextlib.contextmanager
def in_the_fleet(port):
    """A ZooKeeper that is started at a port, and who is registered at its node as soon as somebody is."""
    with DevServer(port, tick=0.2) as server, connect(server.hosts) as registry:
        registry.import_tree("/web\n")
        providers = registry.providers("/web")
        wait_for(lambda: len(providers) == 1, timeout=20)
        yield providers


@pytest.mark.slow
def test_a_zope_process_is_in_the_fleet(tmp_path, token_file):
    port = free_port()
    hosts, log = f"127.0.0.1:{port}", tmp_path / "log"
    said = CONF.replace("zc.z3monitor", "zkfleet.monitor").replace(
        "bind {home}/monitor.sock",
        f"bind 127.0.0.1:0\n  http 127.0.0.1:0\n  token-file {token_file}\n  actions on\n"
        f"  zookeeper {hosts}\n  path /web\n  session-timeout 2000",
    )
    with zope(tmp_path, said) as process:
        # It starts while ZooKeeper is away.
        wait_for(lambda: "not_registered_yet path=/web" in log.read_text() or process.poll() is not None, timeout=60)
        assert process.poll() is None, log.read_text()
        with in_the_fleet(port) as providers:
            [(address, node)] = providers.items()
            assert (node["kind"], node["pid"]) == ("monitor", process.pid)
            shown = told_by("top", "/web", "--interval", "0.1", hosts=hosts)
            [row] = [one for one in shown["processes"] if one["address"] == address]
            assert (row["pid"], row["problem"]) == (process.pid, "")
            [answer] = told_by("monitor", "--path", "/web", "--all", "databases", hosts=hosts)
            assert {one["database"] for one in answer["answer"]} >= {"-", "catalog"}
            assert 'zkfleet_databases_open{database="catalog"} 1.0' in scraped(node["http_port"])
        with in_the_fleet(port) as providers:  # of another ZooKeeper, which knows nothing of the first
            process.send_signal(signal.SIGTERM)
            wait_for(lambda: len(providers) == 0)
            assert process.wait(30) == -signal.SIGTERM


@pytest.mark.slow
def test_a_wrong_zope_conf_ends_the_start_with_the_place(tmp_path):
    with zope(tmp_path, CONF.replace("bind {home}/monitor.sock", "port x")) as process:
        assert process.wait(60) != 0
    said = (tmp_path / "log").read_text()
    assert f"{tmp_path}/etc/zope.conf:14: <product-config zc.z3monitor>: port: not a number: 'x'" in said
    assert "hint: say bind for anything but a port" in said


def test_a_folder_that_somebody_else_made_keeps_no_zope_from_starting(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "zkfleet").mkdir()
    (tmp_path / "zkfleet").chmod(0o777)
    process_starting(None)
    assert "is not a directory of this user alone" in caplog.text


def test_where_zope_conf_says_that_it_listens():
    assert configured({}) is configured({"zc.z3monitor": {}}) is None
    assert configured({"zc.z3monitor": {"port": "9644"}}).monitor.address == "9644"
    both = {"zc.z3monitor": {"port": "1"}, "zkfleet.monitor": {"bind": "127.0.0.1:2"}}
    assert configured(both).monitor.address == "127.0.0.1:2"
    assert configured({"zkfleet.monitor": {"actions": "on"}}).monitor.address is None


def test_all_that_zope_conf_can_say():
    section = {
        "bind": ":9644", "http": ":9645", "token-file": "/t", "certificate": "/c", "key": "/k", "authorities": "/a",
        "actions": "Yes", "zookeeper": "zk:2181", "path": "/web", "session-timeout": "5000", "advertise": "web1",
        "zookeeper-ca": "/zca", "zookeeper-certificate": "/zc", "zookeeper-key": "/zk", "zookeeper-auth-file": "/d",
        "zookeeper-sasl-file": "/s",
    }  # fmt: skip
    said = configured({"zkfleet.monitor": section})
    assert said.monitor == MonitorSettings(":9644", ":9645", "/t", "/c", "/k", "/a", actions=True)
    assert said.fleet == Fleet("/web", "zk:2181", "5000", "web1", "/zca", "/zc", "/zk", "/d", "/s")
    assert not configured({"zkfleet.monitor": {**section, "actions": "off"}}).monitor.actions


def test_a_section_is_found_in_its_file():
    assert line_of("<product-config zkfleet.monitor>", "a\n  <product-config  zkfleet.monitor>\n") == 2
    assert line_of("<product-config zkfleet.monitor>", "# nothing\n") == 0


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"bind": "1", "key": "/k"}, "key is of no use without certificate"),
        ({"bind": "1", "authorities": "/a"}, "authorities is of no use without certificate"),
        ({"bind": "1", "token-file": ""}, "token-file: there is no value"),
        ({"bind": "1", "http": ""}, "http: not an address"),
        ({"bind": "1", "actions": "perhaps"}, "actions: 'perhaps' is neither on nor off"),
        ({"bind": "1", "zookeeper": "z:2181"}, "zookeeper is of no use without path"),
        ({"bind": "1", "advertise": "h"}, "advertise is of no use without path"),
        ({"path": "/web"}, "Unix socket through ZooKeeper, and there is no bind"),
        ({"bind": "/m.sock", "path": "/web"}, "Unix socket through ZooKeeper"),
        ({"bind": "1", "path": "/web", "zookeeper-key": "/k"}, "zookeeper-key is of no use without"),
        ({"port": "x"}, "port: not a number"),
        ({"bind": " "}, "bind: not an address"),
        ({"bind": "1", "port": "1"}, "both"),
        ({"binds": "1"}, "'binds'"),
    ],
)
def test_what_zope_conf_cannot_mean_is_told_with_its_place(section, said):
    with pytest.raises(BadInput, match=said) as told:
        configured({"zc.z3monitor": section})
    assert told.value.hint
    assert "<product-config zc.z3monitor>" in str(told.value)


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    file.chmod(0o600)
    return str(file)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"bind": "0.0.0.0:0"}, r"bind: a monitor at :0 answers everybody"),
        ({"bind": "127.0.0.1:0", "http": "0.0.0.0:0"}, r"http: a monitor at :0 answers everybody"),
        ({"token-file": "/none"}, "token-file: /none: no token can be read"),
        ({"certificate": "/none"}, "certificate: no TLS with /none"),
        ({"bind": "240.0.0.1:0", "token-file": "TOKEN"}, "240.0.0.1:0: "),
        ({"bind": "127.0.0.1:0", "path": "web"}, "path: "),
        ({"bind": "127.0.0.1:0", "path": "/web", "zookeeper": "a:x"}, "zookeeper: "),
        ({"bind": "127.0.0.1:0", "path": "/web", "session-timeout": "10"}, "session-timeout: 10 ms is no"),
        ({"bind": "127.0.0.1:0", "path": "/web", "session-timeout": "soon"}, "session-timeout: soon ms is no"),
        ({"bind": "127.0.0.1:0", "path": "/web", "zookeeper-ca": "/none"}, "zookeeper: tls ca: no such file: /none"),
        (
            {"bind": "127.0.0.1:0", "path": "/web", "zookeeper-auth-file": "/none"},
            "zookeeper-auth-file: /none: no user",
        ),
        ({"bind": "127.0.0.1:0", "path": "/web", "zookeeper-auth-file": "TOKEN"}, "zookeeper: digest credentials"),
        (
            {"bind": "127.0.0.1:0", "path": "/web", "zookeeper-sasl-file": "/none"},
            "zookeeper-sasl-file: /none: no user",
        ),
        (
            {"bind": "0.0.0.0:0", "token-file": "TOKEN", "path": "/web", "advertise": "198.51.100.0/24"},
            "advertise: no addr",
        ),
    ],
)
def test_what_zope_conf_names_and_cannot_be_used_ends_the_start(section, said, token_file, monkeypatch):
    given = {key: token_file if value == "TOKEN" else value for key, value in section.items()}
    config = SimpleNamespace(product_config={"zkfleet.monitor": given}, instancehome="/none")
    monkeypatch.setattr(App.config, "_config", config)
    with pytest.raises(BadInput, match=said) as told:
        process_starting(None)
    assert str(told.value).startswith("<product-config zkfleet.monitor>: ")


def test_a_plugin_takes_no_name_that_a_command_has_and_none_that_nobody_can_say(caplog):
    def hello(connection):
        connection.write("hello")

    names = ["dbinfo", "two words", "", "hello-once"]
    for name in names:
        component.provideUtility(hello, IMonitorPlugin, name)
    try:
        add_utilities()
        assert COMMANDS.get("hello-once") is not None
        assert COMMANDS.get("dbinfo").parameters[0].name == "db"
        assert COMMANDS.get("two words") is None
        assert caplog.text.count("plugin_left_out") == 3
    finally:
        for name in names:
            component.getGlobalSiteManager().unregisterUtility(hello, IMonitorPlugin, name)


def test_utilities_are_databases_unless_the_name_is_taken():
    with contextlib.closing(ZODB.DB(None)) as found, contextlib.closing(ZODB.DB(None)) as known:
        databases["known-to-zope"] = known
        component.provideUtility(found, IDatabase, "found-by-zope")
        component.provideUtility(found, IDatabase, "known-to-zope")
        try:
            add_utilities()
            assert databases["found-by-zope"] is found
            assert databases["known-to-zope"] is known
        finally:
            for name in ["found-by-zope", "known-to-zope"]:
                component.getGlobalSiteManager().unregisterUtility(found, IDatabase, name)
                databases.pop(name, None)


def test_an_interface_of_both_names_is_looked_for_once(monkeypatch):
    earlier = types.ModuleType("zc.monitor.interfaces")
    earlier.IMonitorPlugin = interfaces.IMonitorPlugin
    for name, module in (("zc.monitor", types.ModuleType("zc.monitor")), ("zc.monitor.interfaces", earlier)):
        monkeypatch.setitem(sys.modules, name, module)
    assert interfaces.all_of_them() == [interfaces.IMonitorPlugin]
    earlier.IMonitorPlugin = another = type(interfaces.IMonitorPlugin)("IMonitorPlugin")
    assert interfaces.all_of_them() == [another, interfaces.IMonitorPlugin]
