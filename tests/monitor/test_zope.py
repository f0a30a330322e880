import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.monitor.conftest import ask
from zkfleet.errors import BadInput
from zkfleet.monitor.zope.configured import address

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


@pytest.fixture
def zope(tmp_path):
    """A Zope process, and its monitor's socket."""
    pytest.importorskip("Zope2", reason="Zope is not installed")
    for name in ["etc", "var"]:
        (tmp_path / name).mkdir()
    (tmp_path / "etc/zope.conf").write_text(CONF.format(home=tmp_path))
    (tmp_path / "etc/site.zcml").write_text(ZCML)
    (tmp_path / "zope.ini").write_text(INI.format(home=tmp_path))
    (tmp_path / "greeting.py").write_text(PLUGIN)
    runs = "import sys; sys.path.insert(0, '.'); from Zope2.Startup.serve import main; sys.exit(main())"
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen([sys.executable, "-c", runs, "zope.ini"], cwd=tmp_path, stdout=log, stderr=log)
    socket = tmp_path / "monitor.sock"
    try:
        wait_for(lambda: socket.exists() or process.poll() is not None, timeout=60)
        assert process.poll() is None, (tmp_path / "log").read_text()
        yield process, str(socket)
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_zope_process_answers_until_it_is_ended(zope):
    process, socket = zope
    assert "Supported commands:" in ask(socket, "help")
    assert ask(socket, "monitor").splitlines()[0].isdigit()
    assert len(ask(socket, "dbinfo").split()) == len(ask(socket, "dbinfo catalog").split()) == 5
    assert "catalog" in ask(socket, "databases")
    assert "there is no database" in ask(socket, "dbinfo elsewhere")
    assert ask(socket, "health") == ask(socket, "ready") == "OK\n"
    assert "Error" not in ask(socket, "connections")
    assert ask(socket, "hello Jim") == "Hi Jim!\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM
    assert not Path(socket).exists()


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
