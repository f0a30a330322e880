import threading
import time
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import transaction
from hypothesis import given
from hypothesis import strategies as st
from persistent.mapping import PersistentMapping
from ZEO.ClientStorage import ClientStorage
from ZEO.Exceptions import ClientDisconnected
from ZODB import DB
from ZODB.utils import p64, z64

from tests.conftest import wait_for
from tests.zeo.asked import Losing, ZeoServer
from tests.zeo.linked import opened
from zkfleet import zeo
from zkfleet.errors import BadInput
from zkfleet.zeo import Outcome, outcomes
from zkfleet.zeo.outcomes import KEY, Marker, Place, search

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.usefixtures("quiet")]
EITHER = [("reply", Outcome.COMMITTED), ("request", Outcome.NOT_COMMITTED)]


@pytest.fixture
def db(linked):
    change(linked, lambda root: root.__setitem__("n", 0))
    return linked


def change(db, how):
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    try:
        how(connection.root())
        manager.commit()
    finally:
        manager.abort()
        connection.close()


def add(root):
    root["n"] += 1


def try_to(db, how=add, **options):
    """Commit something that is marked, and see it fail; return the marker."""
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    try:
        marker = zeo.mark(manager.begin())
        how(connection.root())
        with pytest.raises(ClientDisconnected):
            manager.commit()
    finally:
        manager.abort()
        connection.close()
    return marker


def value(db):
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    try:
        return connection.root()["n"]
    finally:
        connection.close()


def test_when_the_reply_is_lost_it_is_committed(db, link, other):
    link.lose("tpc_finish", "reply")
    verdict = zeo.outcome(db, try_to(db))
    assert verdict.outcome is Outcome.COMMITTED
    wait_for(lambda: other.storage.lastTransaction() == verdict.tid)
    assert value(other) == 1


@pytest.mark.parametrize("call", ["tpc_begin", "storea", "vote", "tpc_finish"])
def test_when_a_request_is_lost_it_is_not_committed(db, link, other, call):
    link.lose(call, "request")
    assert zeo.outcome(db, try_to(db)).outcome is Outcome.NOT_COMMITTED
    assert value(other) == 0


def test_when_the_reply_to_the_vote_is_lost_it_is_not_committed(db, link, other):
    link.lose("vote", "reply")
    assert zeo.outcome(db, try_to(db)).outcome is Outcome.NOT_COMMITTED
    assert value(other) == 0


def test_a_transaction_has_one_mark_however_many_layers_ask_for_it(db, link):
    def work(root):
        add(root)
        inner.append(zeo.mark(root._p_jar.transaction_manager.get()))

    inner = []
    link.lose("tpc_finish", "reply")
    outer = try_to(db, work)
    assert inner == [outer]
    assert zeo.outcome(db, outer).outcome is Outcome.COMMITTED


def test_each_attempt_has_a_mark_of_its_own():
    manager = transaction.TransactionManager()
    first = zeo.mark(manager.begin())
    manager.abort()
    assert zeo.mark(manager.begin()).id != first.id


def test_a_mark_is_given_again_after_a_hook_that_failed(db):
    def fail():
        raise OSError

    manager = transaction.TransactionManager()
    connection = db.open(manager)
    try:
        asked = manager.begin()
        marker = zeo.mark(asked)
        asked.addBeforeCommitHook(fail)
        add(connection.root())
        with pytest.raises(OSError):
            manager.commit()
        assert zeo.mark(asked) is marker
        manager.commit()
        assert zeo.outcome(db, marker).outcome is Outcome.COMMITTED
    finally:
        manager.abort()
        connection.close()


