"""Clients that are configured in files and by URIs."""

import io
import textwrap
from contextlib import closing

import pytest
import ZConfig
import ZODB.config
import zodburi
from ZODB.POSException import ReadOnlyError

from tests.zeo.test_client import count
from zkfleet.errors import BadInput
from zkfleet.zeo import config

pytestmark = pytest.mark.slow


def section(*lines):
    inside = "\n".join(lines)
    return f"%import zkfleet.zeo\n<zodb>\n<zkzeoclient>\n{inside}\n</zkzeoclient>\n</zodb>\n"


def test_a_section_opens_a_database(fleet, zeo):
    fleet.register("/db", zeo().address, zone="eu")
    lines = f"""
        zookeeper {fleet.session.hosts}
        server /db
        cache-size 1MB
        wait-timeout 10
        server-sync true
        prefer zone=eu
        prefer rack=7
        on-delisted stay
        on-behind clear
        leave-after 2.5
        ping-interval off
        client-label me
        name main
    """
    with closing(ZODB.config.databaseFromString(section(textwrap.dedent(lines)))) as found:
        assert count(found) == 1
        settings = found.storage._settings
        assert (settings.on_delisted, settings.on_behind, settings.leave_after) == ("stay", "clear", 2.5)
        assert settings.ping_interval is None
        assert settings.prefer({"zone": "eu"}) == [False, True]
        assert found.storage.getName() == "main (connected)"
        assert found.storage._cache.maxsize == 1 << 20
        assert found.storage.server_sync


def test_a_section_may_read_alone(fleet, zeo):
    server = zeo()
    fleet.register("/db", server.address)
    with closing(ZODB.config.databaseFromString(section(f"zookeeper {fleet.session.hosts}", "server /db"))) as found:
        count(found)
    lines = [f"zookeeper {fleet.session.hosts}", "server /db", "read-only true"]
    with closing(ZODB.config.databaseFromString(section(*lines))) as found, pytest.raises(ReadOnlyError):
        count(found)


def test_a_section_may_encrypt(fleet, secret, certificates):
    lines = f"""
        zookeeper {fleet.session.hosts}
        server /db
        <tls>
          certificate {certificates}/client.crt
          key {certificates}/client.key
          authenticate {certificates}/server.crt
          server-hostname 127.0.0.1
        </tls>
    """
    with closing(ZODB.config.databaseFromString(section(textwrap.dedent(lines)))) as found:
        assert count(found) == 1


def test_it_can_be_imported_beside_zeo(fleet, zeo):
    fleet.register("/db", zeo().address)
    text = "%import ZEO\n" + section(f"zookeeper {fleet.session.hosts}", "server /db")
    with closing(ZODB.config.databaseFromString(text)) as found:
        assert count(found) == 1


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ([], "server"),
        (["server db"], "db"),
        (["server /db", "server /other"], "server"),
        (["server /db", "wait-timeout soon"], "soon"),
        (["server /db", "ping-interval often"], "often"),
        (["server /db", "nothing 1"], "nothing"),
    ],
)
def test_what_is_wrong_in_a_section_is_an_error_with_its_line(lines, word):
    with pytest.raises(ZConfig.ConfigurationError, match=word):
        ZODB.config.databaseFromString(section(*lines))


def test_what_a_section_may_not_say_is_an_error_when_it_is_opened():
    with pytest.raises(BadInput, match="password does nothing"):
        ZODB.config.databaseFromString(section("server /db", "password x"))
    with pytest.raises(BadInput, match="on_behind"):
        ZODB.config.databaseFromString(section("server /db", "on-behind hope"))


def test_the_keys_are_those_of_both_of_zeos_sections():
    ours = set(config_keys("zkfleet.zeo", "zkzeoclient"))
    assert set(config_keys("ZEO", "clientstorage")) <= ours
    assert set(config_keys("ZODB", "zeoclient")) <= ours


def config_keys(package, kind):
    text = f'<schema><import package="ZODB"/><import package="{package}"/></schema>'
    schema = ZConfig.loadSchemaFile(io.StringIO(text))
    return [name for name, _ in schema.gettype(kind) if name]


def test_a_uri_opens_a_database(fleet, zeo):
    fleet.register("/db", zeo().address)
    uri = f"zkzeo://{fleet.session.hosts}/db?storage=1&wait_timeout=5&cache_size=1MB&prefer=zone%3Deu"
    factory, options = zodburi.resolve_uri(uri + "&database_name=main&connection_pool_size=3")
    assert (options["database_name"], options["pool_size"]) == ("main", 3)
    with closing(ZODB.DB(factory(), **options)) as found:
        assert count(found) == 1
        assert found.storage._cache.maxsize == 1 << 20


def test_a_uri_may_name_a_part_of_the_ensemble_and_options_that_are_off(fleet, zeo):
    fleet.import_tree("/fleets\n  /one\n    /db\n")
    fleet.register("/fleets/one/db", zeo().address)
    factory, _ = config.resolve(
        f"zkzeo://{fleet.session.hosts}/db?chroot=/fleets/one&ping_interval=off&read_only_fallback=yes"
    )
    with closing(factory()) as storage:
        assert storage.is_connected()
        assert (storage._settings.ping_interval, storage._settings.mode) == (None, "fallback")


def test_a_uri_without_an_ensemble_is_for_that_of_the_environment(fleet, zeo, monkeypatch):
    monkeypatch.setenv("ZKFLEET_ZOOKEEPER", fleet.session.hosts)
    fleet.register("/db", zeo().address)
    with closing(config.resolve("zkzeo:///db")[0]()) as storage:
        assert storage.is_connected()


def test_a_database_is_opened_by_either_without_zodburi(fleet, zeo, tmp_path):
    fleet.register("/db", zeo().address)
    file = tmp_path / "client.conf"
    file.write_text(section(f"zookeeper {fleet.session.hosts}", "server /db"))
    for number, where in enumerate((file, f"zkzeo://{fleet.session.hosts}/db"), 1):
        with closing(config.database(where)) as found:
            assert count(found) == number


def test_what_opens_no_database_is_refused(fleet, tmp_path):
    file = tmp_path / "client.conf"
    file.write_text(section("zookeeper x:1"))
    with pytest.raises(BadInput, match="server"):
        config.database(file)
    with pytest.raises(BadInput, match="no parameter of a client: connection_pool_size"):
        config.database("zkzeo://x:1/db?connection_pool_size=3")


@pytest.mark.parametrize(
    "uri", ["zkzeo://h:1", "zeo://h:1/db", "zkzeo://h:1/db/", "zkzeo://h:1//db", "zkzeo://h:1/db?wait_timeout=soon"]
)
def test_what_is_no_uri_is_refused(uri):
    with pytest.raises(BadInput):
        config.resolve(uri)
