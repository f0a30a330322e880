from pathlib import Path

import pytest

from tests.zeo.making import a_config, a_filestorage
from zkfleet.errors import BadInput
from zkfleet.monitor.settings import MonitorSettings
from zkfleet.zeo.settings import Options, read_settings

HOSTS = "127.0.0.1:2181"

# As the README of zc.zkzeo has it.
OLD = """
<zeo>
   address 127.0.0.1
</zeo>

<zookeeper>
   connection zookeeper.example.com:2181
   path /databases/demo
</zookeeper>

<filestorage>
   path demo.fs
</filestorage>
"""
OLD_AND_LONG = """
<zeo>
   address :8100
   transaction-timeout 30
   invalidation-queue-size 500
</zeo>

<zookeeper>
   connection zookeeper.example.com:2181
   path /databases/demo
   session-timeout 10000
   monitor-server 127.0.0.1:9090
</zookeeper>

<filestorage first>
   path first.fs
</filestorage>
<filestorage second>
   path second.fs
</filestorage>

<eventlog>
  level info
  <logfile>
    path STDOUT
  </logfile>
</eventlog>
<runner>
  program zkrunzeo -C zeo.conf
</runner>
"""


def test_old_files_are_read():
    settings = read_settings(OLD)
    assert settings.address == ("127.0.0.1", 0)
    assert settings.port_is_dynamic
    assert list(settings.storages) == ["1"]
    assert settings.zookeeper.connection == "zookeeper.example.com:2181"
    assert settings.zookeeper.path == "/databases/demo"
    assert settings.zookeeper.session_timeout == 10
    assert not settings.zookeeper.standby


def test_old_files_with_everything_in_them_are_read():
    settings = read_settings(OLD_AND_LONG)
    assert settings.address == ("", 8100)
    assert list(settings.storages) == ["first", "second"]
    assert settings.zookeeper.session_timeout == 10
    assert settings.zookeeper.monitor == MonitorSettings(("127.0.0.1", 9090))
    assert settings.options["transaction_timeout"] == 30
    assert settings.options["invalidation_queue_size"] == 500


@pytest.mark.parametrize(
    ("address", "listened"),
    [
        (None, ("", 0)),
        ("8100", ("", 8100)),
        (":8100", ("", 8100)),
        ("127.0.0.1", ("127.0.0.1", 0)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("127.0.0.1:8100", ("127.0.0.1", 8100)),
        ("[::1]:8100", ("::1", 8100)),
        ("[::]:8100", ("", 8100)),
        ("/tmp/zeo.sock", "/tmp/zeo.sock"),
    ],
)
def test_addresses(address, listened):
    assert read_settings(a_config(address=address, zookeeper=HOSTS)).address == listened


def test_a_unix_path_is_no_dynamic_port():
    assert not read_settings(a_config(address="/tmp/zeo.sock")).port_is_dynamic


def test_all_keys_of_the_section():
    more = (
        "advertise 10.0.0.0/8\nstandby on\ndrain-timeout 2.5\nsession-timeout 1500\njute-maxbuffer 4194304\n"
        "max-connections 50\nmonitor-server /tmp/monitor"
    )
    zookeeper = read_settings(a_config(zookeeper=HOSTS, more=more)).zookeeper
    assert zookeeper.advertise == "10.0.0.0/8"
    assert zookeeper.standby
    assert zookeeper.drain_timeout == 2.5
    assert zookeeper.max_connections == read_settings(a_config(zookeeper=HOSTS, more=more)).max_connections == 50
    assert zookeeper.session_timeout == 1.5
    assert zookeeper.jute_maxbuffer == 4_194_304
    assert zookeeper.monitor == MonitorSettings("/tmp/monitor")


def test_keys_about_who_may_ask_the_monitor():
    more = "monitor-server 9090\nmonitor-token-file /t\nmonitor-certificate /c\nmonitor-key /k\nmonitor-authorities /a"
    more += "\nmonitor-actions on\nmonitor-http :9645"
    zookeeper = read_settings(a_config(zookeeper=HOSTS, more=more)).zookeeper
    here = "127.0.0.1"
    said = MonitorSettings((here, 9090), (here, 9645), "/t", "/c", "/k", "/a", actions=True)
    assert zookeeper.monitor == said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("monitor-token-file /t", "monitor-token-file is of no use without monitor-server"),
        ("monitor-actions on", "monitor-actions is of no use without monitor-server"),
        ("monitor-server 9090\nmonitor-key /k", "monitor-key is of no use without monitor-certificate"),
        ("monitor-server 9090\nmonitor-authorities /a", "monitor-authorities is of no use without monitor-certificate"),
    ],
)
def test_a_key_about_the_monitor_that_does_nothing_is_refused(more, said):
    with pytest.raises(BadInput, match=said):
        read_settings(a_config(zookeeper=HOSTS, more=more))


STORAGES = "<mappingstorage main>\n</mappingstorage>\n<mappingstorage Other>\n</mappingstorage>\n"


def paths(*lines):
    return "\n".join(["<storage-paths>", *lines, "</storage-paths>"])