def test_a_lock_of_one_connection_is_no_proof_for_the_log_of_another(db, link, server, monkeypatch):
    """What has the lock ends, and the next connection may be to a server that lags."""
    link.lose("tpc_finish", "late")
    marker, locked, looked = try_to(db), [], []
    get, look = outcomes._Question._get_commit_lock, outcomes._Question._look

    def get_and_lose(question):
        connection = get(question)
        if not locked:
            server.kill()
            server.start()
            wait_for(lambda: db.storage._connection_generation >= connection + 2, 20)
        locked.append(connection)
        return connection

    def note(question, connection):
        looked.append(connection)
        return look(question, connection)

    monkeypatch.setattr(outcomes._Question, "_get_commit_lock", get_and_lose)
    monkeypatch.setattr(outcomes._Question, "_look", note)
    link.forget()
    assert zeo.outcome(db, marker).outcome is Outcome.NOT_COMMITTED
    assert len(locked) == 2
    assert looked[-1] == locked[-1] == db.storage._connection_generation


def asked_in_another_thread(db, marker, **options):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(zeo.outcome(db, marker, **options)))
    thread.start()
    return thread, answers


def wants_the_commit_lock(db):
    """Whether the server has made somebody wait for the commit lock."""
    return db.storage.server_status()["waiting"]


def test_a_request_that_is_late_is_waited_for(db, link, other):
    link.lose("tpc_finish", "late")
    marker = try_to(db)
    thread, answers = asked_in_another_thread(db, marker)
    wait_for(lambda: wants_the_commit_lock(other))
    assert not answers
    link.deliver()
    thread.join(10)
    assert [verdict.outcome for verdict in answers] == [Outcome.COMMITTED]


def test_a_request_that_is_late_and_never_comes_is_waited_for(db, link, other):
    link.lose("tpc_finish", "late")
    marker = try_to(db)
    thread, answers = asked_in_another_thread(db, marker)
    wait_for(lambda: wants_the_commit_lock(other))
    link.forget()
    thread.join(10)
    assert [verdict.outcome for verdict in answers] == [Outcome.NOT_COMMITTED]


def test_a_lock_that_is_not_to_be_had_leaves_it_unknown(db, link, other):
    link.lose("tpc_finish", "late")
    verdict = zeo.outcome(db, try_to(db), timeout=0.5)
    assert verdict.outcome is Outcome.UNKNOWN
    assert "commit lock" in verdict.reason
    link.forget()
    wait_for(lambda: not wants_the_commit_lock(other))
    change(db, add)


def test_a_server_that_dies_between_vote_and_finish_has_not_committed(db, link, server):
    link.lose("tpc_finish", "late")

    def restart():
        link.lost.wait(10)
        server.kill()
        server.start()

    thread = threading.Thread(target=restart)
    thread.start()
    marker = try_to(db)
    assert zeo.outcome(db, marker).outcome is Outcome.NOT_COMMITTED
    thread.join(10)
    assert value(db) == 0


@pytest.mark.parametrize(("what", "expected"), EITHER)
def test_an_object_that_others_wrote_200_times_since_is_no_obstacle(db, link, other, what, expected):
    link.lose("tpc_finish", what)
    marker = try_to(db)
    for _ in range(200):
        change(other, add)
    began = time.monotonic()
    assert zeo.outcome(db, marker).outcome is expected
    assert time.monotonic() - began < 5
    assert value(other) == 200 + (expected is Outcome.COMMITTED)


@pytest.mark.parametrize(("what", "expected"), EITHER)
def test_new_objects_alone_are_enough(db, link, what, expected):
    link.lose("tpc_finish", what)
    marker = try_to(db, lambda root: root._p_jar.add(PersistentMapping()))
    assert zeo.outcome(db, marker).outcome is expected


@pytest.mark.parametrize(("what", "expected"), EITHER)
def test_what_changed_in_savepoints_and_in_late_hooks_counts(db, link, what, expected):
    def work(root):
        manager = root._p_jar.transaction_manager
        root["early"] = PersistentMapping()
        manager.savepoint()
        manager.get().addBeforeCommitHook(add, (root,))

    link.lose("tpc_finish", what)
    assert zeo.outcome(db, try_to(db, work)).outcome is expected


def test_a_database_that_a_hook_brings_in_counts(db, link):
    def work(root):
        root._p_jar.transaction_manager.get().addBeforeCommitHook(add, (root,))

    link.lose("tpc_finish", "reply")
    assert zeo.outcome(db, try_to(db, work)).outcome is Outcome.COMMITTED


