"""Fixtures for the tests of services that use zkfleet.

In a `conftest.py`:

    pytest_plugins = ["zkfleet.testing.plugin"]

Then a test that asks for `zookeeper` has a server of its own, empty, which it
may break: the dev server, or with `pytest --zookeeper=real` Apache ZooKeeper.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from zkfleet.devserver import DevServer
from zkfleet.errors import WaitTimedOut
from zkfleet.registry import Registry, connect
from zkfleet.testing.zookeeper import ZooKeeperServer, expire_session, four_letters

TICK_SECONDS = 0.5
PATIENCE = 3.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--zookeeper`."""
    parser.addoption(
        "--zookeeper",
        choices=["dev", "real"],
        default="dev",
        help="what the fixture `zookeeper` is: zkfleet's dev server, or Apache ZooKeeper (needs Java)",
    )


class ZooKeeper:
    """A server that a test has for itself.

    Attributes:
        server: the `DevServer` or `ZooKeeperServer`.
    """

    def __init__(self, server: DevServer | ZooKeeperServer) -> None:
        self.server = server
        self._opened = ExitStack()

    @property
    def hosts(self) -> str:
        """The connection string."""
        return self.server.hosts

    def connect(self, **options: Any) -> Registry:
        """Open a session, which ends with the test; options as for `zkfleet.connect`."""
        return self._opened.enter_context(connect(self.hosts, **options))

    def expire_session(self, registry: Registry) -> None:
        """End a registry's session as if its time were over.

        Raises:
            WaitTimedOut: the server does not answer.
        """
        # Asked before the session is taken over: that would be done when it goes on, by nobody.
        if not four_letters(self.server.port, "srvr", PATIENCE):
            raise WaitTimedOut(f"{self.hosts}: no answer in {PATIENCE:g} s", hint="if it is paused, resume() it")
        expire_session(self.hosts, registry.session.client.client_id)

    def pause(self) -> None:
        """Let the server do nothing, with all connections open and silent."""
        self.server.pause()

    def resume(self) -> None:
        """Let it go on."""
        self.server.resume()

    def restart(self) -> None:
        """Kill it and start it again on the same port and data."""
        self.server.restart()

    def wipe(self) -> None:
        """Kill it, throw its data away and start it again on the same port."""
        self.server.wipe()

    def close(self) -> None:
        """End the sessions that `connect` opened, by a server that goes on for that."""
        self.server.resume()
        self._opened.close()


@pytest.fixture
def zookeeper(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ZooKeeper]:
    """A ZooKeeper of the test's own."""
    real = request.config.getoption("--zookeeper") == "real"
    server = ZooKeeperServer(tmp_path / "zookeeper") if real else DevServer(tick=TICK_SECONDS)
    with server:
        made = ZooKeeper(server)
        try:
            yield made
        finally:
            made.close()
