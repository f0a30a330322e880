"""Who asks the Zope instances: threads that each add an order, look at it, and go on.

An order is tried once, whatever becomes of it.  What happened is kept in memory.
"""

import http.client
import threading
import time
from urllib.parse import urlencode

from tests.soak.verdict import History
from tests.soak.zope.published import THERE
from tests.soak.zope.verdict import Failure

PATIENCE = 90.0
PAUSE = 0.05


class Client:
    """One thread that asks one Zope instance.

    Args:
        name: its name, with which the names of its orders begin.
        port: of the instance.

    Attributes:
        requests: how many it made.
        failures: those that gave no answer or a wrong one.
        again: how often Zope ran a request again whose first run was committed.
    """

    def __init__(self, name, port):
        self.name, self._port = name, port
        self.requests, self.again, self.failures = 0, 0, []
        self._tried, self._acknowledged = [], []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def acknowledged_since(self, when):
        """Tell whether an order that was begun after a time was added."""
        return any(begun > when for _, begun, _ in self._acknowledged[-3:])

    def stop(self):
        self._over.set()

    def history(self):
        """What it did, as `tests.soak.verdict` judges it; times are in seconds since 1970."""
        self._thread.join(PATIENCE)
        return History(
            tuple(self._tried),
            tuple(number for number, _, _ in self._acknowledged),
            times=tuple(at for _, _, at in self._acknowledged),
            ended=not self._thread.is_alive(),
        )

    def _run(self):
        number = 0
        while not self._over.wait(PAUSE):
            number += 1
            begun = time.time()
            self._tried.append(number)
            said = self._ask("POST", "add-order", number)
            if said is not None:
                self.again += said == THERE
                self._acknowledged.append((number, begun, time.time()))
                if (said := self._ask("GET", "show-order", number)) not in ("True", None):
                    self.failures.append(
                        Failure(time.time(), self.name, "GET", "200", f"the order is not whole: {said}")
                    )

    def _ask(self, method, page, number):
        """Return the text of the answer; None if it was an error."""
        self.requests += 1
        form = urlencode({"name": f"{self.name}:{number}"})
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        try:
            if method == "POST":
                kind = {"Content-Type": "application/x-www-form-urlencoded"}
                connection.request("POST", f"/{page}", form, kind)
            else:
                connection.request("GET", f"/{page}?{form}")
            reply = connection.getresponse()
            text = reply.read().decode(errors="replace")
        except OSError as exc:
            self.failures.append(Failure(time.time(), self.name, method, "none", f"{type(exc).__name__}: {exc}"))
            return None
        except http.client.HTTPException as exc:
            self.failures.append(Failure(time.time(), self.name, method, "broken", repr(exc)))
            return None
        finally:
            connection.close()
        if reply.status == 200:
            return text
        self.failures.append(Failure(time.time(), self.name, method, str(reply.status), text))
        return None
