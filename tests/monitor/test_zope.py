import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import ZODB
from ZODB.interfaces import IDatabase
from zope import component

from tests.conftest import wait_for
from tests.monitor.conftest import Client, ask
from zkfleet.errors import BadInput
from zkfleet.monitor import COMMANDS, databases
from zkfleet.monitor.zope import IMonitorPlugin
from zkfleet.monitor.zope.configured import address
from zkfleet.monitor.zope.starting import add_utilities, process_starting

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


@pytest.mark.slow
def test_a_wrong_zope_conf_ends_the_start_with_the_place(tmp_path):
    with zope(tmp_path, CONF.replace("bind {home}/monitor.sock", "port x")) as process:
        assert process.wait(60) != 0
    assert "<product-config zc.z3monitor>: port: not a number: 'x'" in (tmp_path / "log").read_text()


def test_a_folder_that_somebody_else_made_keeps_no_zope_from_starting(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "zkfleet").mkdir()
    (tmp_path / "zkfleet").chmod(0o777)
    process_starting(None)
    assert "is not a directory of this user alone" in caplog.text


def test_where_zope_conf_says_that_it_listens():
    assert address({}) is address({"zc.z3monitor": {}}) is None
    assert address({"zc.z3monitor": {"port": "9644"}}) == "9644"
    assert address({"zc.z3monitor": {"port": "1"}, "zkfleet.monitor": {"bind": "127.0.0.1:2"}}) == "127.0.0.1:2"


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"port": "x"}, "port: not a number"),
        ({"bind": " "}, "bind: not an address"),
        ({"bind": "1", "port": "1"}, "both"),
        ({"binds": "1"}, "'binds'"),
    ],
)
def test_what_zope_conf_cannot_mean_is_told_with_its_place(section, said):
    with pytest.raises(BadInput, match=said) as told:
        address({"zc.z3monitor": section})
    assert "<product-config zc.z3monitor>" in str(told.value)


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
