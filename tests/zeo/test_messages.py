import contextlib
import io
import os
import pickletools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ZEO.asyncio.marshal import encoder, pickle_server_decode
from zodbpickle import binary
from zodbpickle.pickle import Pickler

from zkfleet.errors import BadInput
from zkfleet.zeo.messages import PLAIN, REPEATS, STEPS, Doorway, call_of, check_pickle, unpickle

ALLOWED = {"register", "loadBefore", "storea"}
encode = encoder(b"Z5")

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=9)
    | st.binary(max_size=300)
    | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
)


def repeated(levels, last=b"."):
    """A pickle of tuples, each of which has the one before twice: its hash takes two to the power of their number."""
    steps = b"".join(b"q" + bytes([n]) + b"h" + bytes([n]) + b"\x86" for n in range(levels))
    return b"\x80\x03)" + steps + last


@given(st.tuples(st.integers(), st.booleans(), st.text(max_size=9), st.lists(plain, max_size=4).map(tuple)))
def test_what_a_client_sends_is_read_as_zeo_reads_it(call):
    message = encode(*call)
    assert unpickle(message) == call == pickle_server_decode(message)


@given(plain, st.integers(1, 3))
def test_so_is_what_other_picklers_write_as_long_as_they_do_not_repeat_much(value, protocol):
    written = io.BytesIO()
    Pickler(written, protocol).dump((1, 0, "loadBefore", (binary(b"12345678"), value, {3}, frozenset())))
    repeats = sum(one.name.endswith("GET") for one, _, _ in pickletools.genops(written.getvalue()))
    if repeats <= REPEATS and b"_codecs" not in written.getvalue():
        assert unpickle(written.getvalue())[3][1] == value


@given(st.binary(max_size=60))
def test_whatever_comes_ends_soon(data):
    with contextlib.suppress(Exception):
        unpickle(b"\x80\x03" + data)


@pytest.mark.parametrize(
    "call",
    [
        b"cbuiltins\neval\n(X\x01\x00\x00\x001tR.",
        b"c__builtin__\neval\n(X\x01\x00\x00\x001tR.",
        b"cbuiltins\ngetattr\n.",
        b"cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR.",
        b"cposix\nsystem\n.",
        b"czodbpickle\nbinary\n.",
        b"(ibuiltins\neval\n.",
        b"(cbuiltins\neval\no.",
        b"X\x08\x00\x00\x00builtinsX\x04\x00\x00\x00eval\x93.",
        b"P1\n.",
        b"Q.",
        b"\x82\x01.",
        b"S'text'\n.",
        b"Vtext\n.",
        b"c" + b"x" * 200 + b"\n\n.",
        b"I" + b"9" * 5000 + b"\n.",
        b"2.",
    ],
)
def test_a_pickle_of_another_kind_makes_nothing(call):
    with pytest.raises(BadInput):
        unpickle(call)


def test_a_prefix_of_zopes_undo_log_is_of_a_class_of_its_own(monkeypatch):
    class Prefix:
        pass

    monkeypatch.setattr("zkfleet.zeo.messages.import_module", lambda name: type(name, (), {"Prefix": Prefix}))
    change = b"cZopeUndo.Prefix\nPrefix\nN}X\x04\x00\x00\x00pathX\x01\x00\x00\x00xs\x86b."
    assert unpickle(change).path == "x"
    assert unpickle(b"cZopeUndo.Prefix\nPrefix\n)\x81}X\x04\x00\x00\x00pathX\x01\x00\x00\x00ysb.").path == "y"
    assert not hasattr(Prefix, "path")


def test_a_few_repetitions_are_read():
    assert unpickle(repeated(REPEATS))


@pytest.mark.parametrize("last", [b".", b"}q\xffh\xff\x85N\x86.", b"N\x86}\x86."], ids=["name", "in a tuple", "key"])
def test_many_repetitions_are_refused(last):
    with pytest.raises(BadInput, match="used again"):
        check_pickle(repeated(60, last))