def test_storages_may_have_paths_of_their_own():
    text = a_config(zookeeper=HOSTS, path="/rest", storage=STORAGES, more=paths("OTHER /databases/other"))
    settings = read_settings(text)
    assert settings.zookeeper.places(list(settings.storages)) == {"/rest": ["main"], "/databases/other": ["other"]}


def test_without_them_one_path_has_all():
    settings = read_settings(a_config(zookeeper=HOSTS, path="/all", storage=STORAGES))
    assert settings.zookeeper.places(list(settings.storages)) == {"/all": ["main", "other"]}


def test_the_command_line_has_the_last_word(tmp_path):
    (tmp_path / "zeo.conf").write_text(a_config(address="8100"))
    options = Options()
    options.realize(["-C", str(tmp_path / "zeo.conf"), "-a", "127.0.0.1:8200", "-t", "5"])
    assert options.settings().address == ("127.0.0.1", 8200)
    assert options.settings().options["transaction_timeout"] == 5


def test_the_command_line_is_enough(tmp_path):
    options = Options()
    options.realize(["-a", "8100", "-f", str(tmp_path / "Data.fs"), "-X", "x/y=1"][:-2])
    assert options.settings().zookeeper is None
    assert list(options.settings().storages) == ["1"]


BAD = {
    "no address and no ZooKeeper": (a_config(), "no server address"),
    "an unknown key": (a_config(address="1", zeo="  colour blue"), "configuration:3: 'colour' is not a known key"),
    "a relative path": (a_config(zookeeper=HOSTS, path="here"), "configuration:5: not an absolute path: 'here'"),
    "seconds": (
        a_config(zookeeper=HOSTS, more="session-timeout 10"),
        "configuration:6: 10 ms is no session timeout",
    ),
    "no bytes": (a_config(zookeeper=HOSTS, more="jute-maxbuffer 4MB"), "configuration:6: jute_maxbuffer is a number"),
    "no number": (
        a_config(zookeeper=HOSTS, more="drain-timeout soon"),
        "configuration:6: soon is no number of seconds",
    ),
    "no room": (a_config(zookeeper=HOSTS, more="max-connections 0"), "configuration:6: 0 is no number of connections"),
    "for ever": (a_config(zookeeper=HOSTS, more="drain-timeout inf"), "configuration:6: inf is no number of seconds"),
    "a connection string": (a_config(zookeeper="a:b:c"), "configuration:4: the connection string 'a:b:c'"),
    "no path": (a_config(zookeeper=HOSTS).replace("  path /databases/main\n", ""), "path is missing"),
    "no storage": (a_config(address="1", storage=" "), "not enough values for section type 'zodb.storage'"),
    "an open section": ("<zeo>\n", "configuration:1: unclosed sections"),
    "no text": ("zeo.conf", "'zeo.conf' is no configuration"),
    "a path for nothing": (a_config(zookeeper=HOSTS, more=paths("x /x")), "no storage is named x; there are 1"),
    "two without a name": (
        a_config(address="1", storage="<mappingstorage>\n</mappingstorage>\n" * 2),
        "may be unnamed",
    ),
    "a storage without a path": (
        a_config(zookeeper=HOSTS, storage=STORAGES, more=paths("main /x")).replace("  path /databases/main\n", ""),
        "the storage other has no path",
    ),
}


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=list(BAD))
def test_what_is_wrong_is_told_with_its_place(text, said):
    with pytest.raises(BadInput) as caught:
        read_settings(text)
    assert said in str(caught.value)


def test_files_are_named(tmp_path):
    file = tmp_path / "a file.conf"
    file.write_text(a_config(zookeeper=HOSTS, path="here"))
    with pytest.raises(BadInput, match=f"{file}:5: not an absolute path") as caught:
        read_settings(file)
    assert caught.value.hint == "begin it with a slash"


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(BadInput, match="/no/such/file"):
        read_settings(Path("/no/such/file"))


@pytest.mark.parametrize(
    ("config", "message", "hint"),
    [
        (a_config(zookeeper="127.0.0.1:1", more="  stanby on"), "'stanby' is not a known key name", "is standby"),
        (a_config(address="99999999"), "address '99999999' is no port", "HOST:PORT"),
        (a_config(zookeeper="127.0.0.1:1", more="  session-timeout 10"), "10 ms is no", "write a number from"),
        (
            a_config(address="8100", storage=a_filestorage("/nope/none/Data.fs")),
            "/nope/none/Data.fs does not exist",
            "make the directory",
        ),
    ],
    ids=["key", "port", "timeout", "directory"],
)
def test_what_is_wrong_comes_with_a_remedy(config, message, hint):
    with pytest.raises(BadInput) as caught:
        read_settings(config)
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_an_override_of_nothing_is_named(tmp_path):
    (tmp_path / "zeo.conf").write_text(a_config(address="8100"))
    options = Options()
    with pytest.raises(BadInput, match="-X foo/bar=1: the configuration has no such section") as caught:
        options.realize(["-C", str(tmp_path / "zeo.conf"), "-X", "foo/bar=1"])
    assert "SECTION/KEY=VALUE" in caught.value.hint
