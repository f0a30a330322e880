import logging

import pytest

from tests.conftest import wait_for
from tests.zeo import making
from zkfleet.devserver import DevServer
from zkfleet.endpoints import Endpoint
from zkfleet.registry import announcer as module
from zkfleet.registry import connect
from zkfleet.registry.announcer import Announcement, Concern
from zkfleet.zeo.announcing import announcer
from zkfleet.zeo.settings import read_settings


def zookeeper(hosts):
    return read_settings(making.a_config(zookeeper=hosts)).zookeeper


CLAIM = Announcement("/databases/main", Endpoint("127.0.0.1", 8100), {"role": "primary"})


def test_a_concern_is_told_once_and_when_it_is_over(caplog):
    caplog.set_level(logging.INFO)
    concern = Concern("/a")
    for problem in ("no link", "no link", "no node", "no node", "", ""):
        concern.is_now(problem)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO"]


def test_a_concern_that_lasts_is_told_again(caplog, monkeypatch):
    monkeypatch.setattr(module, "TELL_AGAIN", 0.0)
    concern = Concern("/a")
    concern.is_now("no link")
    concern.is_now("no link")
    assert len(caplog.records) == 2


def test_what_never_had_a_link_is_closed_at_once():
    announced = announcer(zookeeper(f"127.0.0.1:{making.free_port()}"))
    announced.start()
    announced.register([CLAIM])
    announced.close()
    announced.close()
    assert not announced.wait_until_connected()


def test_what_is_closed_before_its_start_is_no_harm():
    announcer(zookeeper("127.0.0.1:1")).close()


@pytest.mark.slow
def test_it_is_registered_when_zookeeper_comes():
    port = making.free_port()
    announced = announcer(zookeeper(f"127.0.0.1:{port}"))
    announced.start()
    announced.register([CLAIM])
    try:
        with DevServer(port) as server, connect(server.hosts) as registry:
            registry.import_tree("/databases\n  /main\n")
            wait_for(lambda: making.addresses(registry) == [("127.0.0.1", 8100)])
            announced.close()
            assert making.addresses(registry) == []
    finally:
        announced.close()
