import functools
import pickle
import sys
import types

import pytest
import transaction
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from persistent.mapping import PersistentMapping
from ZODB import DB
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import ConflictError

from tests.calls.conftest import get, put
from tests.calls.things import Counter
from zkfleet import calls
from zkfleet.calls import threads
from zkfleet.calls.references import Request
from zkfleet.calls.running import Run
from zkfleet.errors import BadInput, Closed, ObjectGone

CONTAINERS = calls.Policy(allow_containers=True)


# -- what is found again


def test_a_persistent_object_can_be_called_and_be_an_argument(db, root):
    put(db, other=Counter(10))
    root._p_jar.sync()
    assert threads.run(root["counter"], 4) == 4
    assert threads.run(root["counter"].take_from, root["other"], number=3) == 7
    assert get(db, "other") == 7


def test_keyword_arguments_are_found_as_well(db, root, counter):
    put(db, other=Counter(10))
    root._p_jar.sync()
    threads.run(counter.take_from, other=root["other"])
    assert get(db, "other") == 9


def test_partials_of_all_kinds_are_found(db, counter):
    threads.run(functools.partial(functools.partial(counter.add, 2)))
    threads.run(functools.partial(Counter.add, counter, number=3))
    threads.run(counter.tenfold)
    assert get(db) == 15


def test_a_method_of_a_tree_that_got_new_content_sees_it(db, root):
    put(db, tree=OOBTree())
    root._p_jar.sync()
    pop = root["tree"].pop
    put(db, tree2=None)
    with db.transaction() as connection:
        connection.root()["tree"]["a"] = 1
    assert threads.run(pop, "a") == 1


def test_a_ghost_is_not_loaded_to_be_passed(root, counter):
    counter._p_deactivate()
    threads.run(Counter.add, counter)
    assert counter._p_changed is None


def test_containers_are_copied_with_their_objects_if_that_is_asked_for(db, root, counter):
    put(db, other=Counter(5))
    root._p_jar.sync()
    given = [counter, root["other"]]
    assert threads.run(counter.sum_of, given, policy=CONTAINERS) == 5
    nested = {"all": ([counter], {"deep": (counter, 1)}), "plain": [1, 2]}
    kind = threads.run(Counter.run, counter, shape, nested, policy=CONTAINERS)
    assert kind == "{'all': ([Counter], {'deep': (Counter, 1)}), 'plain': [1, 2]}"
    assert given[0] is counter


def shape(_counter, value):
    def of(value):
        if isinstance(value, Counter):
            assert value._p_jar.opened
        return type(value).__name__ if isinstance(value, Counter) else value

    def copied(value):
        if isinstance(value, dict):
            return {key: copied(part) for key, part in value.items()}
        return type(value)(map(copied, value)) if isinstance(value, list | tuple) else Name(of(value))

    return repr(copied(value))


class Name:
    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return str(self.value)


def test_a_container_without_objects_is_passed_as_it_is(counter):
    given = [1, {"a": (2,)}]
    assert threads.run(counter.run, lambda _, got: got is given, given)
    assert threads.run(counter.run, lambda _, got: got is given, given, policy=CONTAINERS)


# -- arguments that are added


def test_arguments_can_be_added_again_and_again(db, root, counter):
    put(db, other=Counter(10))
    root._p_jar.sync()
    base = Request(shown, [counter], {"b": 1}, allow_containers=False)
    one, other = base.with_more([1], {}), base.with_more([root["other"]], {"b": 2, "c": counter})
    with db.transaction() as connection:
        assert called(base, connection) == "Counter b=1"
        assert called(one, connection) == "Counter 1 b=1"
        assert called(other, connection) == "Counter Counter b=2 c=Counter"
    with pytest.raises(BadInput, match=r"argument 1 is .*no transaction has stored"):
        base.with_more([Counter()], {})


def test_added_arguments_may_be_what_needs_a_database_and_must_be_of_the_same_one(counter, two):
    plain = Request(shown, [1], allow_containers=False)
    assert plain.database is None
    assert called(plain, None) == "1"
    assert plain.with_more([counter], {}).database is counter._p_jar.db()
    connection, stranger = opened(two["b"])
    with pytest.raises(BadInput, match="argument 2 belongs to the database 'b'"):
        plain.with_more([counter, stranger], {})
    connection.close()


def called(request, connection):
    function, args, keywords = request.on(connection)
    return function(*args, **keywords)


def shown(*args, **keywords):
    def name(value):
        return type(value).__name__ if isinstance(value, Counter) else str(value)

    return " ".join([*map(name, args), *(f"{key}={name(value)}" for key, value in keywords.items())])


# -- references


def test_a_reference_survives_pickling_and_finds_its_object(db, counter):
    ref = pickle.loads(pickle.dumps(calls.ref(counter)))
    assert ref == calls.ref(counter)
    assert hash(ref) == hash(calls.ref(counter))
    with pytest.raises(BadInput, match="another process"):
        threads.run(Counter.add, ref)
    assert threads.run(counter.take_from, ref, 5) == 0


def test_a_reference_into_a_closed_database_is_refused():
    db = DB(None)
    put(db, counter=Counter())
    with db.transaction() as connection:
        ref = calls.ref(connection.root()["counter"])
    db.close()
    with pytest.raises(BadInput, match="closed"):
        threads.run(Counter.add, ref)


@pytest.mark.parametrize("value", [1, None, [], Persistent])
def test_what_is_not_persistent_has_no_reference(value):
    with pytest.raises(BadInput):
        calls.ref(value)


