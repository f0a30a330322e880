import copy
import json
import re
import sys
import threading
import time

import pytest
import transaction
from persistent import Persistent
from ZEO.ClientStorage import ClientStorage
from ZODB.ActivityMonitor import ActivityMonitor
from ZODB.DB import DB
from ZODB.MappingStorage import MappingStorage

from tests.conftest import wait_for
from tests.monitor.conftest import ask
from tests.zeo.plain import Zeo
from zkfleet import monitor
from zkfleet.errors import BadInput
from zkfleet.monitor import COMMANDS, Kind
from zkfleet.monitor.databases import Databases, watch
from zkfleet.monitor.families import told
from zkfleet.monitor.loading import load

SIZES = r"VmSize:\t +\d+ kB\nVmRSS:\t +\d+ kB\n"


@pytest.fixture
def say(tmp_path, main):
    """Asks a monitor with all commands of this process."""
    with monitor.start(str(tmp_path / "m.sock"), actions=True) as started:
        yield lambda *lines: ask(started.address, *lines)


def write(database, **values):
    with database.transaction() as connection:
        connection.root().update(values)


class Shy(Persistent):
    """An object that says when somebody shows it."""

    def __repr__(self):
        raise AssertionError("it was shown on another thread than its own")


def test_of_a_request_that_zope_says_is_told_which_it_is_and_no_secret(say, main):
    begun, over = threading.Event(), threading.Event()

    def publish():
        with main.transaction() as connection:
            # As ZPublisher.WSGIPublisher does it.
            environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/a", "HTTP_AUTHORIZATION": "Basic s3cret"}
            connection.setDebugInfo(environ, {"PARENTS": [Shy()], "__ac_password": "s3cret"})
            begun.set()
            over.wait(30)

    thread = threading.Thread(target=publish, name="publisher")
    thread.start()
    assert begun.wait(10)
    try:
        for asked in ["connections", "connections 0 * stacks", "monitor 0", "threads publisher"]:
            told = say(asked)
            assert "GET /a" in told
            assert "s3cret" not in told
    finally:
        over.set()
        thread.join(10)


# -- as they were


def test_monitor_counts_connections_and_tells_the_memory(say, main):
    assert re.fullmatch(f"0\n{SIZES}", say("monitor"))


def test_monitor_lists_old_connections_with_their_debug_info(say, main):
    first, second = main.open(transaction.TransactionManager()), main.open(transaction.TransactionManager())
    first.setDebugInfo("/foo")
    assert re.fullmatch(f"2\n{SIZES}", say("monitor"))
    assert re.fullmatch(rf"2\n{SIZES}(0\.\d+ (/foo)? \(\d\)\n){{2}}", say("monitor 0"))
    assert "/foo (" in say("monitor 0")
    first.close()
    second.close()
    assert re.fullmatch(f"0\n{SIZES}", say("monitor 0"))


def test_dbinfo_is_five_numbers(say, main):
    write(main, a=1)
    write(main, a=2)
    assert re.fullmatch(r"1 2 2 1 1\n", say("dbinfo"))
    assert say("dbinfo - 300") == say("dbinfo") == say("dbinfo -")
    assert say("dbinfo - 0").startswith("0 0 0 1 ")


def test_dbinfo_of_another_database_is_its_own(say, main):
    monitor.databases["other"] = other = DB(MappingStorage())
    write(main, a=1)
    assert say("dbinfo other").split()[1:3] == ["0", "0"]
    other.close()


def test_numbers_about_a_database_have_its_name(say, main):
    assert json.loads(say("json dbinfo"))["answer"]["database"] == "-"
    load()
    about = [one for one in told(COMMANDS) if any(parameter.name == "db" for parameter in one.parameters)]
    assert {"dbinfo", "zeocache", "zeoclient"} <= {one.name for one in about}
    for one in about:
        assert Kind.LABEL in [column.kind for column in one.columns if column.name == "database"], one.name


def test_a_database_that_is_not_there_is_said_with_those_that_are(say):
    assert "there is no database 'nothing'" in say("dbinfo nothing")


@pytest.mark.slow
def test_a_zeo_client_tells_of_its_cache_and_its_server(say, tmp_path):
    server = Zeo(tmp_path / "Data.fs")
    monitor.databases["zeo"] = client = DB(ClientStorage((server.host, server.port), wait_timeout=10))
    write(client, a=1)
    assert re.fullmatch(r"\d+ \d+ 0 0 \d+\n", say("zeocache zeo"))
    assert say("zeostatus zeo") == "True\n"
    assert say("ready") == "OK\n"
    server.freeze()
    try:
        asked = time.monotonic()
        assert re.fullmatch(r"\d+ \d \d \d \d\n", say("dbinfo zeo"))
        assert "zeo" in say("databases")
        say("ready")
        assert say("health") == "OK\n"
        assert time.monotonic() - asked < 5
    finally:
        server.thaw()
        server.kill()
    wait_for(lambda: "zeo has no server" in say("ready"), what="the client notices")
    assert say("zeostatus zeo") == "False\n"
    assert say("health") == "OK\n"
    client.close()


