"""A process that visits a web server until its standard input is closed.

`python -m tests.end_to_end.visitors PORT`: every visitor asks for one visit after
the other, for each again and again until it is told that it was counted. In the
end what was counted, and how often it was asked for, is written as JSON.
"""

import http.client
import itertools
import json
import sys
import threading

from tests.conftest import wait_for

VISITORS = 12


class Visitor(threading.Thread):
    """One of them, on connections of its own."""

    def __init__(self, name, port):
        super().__init__(name=name)
        self._port, self.over = port, threading.Event()
        self.visits = {}  # how often each was asked for

    def run(self):
        while not self.over.is_set():
            visit = f"{self.name}-{len(self.visits)}"
            asks = itertools.count()
            wait_for(lambda asks=asks, visit=visit: next(asks) >= 0 and ask(self._port, "POST", visit), 60, visit)
            self.visits[visit] = next(asks)


def ask(port, method="GET", visit=None):
    """The count as it is answered, or None."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, "/visits", headers={"Visit": visit} if visit else {})
        response = connection.getresponse()
        text = response.read()
        return int(text) if response.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def main(port):
    visitors = [Visitor(f"visitor{number}", port) for number in range(VISITORS)]
    for visitor in visitors:
        visitor.start()
    sys.stdin.read()
    for visitor in visitors:
        visitor.over.set()
    for visitor in visitors:
        visitor.join()
    json.dump({visit: asked for visitor in visitors for visit, asked in visitor.visits.items()}, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]))