def test_a_new_object_has_a_reference_once_it_has_a_place(db, counter):
    def make(counter):
        new = Counter(7)
        with pytest.raises(BadInput, match="no transaction has stored"):
            calls.ref(new)
        counter._p_jar.add(new)
        counter.new = new
        return calls.ref(new)

    ref = threads.run(counter.run, make)
    assert threads.run(Counter.add, ref) == 8


# -- several databases


@pytest.fixture
def two():
    databases = {}
    for name in "ab":
        put(DB(MappingStorage(), databases=databases, database_name=name), counter=Counter(ord(name)))
    yield databases
    for db in databases.values():
        db.close()


def opened(db):
    connection = db.open(transaction.TransactionManager())
    return connection, connection.root()["counter"]


def test_objects_of_several_databases_meet_in_one_transaction(two):
    a, b = opened(two["a"]), opened(two["b"])
    threads.run(a[1].take_from, b[1], 8)
    assert (get(two["a"]), get(two["b"])) == (ord("a") + 8, ord("b") - 8)
    threads.run(Counter.add, calls.ref(b[1]))
    assert get(two["b"]) == ord("b") - 7


def test_an_object_of_a_database_that_the_call_cannot_reach_is_refused(db, counter, two):
    connection, stranger = opened(two["b"])
    with pytest.raises(BadInput, match="argument 0 belongs to the database 'b'"):
        threads.run(counter.take_from, stranger)
    with pytest.raises(BadInput, match="argument 0 belongs to the database 'b'"):
        threads.run(counter.take_from, calls.ref(stranger))
    connection.close()


def test_a_reference_to_a_database_that_is_not_here_is_refused(counter):
    with pytest.raises(ObjectGone, match="no database of that name"):
        threads.run(counter.take_from, calls.Ref("elsewhere", b"\0" * 8))


# -- what is refused


def test_an_object_of_a_closed_database_is_refused():
    db = DB(None)
    put(db, counter=Counter())
    connection = db.open(transaction.TransactionManager())
    counter = connection.root()["counter"]
    counter.count  # noqa: B018  so that it is there
    db.close()
    with pytest.raises(BadInput, match="closed"):
        threads.run(counter.add)


def test_a_database_that_is_closed_between_two_attempts_is_told():
    db = DB(None)
    put(db, counter=Counter())
    with db.transaction() as connection:
        ref = calls.ref(connection.root()["counter"])

    def close(counter):
        db.close()
        raise ConflictError

    with pytest.raises(Closed):
        threads.run(Counter.run, ref, close)


def test_a_database_that_is_closed_before_the_first_attempt_is_told_once():
    db = DB(None)
    put(db, counter=Counter())
    with db.transaction() as connection:
        request = Request(connection.root()["counter"].add, allow_containers=False)
    db.close()
    with pytest.raises(Closed) as caught:
        threads.drive(Run(request, calls.Policy()))
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("how", [lambda root, new: None, lambda root, new: root._p_jar.add(new)])
def test_an_object_that_was_not_committed_is_refused(root, counter, how):
    new = Counter()
    how(root, new)
    with pytest.raises(BadInput, match=r"argument 0 is a .*Counter that no transaction has stored yet") as caught:
        threads.run(counter.take_from, new)
    assert "commit" in caught.value.hint
    with pytest.raises(BadInput, match="the callable"):
        threads.run(new.add)


@pytest.mark.parametrize(
    ("hidden", "place"),
    [
        (lambda thing: [thing], r"argument 0\[0\]"),
        (lambda thing: {"a": (1, thing)}, r"argument 0\['a'\]\[1\]"),
        (lambda thing: {thing}, r"argument 0\[0\]"),
        (lambda thing: lambda: thing, r"argument 0 \(thing\)"),
        (lambda thing: thing._p_jar, "argument 0"),
    ],
)
def test_an_object_that_is_hidden_in_an_argument_is_refused(counter, hidden, place):
    with pytest.raises(BadInput, match=place + " is "):
        threads.run(counter.run, hidden(counter))


def test_a_function_that_holds_an_object_is_refused(counter):
    with pytest.raises(BadInput, match=r"the callable \(counter\)"):
        threads.run(lambda: counter.add())


def test_an_iterator_is_refused_because_a_second_attempt_would_find_it_empty(counter):
    with pytest.raises(BadInput, match="used up"):
        threads.run(counter.run, iter([1]))


def test_sets_and_what_is_nested_too_deep_are_refused_even_with_containers(counter):
    with pytest.raises(BadInput, match="persistent"):
        threads.run(counter.run, {counter}, policy=CONTAINERS)
    deep = counter
    for _ in range(20):
        deep = [deep]
    with pytest.raises(BadInput, match="persistent"):
        threads.run(counter.run, deep, policy=CONTAINERS)


# -- what is gone


def test_an_object_that_was_packed_away_is_gone(db, root, counter):
    with db.transaction() as connection:
        del connection.root()["counter"]
    db.pack()
    with pytest.raises(ObjectGone, match="not there") as caught:
        threads.run(Counter.add, counter)
    assert caught.value.oid == counter._p_oid.hex()


def test_an_object_whose_class_is_gone_is_told(db, root, monkeypatch):
    module = types.ModuleType("vanishing")
    module.Thing = type("Thing", (PersistentMapping,), {"__module__": "vanishing"})
    monkeypatch.setitem(sys.modules, "vanishing", module)
    put(db, thing=module.Thing())
    root._p_jar.sync()
    ref = calls.ref(root["thing"])
    monkeypatch.delitem(sys.modules, "vanishing")
    for connection in db.pool:
        connection._resetCache()
    with pytest.raises(ObjectGone, match=r"vanishing\.Thing cannot be imported"):
        threads.run(len, ref)
