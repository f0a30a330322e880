"""A Zope instance of a soak: a WSGI process whose database is a <zkzeoclient>."""

import http.client
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.soak.zope.logs import FORMAT
from zkfleet.testing.zookeeper import free_port

ROOT = Path(__file__).parents[3]
CONF = """%import zkfleet.zeo
instancehome {home}
max-conflict-retries 10
<zodb_db main>
  mount-point /
  <zkzeoclient>
    zookeeper {hosts}
    server {path}
    blob-dir {home}/blobs
  </zkzeoclient>
</zodb_db>
"""
INI = """[app:main]
use = egg:Zope#main
zope_conf = {home}/etc/zope.conf
[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = {port}
threads = 4
expose_tracebacks = true
[loggers]
keys = root
[handlers]
keys = file
[formatters]
keys = plain
[logger_root]
level = INFO
handlers = file
[handler_file]
class = FileHandler
args = ({log!r},)
formatter = plain
[formatter_plain]
format = {format}
"""
ZCML = """<configure xmlns="http://namespaces.zope.org/zope" xmlns:browser="http://namespaces.zope.org/browser"
    xmlns:five="http://namespaces.zope.org/five">
  <include package="Products.Five" />
  <five:loadProducts file="meta.zcml" />
  <five:loadProducts />
  <five:loadProductsOverrides />
  <browser:page for="OFS.interfaces.IApplication" name="add-order" permission="zope.Public"
      class="tests.soak.zope.published.Orders" attribute="add" />
  <browser:page for="OFS.interfaces.IApplication" name="show-order" permission="zope.Public"
      class="tests.soak.zope.published.Orders" attribute="show" />
</configure>
"""
RUNS = "import sys; from Zope2.Startup.serve import main; sys.exit(main())"


class Instance:
    """One process; `event.log` in its folder is its log, `output` all else that it writes.

    Args:
        home: its folder, which is made.
        hosts, path: where its ZEO servers are found.
    """

    def __init__(self, home, *, hosts, path):
        self.home, self.port = home, free_port()
        (home / "etc").mkdir(parents=True)
        (home / "etc/zope.conf").write_text(CONF.format(home=home, hosts=hosts, path=path))
        (home / "etc/site.zcml").write_text(ZCML)
        log = str(home / "event.log")
        (home / "zope.ini").write_text(INI.format(home=home, port=self.port, log=log, format=FORMAT))
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with open(home / "output", "w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", RUNS, "zope.ini"], cwd=home, env=environment, stdout=output, stderr=output
            )

    def answers(self):
        """Tell whether it takes requests; a process that has ended is an error."""
        assert self._process.poll() is None, (self.home / "output").read_text()
        try:
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=1).connect()
        except OSError:
            return False
        return True

    def end(self, timeout=30):
        """Tell it to end, and kill it if it does not."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
