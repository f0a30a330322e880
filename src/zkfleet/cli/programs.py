"""The small programs that the demo's fleet is made of.

`python -m zkfleet.cli.programs PORT MONITOR` is an HTTP server that says who it is,
with a monitor at that address; `count` is what a ZODB client does all day.
"""

import contextlib
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from zkfleet import monitor

ATTEMPTS = 5


class Hello(BaseHTTPRequestHandler):
    """Answers every GET with the port that it came to."""

    def do_GET(self) -> None:
        """Say who we are."""
        body = f"hello from port {self.server.server_port}\n".encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def serve_http(port: int, monitored_at: str) -> None:
    """Serve until we are ended."""
    monitor.start(monitored_at)
    ThreadingHTTPServer(("127.0.0.1", port), Hello).serve_forever()


def count(database: Any) -> int:
    """Add one to the counter in a ZODB, and return it; again after conflicts and lost connections."""
    with contextlib.closing(database.open()) as connection:

        def add_one() -> int:
            root = connection.root()
            root["count"] = root.get("count", 0) + 1
            return int(root["count"])

        return int(connection.transaction_manager.run(add_one, ATTEMPTS))


if __name__ == "__main__":
    serve_http(int(sys.argv[1]), sys.argv[2])