def test_a_database_without_zeo_has_no_zeo_cache(say):
    assert "has no ZEO server" in say("zeocache")
    assert "has no ZEO server" in say("zeostatus")


# -- about ZODB


def test_databases_are_listed_with_what_they_loaded_and_stored(say, main):
    write(main, a=1)
    (told,) = json.loads(say("json databases"))["answer"]
    assert (told["database"], told["stores"], told["connections"]) == ("-", 1, 0)


def test_a_storage_without_length_and_size_is_listed(say, main):
    class Plain(MappingStorage):
        def getSize(self):
            raise NotImplementedError

        __len__ = getSize

    monitor.databases["plain"] = plain = DB(Plain())
    told = json.loads(say("json databases"))["answer"]
    assert [(one["objects"], one["size"]) for one in told if one["database"] == "plain"] == [(None, None)]
    plain.close()


def test_a_hundred_connections_are_listed_the_oldest_first(say, main):
    opened = [main.open(transaction.TransactionManager()) for _ in range(100)]
    told = json.loads(say("json connections"))["answer"]
    assert len(told) == 100
    assert [one["age"] for one in told] == sorted((one["age"] for one in told), reverse=True)
    (pool,) = json.loads(say("json pool"))["answer"]
    assert pool["in_use"] == 100
    for connection in opened:
        connection.close()


class Slow(Persistent):
    """An object whose method takes its time."""

    def wait(self, begun, over):
        begun.set()
        over.wait(30)


@pytest.fixture
def busy(main):
    """A thread that is in a method of an object of the main database."""
    write(main, slow=Slow())
    begun, over = threading.Event(), threading.Event()

    def work():
        with main.transaction() as connection:
            connection.setDebugInfo("GET /slow")
            connection.root()["slow"].wait(begun, over)

    thread = threading.Thread(target=work, name="worker-7")
    thread.start()
    assert begun.wait(10)
    yield thread
    over.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_connection_is_told_with_the_thread_that_uses_it_and_its_stack_when_asked(say, main, busy):
    idle = [main.open(transaction.TransactionManager())]  # in no variable of its own
    told = json.loads(say("json connections 0 - stacks"))["answer"]
    assert [(one["info"].partition(" (")[0], one["thread"]) for one in told] == [("GET /slow", "worker-7"), ("", None)]
    assert any(" wait: over.wait(30)" in line for line in told[0]["stack"])
    text = say("connections 0 * stacks")
    assert "  in thread worker-7\n" in text
    assert "  in thread ?\n" in text
    assert "stack" not in json.loads(say("json connections"))["answer"][0]
    idle.pop().close()
    assert say("connections 9999 - stacks") == say("connections 9999")


def test_a_thread_is_told_with_the_connections_that_it_uses(say, main, busy):
    (told,) = json.loads(say("json threads worker-7"))["answer"]
    [note] = told["notes"]
    assert re.fullmatch(r"uses - for \d+\.\d{3} s: loads \d+, stores 0, GET /slow.*", note)


class Nosy(type):
    """A class of classes that notices whoever asks them anything."""

    def __getattribute__(cls, name):
        raise AssertionError(f"a class was asked for {name}")


class Noticing(Persistent):
    """An object that notices whoever asks it anything."""

    def __getattribute__(self, name):
        raise AssertionError(f"an object was asked for {name}")


class Odd:
    """A mapping for the names of a program that is no dict, and has nothing that it need not have."""

    def __init__(self, **values):
        self._values = values

    def __getitem__(self, name):
        return self._values[name]


def test_nothing_of_the_application_is_run_to_find_who_uses_a_connection(say, main):
    begun, over = threading.Event(), threading.Event()

    def work(connection):
        odd, shy = Nosy("Odd", (), {})(), Noticing()
        exec("begun.set(), over.wait(30)", {}, Odd(begun=begun, over=over, odd=odd, shy=shy))

    with main.transaction() as connection:
        thread = threading.Thread(target=work, args=(connection,), name="odd-1")
        thread.start()
        assert begun.wait(10)
        try:
            assert json.loads(say("json connections 0 - stacks"))["answer"][0]["thread"] == "odd-1"
            assert "uses - for " in say("threads odd-1")
        finally:
            over.set()
            thread.join(10)


def test_a_database_that_was_closed_does_not_hide_the_connections_of_others(say, main):
    monitor.databases["other"] = other = DB(MappingStorage())
    other.close()
    connection = main.open(transaction.TransactionManager())
    assert [one["database"] for one in json.loads(say("json connections"))["answer"]] == ["-"]
    connection.close()


def test_caches_are_counted_by_class(say, main):
    write(main, a=1)
    assert json.loads(say("json cache"))["answer"] == [{"class": "persistent.mapping.PersistentMapping", "objects": 1}]


