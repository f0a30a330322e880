"""Clients that are configured in files and by URIs."""

import io
import re
import socket
import subprocess
import sys
import textwrap
from contextlib import closing

import pytest
import ZConfig
import ZODB.config
import zodburi
from ZODB.POSException import ReadOnlyError

from tests.zeo.test_client import count
from zkfleet.errors import BadInput, ConnectFailed
from zkfleet.testing.zookeeper import free_port
from zkfleet.zeo import config, options

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


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("password x", "ZEO has no passwords since version 5: .* use a <tls> section"),
        ("username x", "ZEO has no passwords"),
        ("on-behind hope", "on_behind is one of wait, refuse, clear, not 'hope'"),
        ("on-delisted hope", "on_delisted is one of"),
        ("prefer eu", "write it as zone=eu-1"),
        ("database x", "zkfleet zeo status"),
        ("on-behind hope", "clear drops the cache"),
        ("leave-after -1", "positive number"),
        ("ping-timeout 0", "positive number of seconds, not 0.0 .write a number of seconds"),
        ("wait-timeout soon", "wait-timeout soon: this is not a whole number"),
        ("wait-timeout -1", "wait_timeout is a number of seconds .*, not -1 .write a number of seconds"),
        ("leave-after soon", "leave-after soon: this is not a number of seconds"),
        ("ping-interval often", "this is not a number of seconds, or off"),
        ("cache-size huge", "cache-size huge: this is not a number of bytes"),
        ("blob-cache-size-check x", "this is not a whole number"),
        ("wait-tiemout 5", "'wait-tiemout' is not a known key name .is it wait-timeout.*"),
        ("Blob-Dri /x", "is it blob-dir"),
        ("xyz 5", "'xyz' is not a known key name"),
    ],
)
def test_what_a_section_may_not_say_is_an_error_with_line_file_and_remedy(tmp_path, line, words):
    file = tmp_path / "zodb.conf"
    file.write_text(section("server /db", line))
    with pytest.raises(ZConfig.ConfigurationError, match=words) as caught:
        ZODB.config.databaseFromURL(str(file))
    assert f"(line 5, in file://{file})" in str(caught.value)


def test_keys_that_exclude_each_other_are_an_error_that_names_the_section():
    with pytest.raises(
        ZConfig.ConfigurationError, match=r"<zkzeoclient> of server /db: .*read_only_fallback writes if it can"
    ):
        ZODB.config.databaseFromString(section("server /db", "read-only on", "read-only-fallback on"))


@pytest.mark.parametrize("key", ["authenticate", "certificate"])
def test_a_file_that_is_no_certificate_is_named_with_the_line(tmp_path, key):
    (tmp_path / "no.pem").write_text("nothing")
    file = tmp_path / "zodb.conf"
    file.write_text(section("server /db", "<tls>", f"{key} {tmp_path}/no.pem", "</tls>"))
    with pytest.raises(ZConfig.ConfigurationError, match=f"<tls>: {key} {tmp_path}/no.pem.* PEM format") as caught:
        ZODB.config.databaseFromURL(str(file))
    assert re.search(rf"line \d.*, in file://{file}", str(caught.value))