@pytest.mark.parametrize("step", [b"]", b")\x85", b"N", b"K\x01", b"("])
def test_a_message_of_very_many_values_is_refused_soon(step):
    with pytest.raises(BadInput, match="values"):
        check_pickle(step * 5_000_000)


def test_what_is_nested_as_deep_as_may_be_has_a_hash():
    hash(unpickle(b")" + b"\x85" * (STEPS - 2) + b"."))


def test_no_class_makes_much_of_little():
    assert set(PLAIN.values()) == {set, frozenset, complex}


# -- calls


def test_a_call_is_read():
    assert call_of((3, 0, "loadBefore", (b"oid", b"tid")), ALLOWED) == (3, False, "loadBefore", (b"oid", b"tid"))
    assert call_of(((b"oid", b"tid"), 1, "storea", [1]), ALLOWED) == ((b"oid", b"tid"), True, "storea", (1,))


def test_a_sign_of_life_is_no_call():
    assert call_of((-1, 0, ".keepalive", None), ALLOWED)[0] == -1


class Unhashable(tuple):
    def __hash__(self):
        raise AssertionError("it was hashed")


@pytest.mark.parametrize(
    "said",
    [
        None,
        (),
        (1, 0, "loadBefore"),
        (1, 0, Unhashable(), ()),
        (1, 0, b"loadBefore", ()),
        (1, 0, ["loadBefore"], ()),
        (1, 0, "__class__", ()),
        (1, 0, "x" * 10_000, ()),
        (1, 0, "loadBefore", None),
        (1, 0, "loadBefore", {}),
        (1, 0, "register", (Unhashable(), False)),
        (1, 0, "register", ("1", [])),
    ],
)
def test_what_is_no_call_is_refused_in_few_words(said):
    with pytest.raises(BadInput) as caught:
        call_of(said, ALLOWED)
    assert len(str(caught.value)) < 150


# -- before a client has registered


def cut(doorway, data, size):
    """Hand data over in pieces, and return what it makes of them."""
    found, rest = [], b""
    for at in range(0, len(data), size):
        rest = data[at : at + size]
        while rest:
            taken, rest = doorway.take(rest)
            found.append(taken)
    return found


@given(st.lists(st.binary(min_size=1, max_size=64), max_size=5), st.integers(1, 30))
def test_messages_are_taken_however_they_come(messages, size):
    data = b"".join(len(one).to_bytes(4, "big") + one for one in messages)
    assert b"".join(cut(Doorway(64), data, size)) == data


def test_nothing_is_taken_beyond_the_end_of_a_message():
    doorway = Doorway(64)
    data = b"\0\0\0\x02Z5\0\0\0\x01x"
    assert doorway.take(data) == (data[:4], data[4:])
    assert doorway.take(data[4:]) == (b"Z5", data[6:])


@pytest.mark.parametrize("size", [0, 65, 1 << 31])
def test_a_message_of_a_wrong_size_is_refused_when_it_begins(size):
    with pytest.raises(BadInput, match="bytes"):
        cut(Doorway(64), size.to_bytes(4, "big"), 1)


def test_later_messages_may_be_longer():
    doorway = Doorway(2, 8)
    cut(doorway, b"\0\0\0\x02Z5" + b"\0\0\0\x08" + os.urandom(8) + b"\0\0\0\x08" + os.urandom(8), 3)
    with pytest.raises(BadInput):
        doorway.take(b"\0\0\0\x09")


@pytest.mark.parametrize(("head", "name"), [(b"GET / HTTP/1.1\r\n", "HTTP"), (b"\x16\x03\x01\x02\x00", "TLS")])
def test_other_protocols_are_called_by_their_names(head, name):
    with pytest.raises(BadInput, match=f"it speaks {name}"):
        Doorway(64).take(head)