@pytest.mark.parametrize(("what", "expected"), EITHER)
def test_an_undo_is_found_as_well(db, link, what, expected):
    change(db, add)
    undone = db.undoLog(0, -1)[0]["id"]
    link.lose("tpc_finish", what)
    marker = try_to(db, lambda root: db.undo(undone, root._p_jar.transaction_manager.get()))
    assert zeo.outcome(db, marker).outcome is expected


def test_packed_meanwhile_it_is_found_or_unknown(db, link, other):
    link.lose("tpc_finish", "reply")
    marker = try_to(db)
    other.pack()
    assert zeo.outcome(db, marker).outcome is Outcome.COMMITTED
    change(other, add)
    other.pack()
    verdict = zeo.outcome(db, marker)
    assert verdict.outcome is Outcome.UNKNOWN
    assert "packed" in verdict.reason


def test_packed_before_it_is_not_committed(db, link, other):
    change(other, add)
    other.pack()
    wait_for(lambda: db.storage.lastTransaction() == other.storage.lastTransaction())
    link.lose("tpc_finish", "request")
    assert zeo.outcome(db, try_to(db)).outcome is Outcome.NOT_COMMITTED


def test_only_what_can_write_is_sure_that_it_is_not_there(db, link, server):
    link.lose("tpc_finish", "request")
    marker = try_to(db)
    reader = opened(server.address, read_only=True)
    try:
        verdict = zeo.outcome(reader, marker)
        assert verdict.outcome is Outcome.UNKNOWN
        assert "written to" in verdict.reason
        link.lose("tpc_finish", "reply")
        assert zeo.outcome(reader, try_to(db)).outcome is Outcome.COMMITTED
    finally:
        reader.close()


class Interrupted(ClientStorage):
    """A client whose connection is lost, and back, in the middle of a look through the log."""

    interruptions = ()

    def iterator(self, start=None, stop=None):
        log = super().iterator(start, stop)
        if not self.interruptions:
            yield from log
            return
        interrupt, said = self.interruptions.pop()
        yield next(log)
        number = log._iid
        interrupt()
        wait_for(self.is_connected, 20)
        if said is KeyError:
            self._call("iterator_next", number)  # as a request that had waited does


@pytest.mark.parametrize("said", [KeyError, None])
def test_a_look_through_the_log_that_was_interrupted_is_none(server, link, other, said):
    """The server answers to a number of the connection before: that it knows none, or what it has under it now."""

    def restart():
        generation = storage._connection_generation
        server.kill()
        server.start()
        wait_for(lambda: storage._connection_generation >= generation + 2, 20)

    storage = Interrupted(link.address, wait_timeout=10)
    db = DB(storage)
    try:
        change(db, lambda root: root.__setitem__("n", 0))
        link.lose("tpc_finish", "reply")
        marker = try_to(db)
        storage.interruptions = [(restart, said)] * 2
        assert zeo.outcome(db, marker).outcome is Outcome.COMMITTED
        assert not storage.interruptions
    finally:
        db.close()


def test_two_look_through_the_log_one_after_the_other(server, link, db):
    link.lose("tpc_finish", "reply")
    marker = try_to(db)
    with outcomes._lock_of(db.storage):
        thread, answers = asked_in_another_thread(db, marker)
        assert zeo.outcome(db, marker, timeout=0.2).outcome is Outcome.UNKNOWN
        assert not answers
    thread.join(10)
    assert [verdict.outcome for verdict in answers] == [Outcome.COMMITTED]


def test_without_a_server_it_is_unknown(db, link, server):
    link.lose("tpc_finish", "request")
    marker = try_to(db)
    server.kill()
    wait_for(lambda: not db.storage.is_connected())
    began = time.monotonic()
    verdict = zeo.outcome(db, marker, timeout=0.5)
    assert verdict.outcome is Outcome.UNKNOWN
    assert time.monotonic() - began < 2
    server.start()
    assert zeo.outcome(db, marker).outcome is Outcome.NOT_COMMITTED