def test_without_zeo_the_import_says_what_to_install():
    code = (
        "import sys; sys.modules['ZEO'] = None; import ZODB.config;"
        "ZODB.config.databaseFromString('%import zkfleet.zeo')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "zkfleet.zeo needs ZEO, which comes with the extra zkfleet[zeo]" in done.stderr


def test_a_key_that_does_nothing_is_logged_once_a_process(fleet, caplog):
    options._log_outdated.cache_clear()
    for _ in range(3):
        with pytest.warns(DeprecationWarning, match="min_disconnect_poll does nothing"):
            ZODB.config.storageFromString(
                "%import zkfleet.zeo\n<zkzeoclient>\nserver /db\nwait off\nmin-disconnect-poll 4\n"
                f"zookeeper {fleet.session.hosts}\n</zkzeoclient>"
            ).close()
    assert caplog.text.count("zeo_option_outdated option=min_disconnect_poll: it does nothing") == 1


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
    with pytest.raises(BadInput, match="no parameter of a client, but of a database: connection_pool_size"):
        config.database("zkzeo://x:1/db?connection_pool_size=3")


@pytest.mark.parametrize(
    "uri", ["zkzeo://h:1", "zeo://h:1/db", "zkzeo://h:1/db/", "zkzeo://h:1//db", "zkzeo://h:1/db?wait_timeout=soon"]
)
def test_what_is_no_uri_is_refused(uri):
    with pytest.raises(BadInput):
        config.resolve(uri)


@pytest.mark.parametrize("yes", ["1", "t", "T", "yes", "on", "true"])
@pytest.mark.parametrize("no", ["0", "f", "no", "off", ""])
def test_a_uri_takes_the_words_that_zodburi_takes_for_yes_and_no(monkeypatch, yes, no):
    monkeypatch.setattr(config, "client", lambda _hosts, _path, **options: options)
    ours = zodburi.resolve_uri(f"zkzeo://h:1/db?wait={yes}&read_only={no}&shared_blob_dir={yes}&blob_dir=x")[0]()
    assert ours == {"wait": True, "read_only": False, "shared_blob_dir": True, "blob_dir": "x"}


def test_preferences_may_be_repeated_in_a_uri(monkeypatch):
    monkeypatch.setattr(config, "client", lambda _hosts, _path, **options: options)
    assert config.resolve("zkzeo://h:1/db?prefer=a%3D1&prefer=b%3D2&prefer=c%3D3")[0]() == {
        "prefer": ["a=1", "b=2", "c=3"]
    }


@pytest.mark.parametrize(
    ("option", "kind"),
    [
        ("wait_timeout=abc", "a whole number"),
        ("wait_timeout=", "a whole number"),
        ("read_only=maybe", "1 or 0"),
        ("leave_after=soon", "a number of seconds"),
        ("ping_interval=often", "a number of seconds, or off"),
        ("cache_size=20TB", "a number of bytes"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_with_the_right_one(option, kind):
    with pytest.raises(BadInput, match=re.escape(f"{option}: this is not {kind}")) as caught:
        config.resolve(f"zkzeo://h:1/db?{option}")
    assert kind in caught.value.hint


@pytest.mark.parametrize(
    ("parameter", "words", "hint"),
    [
        ("storag=1", "no parameter of a client: storag", "is it storage?"),
        ("ssl=1", "no parameter of a client: ssl", "zkfleet.zeo.DB(ssl=...), or <tls>"),
        ("ssl_server_hostname=h", "no parameter of a client: ssl_server_hostname", "zkfleet.zeo.DB(ssl=...)"),
        ("xyz=1", "no parameter of a client: xyz", "there are chroot, "),
        ("connection_pool_size=abc", "connection_pool_size=abc: this is not a whole number", "whole number"),
        ("wait_timeout=5&wait_timeout=6", "zkzeo://h:1/db: the parameter wait_timeout is there twice", "leave one"),
        ("chroot=/a&chroot=/b", "the parameter chroot is there twice", "leave one"),
    ],
)
def test_a_parameter_that_is_none_is_told_with_what_is_meant(parameter, words, hint):
    for open_it in (zodburi.resolve_uri, config.database):
        with pytest.raises(BadInput, match=words) as caught:
            open_it(f"zkzeo://h:1/db?{parameter}")
        assert hint in caught.value.hint


def test_the_values_of_databases_may_have_units():
    _, options = zodburi.resolve_uri("zkzeo://h:1/db?connection_cache_size_bytes=20MB")
    assert options["cache_size_bytes"] == 20 << 20


def test_a_dead_ensemble_is_told_with_what_a_client_can_do_about_it():
    uri = f"zkzeo://127.0.0.1:{free_port()}/db?wait_timeout=1"
    with pytest.raises(ConnectFailed) as caught:
        config.database(uri)
    assert "wait-timeout in a file" in caught.value.hint
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ConnectFailed) as caught:
        config.database(f"zkzeo://127.0.0.1:{silent.getsockname()[1]}/db?wait_timeout=1")
    assert "open a registry with tls=" in caught.value.hint
    assert "--" not in caught.value.hint


@pytest.mark.parametrize(
    "uri", ["zkzeo://user:secret@h", "zkzeo://user:secret@h:1/db", "zeo://user:secret@h:1/db?x=secret"]
)
@pytest.mark.parametrize("open_it", [config.resolve, config.database])
def test_no_secret_of_a_uri_is_shown(uri, open_it):
    with pytest.raises(BadInput) as caught:
        open_it(uri)
    assert "secret" not in f"{caught.value} {caught.value.hint}"
    assert "...@h" in str(caught.value)