def test_a_closed_database_is_said_to_be(say, main):
    main.close()
    assert "the database '-' is closed" in say("dbinfo")
    assert say("ready") == "databases: - is closed\n"
    (told,) = json.loads(say("json databases"))["answer"]
    assert told["open"] is False


def test_packing_is_done_when_it_says_so(say, main):
    write(main, a=1)
    assert say("pack 0 -").startswith("packed -: ")


def test_minimizing_leaves_ghosts_in_the_pool(say, main):
    write(main, a=1)
    assert say("minimize") == "minimized -: caches of 1 connections\n"
    assert say("dbinfo").split()[-1] == "0"


def test_what_changes_something_is_off_unless_enabled(tmp_path, main):
    with monitor.start(str(tmp_path / "off.sock")) as started:
        assert "packed" not in ask(started.address, "pack 0 -")
        assert "minimized" not in ask(started.address, "minimize")


# -- counting


def test_the_counts_go_on_where_zodb_forgets(main):
    main.getActivityMonitor().setHistoryLength(-1)
    write(main, a=1)
    write(main, a=2)
    assert watch(main).transfers()[1] == 2
    assert main.getActivityMonitor().getActivityAnalysis(divisions=1)[0]["stores"] == 0


def test_open_connections_count(main):
    with main.transaction() as connection:
        connection.cacheMinimize()
        before = watch(main).transfers()[0]
        connection.root()["a"] = 1
        assert watch(main).transfers()[0] == before + 1
    assert watch(main).transfers()[0] == before + 1


def test_the_applications_own_activity_monitor_is_told_all_the_same():
    database, own = DB(MappingStorage()), ActivityMonitor()
    database.setActivityMonitor(own)
    Databases()["x"] = database
    before = len(own.log)
    write(database, a=1)
    assert len(own.log) == before + 1
    database.close()


def test_a_name_that_is_taken_out_is_gone(main):
    found = Databases()
    found["x"] = main
    del found["x"]
    with pytest.raises(BadInput, match="no database 'x'"):
        found.named("x")


def test_putting_a_database_in_counts_no_connection_as_closed_once_more():
    database, activity = DB(MappingStorage()), ActivityMonitor()
    database.setActivityMonitor(activity)
    opened = [database.open() for _ in range(3)]
    for one in opened:
        one.close()
    assert len(activity.log) == 3
    Databases()["main"] = database
    assert len(activity.log) == 3
    database.open().close()
    database.setPoolSize(0)  # which drops it
    database.setPoolSize(7)
    database.open().close()
    assert len(activity.log) == 5
    database.close()
    assert len(activity.log) == 5


@pytest.fixture
def eager_threads():
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_several_threads_that_put_one_database_in_get_the_same_counts(eager_threads):
    together = threading.Barrier(4)
    kept = [DB(MappingStorage()) for _ in range(40)]
    found = [[] for _ in kept]

    def put_in():
        for database, those in zip(kept, found, strict=True):
            together.wait(10)
            those.append(watch(database))

    threads = [threading.Thread(target=put_in) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    for database, those in zip(kept, found, strict=True):
        assert len({id(one) for one in those}) == 1
        assert isinstance(database.getActivityMonitor(), ActivityMonitor)
        assert [one.__name__ for one in database.klass.__mro__].count("Heard") == 1
        database.close()


@pytest.mark.parametrize("name", [None, 1, "-", "*"])
def test_a_name_that_no_command_could_say_is_refused(name):
    database, kept = DB(MappingStorage()), Databases()
    with pytest.raises(BadInput, match="no name for a database"):
        kept[name] = database
    assert not kept
    assert database.getActivityMonitor() is None
    database.close()


def test_an_activity_monitor_that_is_set_later_is_told_and_is_its_owners(say, main):
    write(main, a=1)
    own = ActivityMonitor()
    main.setActivityMonitor(own)
    write(main, a=2)
    assert main.getActivityMonitor() is own
    assert json.loads(say("json databases"))["answer"][0]["stores"] == watch(main).transfers()[1] == 2
    assert main.getActivityMonitor() is own
    assert [stores for _, _, stores in own.log] == [1]
    main.setActivityMonitor(None)
    write(main, a=3)
    assert main.getActivityMonitor() is None
    assert say("dbinfo").startswith("-1 -1 -1 ")
    assert (len(own.log), watch(main).transfers()[1]) == (1, 3)


def test_counts_can_be_copied():
    database = DB(MappingStorage())
    counts = watch(database)
    write(database, a=1)
    assert copy.copy(counts).transfers() == counts.transfers() != (0, 0)
    database.close()


def test_a_clock_that_went_back_hides_no_connection(say, main):
    connection = main.open()
    connection.opened += 1000
    assert [row["age"] for row in json.loads(say("json connections"))["answer"]] == [0]
    assert say("monitor 0").splitlines()[-1].startswith("0.0 ")
    connection.close()