@pytest.fixture
def two(tmp_path):
    """Two databases that take part in one transaction, and the links to them, by name."""
    databases = {}
    with ExitStack() as opened:
        links = {}
        for name in "ab":
            folder = tmp_path / name
            folder.mkdir()
            server = opened.enter_context(ZeoServer(folder))
            links[name] = opened.enter_context(Losing(server.port))
            storage = ClientStorage(links[name].address, wait_timeout=10)
            opened.callback(DB(storage, databases=databases, database_name=name).close)
        yield databases, links


def write_both(root):
    for name in "ab":
        root._p_jar.get_connection(name).root()["n"] = 1


def test_what_failed_before_any_database_finished_is_not_committed(two):
    databases, links = two
    links["a"].lose("vote", "request")
    assert zeo.outcome(databases["a"], try_to(databases["a"], write_both)).outcome is Outcome.NOT_COMMITTED


def test_what_is_in_one_database_and_not_in_the_other_is_told(two):
    databases, links = two
    last = max("ab", key=lambda name: databases[name].storage.sortKey())
    links[last].lose("tpc_finish", "request")
    marker = try_to(databases["a"], write_both)
    verdict = zeo.outcome(databases["a"], marker)
    assert verdict.outcome is Outcome.UNKNOWN
    assert f"{last}: not committed" in verdict.reason
    with pytest.raises(BadInput, match="took part"):
        zeo.outcome(databases["a"].storage, marker)


def test_what_never_began_is_not_committed():
    marker = zeo.mark(transaction.TransactionManager().begin())
    assert zeo.outcome(None, marker).outcome is Outcome.NOT_COMMITTED


def test_what_wrote_nothing_is_not_committed():
    manager = transaction.TransactionManager()
    marker = zeo.mark(manager.begin())
    manager.commit()
    assert zeo.outcome(None, marker).outcome is Outcome.NOT_COMMITTED


def test_a_database_that_took_part_and_is_not_known_is_refused():
    with pytest.raises(BadInput, match="'b' took part"):
        zeo.outcome(SimpleNamespace(databases={}), Marker("x", (Place("b", z64),)))


def logged(tid, marker="", status=" "):
    return SimpleNamespace(tid=p64(tid), extension={KEY: marker} if marker else {}, status=status)


@given(st.lists(st.integers(0, 2), min_size=2, max_size=8), st.data())
def test_packing_never_makes_a_committed_one_look_uncommitted(written, data):
    """Transaction n wrote the object `written[n]`; packing keeps the last writer of each until then."""
    since = data.draw(st.integers(0, len(written) - 2))
    ours = data.draw(st.integers(since + 1, len(written) - 1))
    packed = data.draw(st.integers(-1, len(written) - 1))
    last = {what: n for n, what in enumerate(written[: packed + 1])}
    log = [
        logged(n + 1, "it" if n == ours else "", "p" if n <= packed else " ")
        for n in range(since, len(written))
        if n > packed or n in last.values()
    ]
    found = search(log, p64(since + 1), "it").outcome
    assert found is not Outcome.NOT_COMMITTED
    assert (found is Outcome.COMMITTED) == any(each.tid == p64(ours + 1) for each in log)


@given(st.sampled_from(" p"), st.integers(0, 5))
def test_a_whole_log_without_the_mark_is_proof(status, after):
    log = [logged(1, status=status), *(logged(n + 2, "another") for n in range(after))]
    assert search(log, p64(1), "it").outcome is Outcome.NOT_COMMITTED


def test_an_answer_that_comes_as_time_runs_out_is_told(tmp_path):
    def hold(frame, event, _value):
        if event == "return" and frame.f_code is outcomes._Question.answer.__code__:
            over.wait(0.2)  # the answer is there, and nobody has it yet

    db, manager, over = DB(str(tmp_path / "data.fs")), transaction.TransactionManager(), threading.Event()
    connection = db.open(manager)
    marker = outcomes.mark(manager.begin())
    add(connection.root().setdefault("there", {"n": 0}))
    manager.commit()
    threading.setprofile(hold)
    try:
        assert zeo.outcome(db, marker, timeout=0.1).outcome is Outcome.COMMITTED
    finally:
        threading.setprofile(None)
        connection.close()
        db.close()
