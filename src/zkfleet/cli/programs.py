"""The small programs that the demo's fleet is made of.

Run as `python -m zkfleet.cli.programs http PORT` or `... zodb HOSTS PATH STORAGE`:
an HTTP server that says who it is, and a ZODB client that counts, through
whatever ZEO servers the registry lists.
"""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import zkfleet
from zkfleet.registry import Registry

ATTEMPT_SECONDS = 10.0


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


def serve_http(port: int) -> None:
    """Serve until we are ended."""
    ThreadingHTTPServer(("127.0.0.1", port), Hello).serve_forever()


def count(registry: Registry, path: str) -> int:
    """Add one to a counter in the ZODB that a service provides, and return it.

    The addresses are taken from the registry anew for every attempt.
    """
    import transaction
    import ZODB
    from ZEO.ClientStorage import ClientStorage
    from ZODB.POSException import ConflictError, StorageError

    deadline = time.monotonic() + ATTEMPT_SECONDS
    providers = registry.providers(path)
    try:
        while True:
            addresses = [(endpoint.host, endpoint.port) for endpoint in providers.endpoints]
            try:
                storage = ClientStorage(addresses, wait=True, wait_timeout=2)
                database = ZODB.DB(storage)
                try:
                    with database.transaction() as connection:
                        root = connection.root()
                        root["count"] = root.get("count", 0) + 1
                        return int(root["count"])
                finally:
                    database.close()
            except (StorageError, ConflictError, transaction.interfaces.TransientError, ValueError):
                if time.monotonic() > deadline:
                    raise
    finally:
        providers.close()


def main(arguments: list[str]) -> None:
    """Run one of the programs."""
    match arguments:
        case ["http", port]:
            serve_http(int(port))
        case ["zodb", hosts, path]:
            with zkfleet.connect(hosts) as registry:
                print(count(registry, path))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
