"""The whole server without a socket: bytes and the time in, bytes and orders out."""

import struct

import pytest

from tests.conformance import wire
from tests.conformance.wire import Closed
from tests.devserver.driving import EPOCH, TICK, Driven, a_core, hello, request
from zkfleet.devserver import dispatch, jute
from zkfleet.devserver.codes import Code
from zkfleet.devserver.dispatch import Close, Send
from zkfleet.devserver.requests import Op

CREATED, DELETED, CHANGED, CHILDREN = 1, 2, 3, 4


@pytest.fixture
def driven():
    driven = Driven()
    yield driven
    driven.check()


@pytest.fixture
def ann(driven):
    return driven.session()


@pytest.fixture
def bob(driven):
    return driven.session()


def paths(reply):
    assert reply.code == Code.OK
    return sorted(jute.Reader(reply.body).texts())


# -- sessions


def test_a_new_session_has_an_id_a_password_and_a_timeout(ann):
    assert ann.session > 0
    assert len(ann.password) == 16
    assert ann.password != bytes(16)
    assert ann.timeout == 10_000


def test_no_two_sessions_share_an_id_or_a_password(ann, bob):
    assert ann.session != bob.session
    assert ann.password != bob.password


@pytest.mark.parametrize(
    ("wanted", "granted"),
    [(-1, 4000), (0, 4000), (4000, 4000), (12_345, 12_345), (40_001, 40_000), (2**31 - 1, 40_000)],
)
def test_the_timeout_is_held_between_2_and_20_ticks(driven, wanted, granted):
    assert driven.session(timeout=wanted).timeout == granted


def test_a_session_goes_on_over_another_connection(driven, ann):
    ann.ask(Op.CREATE, wire.create("/mine", flags=1))
    ann.leave()
    again = driven.session(session=ann.session, password=ann.password, timeout=20_000)
    assert (again.session, again.password, again.timeout) == (ann.session, ann.password, 20_000)
    assert paths(again.ask(Op.GET_EPHEMERALS, jute.text("/"))) == ["/mine"]


def test_a_takeover_closes_the_former_connection(driven, ann):
    again = driven.session(session=ann.session, password=ann.password)
    assert ann.closed
    assert again.ask(Op.PING).code == Code.OK


def test_the_loss_of_the_former_connection_does_not_end_the_session(driven, ann):
    again = driven.session(session=ann.session, password=ann.password)
    driven.core.lost(ann.number)
    driven.core.expire(0)
    assert again.ask(Op.CREATE, wire.create("/mine", flags=1)).code == Code.OK
    driven.carry_out(driven.core.expire(again.session))
    assert again.closed


@pytest.mark.parametrize("password", [bytes(16), b"wrong password..", b"", b"x" * 500])
def test_a_wrong_password_gets_no_session(driven, ann, password):
    wrong = driven.session(session=ann.session, password=password)
    assert (wrong.session, wrong.timeout, wrong.password) == (0, 0, bytes(16))
    assert wrong.closed


def test_an_unknown_session_is_refused_as_an_expired_one_is(driven):
    unknown = driven.session(session=12345)
    assert (unknown.session, unknown.timeout) == (0, 0)
    assert unknown.closed


def test_a_client_from_before_3_4_gets_a_reply_without_the_read_only_flag(driven):
    old, new = driven.connection(), driven.connection()
    new.feed(jute.framed(hello()))
    old.feed(jute.framed(hello()[:-1]))
    assert len(old.packet()) == len(new.packet()) - 1


def test_a_client_that_saw_a_later_transaction_is_refused(driven):
    ahead = driven.connection().feed(jute.framed(hello(last_zxid=driven.core.database.zxid + 1)))
    assert ahead.closed
    assert not ahead.inbox
    assert not driven.session(last_zxid=driven.core.database.zxid).closed


def test_a_session_that_is_closed_takes_its_ephemerals_along_and_hears_so(ann, bob):
    ann.ask(Op.CREATE, wire.create("/mine", flags=1))
    assert ann.ask(Op.CLOSE).code == Code.OK
    assert ann.closed
    assert bob.ask(Op.EXISTS, wire.read("/mine")).code == Code.NO_NODE


def test_a_closed_session_cannot_be_taken_up_again(driven, ann):
    ann.ask(Op.CLOSE)
    assert driven.session(session=ann.session, password=ann.password).session == 0


# -- how bytes are cut


def conversation():
    return b"".join(
        (
            jute.framed(hello()),
            request(1, Op.CREATE, wire.create("/a", b"data")),
            request(2, Op.GET_DATA, wire.read("/a", watch=True)),
            request(3, Op.SET_DATA, wire.set_data("/a", b"more")),
            request(4, Op.EXISTS, wire.read("/nowhere")),
            request(5, Op.PING),
            request(6, Op.CLOSE),
        )
    )


def after(*pieces):
    """What a fresh server answers to these pieces, and whether it closes."""
    client = Driven().connection()
    for piece in pieces:
        client.feed(piece)
    return bytes(client.inbox), client.closed


def test_it_does_not_matter_how_the_bytes_are_cut():
    whole = conversation()
    expected = after(whole)
    assert expected[1]
    assert after(*(whole[place : place + 1] for place in range(len(whole)))) == expected
    for place in range(len(whole)):
        assert after(whole[:place], whole[place:]) == expected


def test_a_word_may_come_letter_by_letter():
    assert after(b"r", b"u", b"o", b"k") == (b"imok", True)
    assert after(b"ruok\r\n") == (b"imok", True)


def test_nothing_is_answered_before_a_packet_is_whole(driven):
    client = driven.connection()
    client.feed(jute.framed(hello())[:-1])
    assert not client.inbox
    client.feed(b"\0")
    assert client.inbox


def test_several_packets_at_once_are_answered_in_their_order(ann):
    ann.feed(b"".join(request(xid, Op.CREATE, wire.create("/s-", flags=2)) for xid in range(1, 51)))
    replies = ann.hear()
    while ann.held:
        ann.go_on()
        replies += ann.hear()
    assert [reply.xid for reply in replies] == list(range(1, 51))
    assert [jute.Reader(reply.body).text() for reply in replies] == [f"/s-{number:010d}" for number in range(50)]
    zxids = [reply.zxid for reply in replies]
    assert zxids == sorted(set(zxids))


def test_what_follows_a_close_is_not_done(ann, bob):
    ann.feed(request(1, Op.CLOSE) + request(2, Op.CREATE, wire.create("/late")))
    assert bob.ask(Op.EXISTS, wire.read("/late")).code == Code.NO_NODE


@pytest.mark.parametrize("size", [-1, -(2**31), dispatch.jute.LONGEST + 1, 2**31 - 1])
def test_an_impossible_length_closes_the_connection(driven, ann, size):
    ann.feed(jute.INT.pack(size))
    assert ann.closed
    assert driven.connection().feed(jute.INT.pack(size)).closed


def test_the_longest_packet_is_taken(ann):
    empty = len(request(1, Op.CREATE, wire.create("/long"))) - 4
    data = bytes(jute.LONGEST - empty)
    assert ann.ask(Op.CREATE, wire.create("/long", data)).code == Code.OK
    assert jute.Reader(ann.ask(Op.GET_DATA, wire.read("/long")).body).buffer() == data


def test_an_unknown_operation_is_answered_and_the_connection_closed(ann):
    assert ann.ask(77).code == Code.UNIMPLEMENTED
    assert ann.closed


@pytest.mark.parametrize("size", range(8))
def test_a_request_without_a_whole_header_closes_the_connection(ann, size):
    assert ann.feed(jute.framed(bytes(size))).closed


def test_bytes_for_a_connection_that_is_gone_do_nothing(driven, ann):
    ann.leave()
    assert driven.core.received_bytes(ann.number, request(1, Op.PING), now=driven.now) == []


# -- replies that are larger than their requests


def test_a_flood_of_requests_for_much_is_answered_in_pieces(driven, ann, bob):
    ann.ask(Op.CREATE, wire.create("/large", bytes(500_000)))
    ann.feed(b"".join(request(xid, Op.GET_DATA, wire.read("/large")) for xid in range(1000)))
    assert ann.held
    seen = []
    while ann.held:
        assert len(ann.inbox) < dispatch.ENOUGH_AT_ONCE + 600_000
        seen += [reply.xid for reply in ann.hear()]
        assert bob.ask(Op.PING).code == Code.OK
        ann.go_on()
    seen += [reply.xid for reply in ann.hear()]
    assert seen == list(range(1000))


def test_others_come_in_between_many_requests_however_small_their_replies(driven, ann, bob):
    ann.feed(b"".join(request(xid, Op.EXISTS, wire.read("/none")) for xid in range(1000)))
    seen = []
    while ann.held:
        replies = ann.hear()
        assert len(replies) <= dispatch.MOST_AT_ONCE
        seen += replies
        assert bob.ask(Op.PING).code == Code.OK
        ann.go_on()
    assert [reply.xid for reply in seen + ann.hear()] == list(range(1000))


def test_a_batch_that_reads_too_much_is_refused(ann):
    ann.ask(Op.CREATE, wire.create("/large", bytes(1_000_000)))
    reads = [(Op.GET_DATA, wire.read("/large"))] * 100
    assert ann.ask(Op.MULTI_READ, wire.batch(*reads)).code == Code.MARSHALLING_ERROR
    assert ann.ask(Op.MULTI_READ, wire.batch(*reads[:3])).code == Code.OK


# -- time


def test_a_session_whose_time_is_over_cannot_be_saved_by_a_late_request(driven, ann):
    driven.now += 60
    ann.feed(request(1, Op.PING))
    assert ann.closed
    assert ann.session not in driven.core.sessions.timeouts


def test_nor_by_a_late_connection(driven, ann):
    ann.leave()
    driven.now += 60
    late = driven.session(session=ann.session, password=ann.password)
    assert late.session == 0
    assert late.closed


def test_a_session_that_is_silent_expires_at_the_end_of_a_tick(driven, ann):
    driven.pass_time(ann.timeout / 1000 - 0.01)
    assert not ann.closed
    driven.pass_time(TICK + 0.01)
    assert ann.closed
    assert driven.session(session=ann.session, password=ann.password).session == 0


def test_a_ping_keeps_a_session(driven, ann):
    for _ in range(10):
        driven.pass_time(ann.timeout / 1000 - 0.01)
        assert ann.ask(Op.PING).xid == -2


def test_a_session_without_a_connection_expires_too(driven, ann, bob):
    bob.ask(Op.EXISTS, wire.read("/mine", watch=True))
    ann.ask(Op.CREATE, wire.create("/mine", flags=1))
    ann.leave()
    assert bob.told() == [(CREATED, "/mine")]
    bob.ask(Op.GET_DATA, wire.read("/mine", watch=True))
    driven.pass_time(5)
    bob.ask(Op.PING)
    driven.pass_time(8)
    assert bob.told() == [(DELETED, "/mine")]


def test_expiry_takes_the_ephemerals_and_fires_their_watches(driven, ann, bob):
    ann.ask(Op.CREATE, wire.create("/p"))
    ann.ask(Op.CREATE, wire.create("/p/e", flags=1))
    ann.ask(Op.CREATE, wire.create("/p/s-", flags=3))
    bob.ask(Op.GET_CHILDREN, wire.read("/p", watch=True))
    bob.ask(Op.EXISTS, wire.read("/p/e", watch=True))
    zxid = driven.core.database.zxid
    driven.carry_out(driven.core.expire(ann.session))
    assert ann.closed
    assert not ann.inbox
    assert bob.told() == [(DELETED, "/p/e"), (CHILDREN, "/p")]
    assert driven.core.database.zxid == zxid + 1
    assert paths(bob.ask(Op.GET_CHILDREN, wire.read("/p"))) == []


def test_a_connection_without_a_session_is_closed_after_a_while(driven):
    silent = driven.connection()
    driven.pass_time(dispatch.SECONDS_WITHOUT_SESSION)
    assert not silent.closed
    driven.pass_time(0.1)
    assert silent.closed


def test_an_empty_container_goes_by_the_clock_if_it_ever_held_something(driven, ann):
    driven.pass_time(0)
    for path in ("/used", "/unused", "/full"):
        ann.ask(Op.CREATE_CONTAINER, wire.create(path, flags=4))
    ann.ask(Op.CREATE, wire.create("/used/a"))
    ann.ask(Op.CREATE, wire.create("/full/a"))
    ann.ask(Op.DELETE, wire.delete("/used/a"))
    ann.ask(Op.EXISTS, wire.read("/used", watch=True))
    for _ in range(7):
        driven.pass_time(dispatch.SECONDS_BETWEEN_CLEANINGS / 7 + 0.01)
        ann.feed(request(0, Op.PING))
    ann.hear()
    assert ann.events == [(DELETED, "/used")]
    assert paths(ann.ask(Op.GET_CHILDREN, wire.read("/"))) == ["full", "unused", "zookeeper"]


def test_a_znode_outlives_its_time_only_with_children_or_writes(driven):
    driven.pass_time(0)
    ann = driven.session(timeout=40_000)
    for path in ("/short", "/written", "/parent"):
        ann.ask(Op.CREATE_TTL, wire.create(path, flags=5, ttl=30_000))
    ann.ask(Op.CREATE, wire.create("/parent/a"))
    ann.ask(Op.EXISTS, wire.read("/short", watch=True))
    driven.pass_time(35)
    ann.ask(Op.SET_DATA, wire.set_data("/written"))
    driven.pass_time(26)
    assert ann.told() == [(DELETED, "/short")]
    assert paths(ann.ask(Op.GET_CHILDREN, wire.read("/"))) == ["parent", "written", "zookeeper"]


def test_times_in_stats_are_those_of_the_clock(driven, ann):
    stat = ann.ask(Op.CREATE2, wire.create("/a")).body[-68:]
    made = struct.unpack_from(">q", stat, 16)[0]
    assert made == EPOCH + driven.now * 1000


# -- watches


def test_an_event_comes_before_the_reply_that_reveals_the_change(driven, ann, bob):
    ann.ask(Op.CREATE, wire.create("/a"))
    bob.ask(Op.GET_DATA, wire.read("/a", watch=True))
    driven.trace.clear()
    ann.feed(request(9, Op.SET_DATA, wire.set_data("/a", b"new")))
    bob.feed(request(9, Op.GET_DATA, wire.read("/a")))
    sent = [(order.connection, struct.unpack_from(">i", order.data, 4)[0]) for order in driven.trace]
    assert sent == [(bob.number, -1), (ann.number, 9), (bob.number, 9)]


def test_ones_own_change_is_told_before_its_reply(driven, ann):
    ann.ask(Op.CREATE, wire.create("/a"))
    ann.feed(request(1, Op.GET_DATA, wire.read("/a", watch=True)) + request(2, Op.SET_DATA, wire.set_data("/a")))
    xids = [struct.unpack_from(">i", payload)[0] for payload in ann.packets()]
    assert xids == [1, -1, 2]


def test_a_watch_fires_once(ann, bob):
    ann.ask(Op.CREATE, wire.create("/a"))
    bob.ask(Op.GET_DATA, wire.read("/a", watch=True))
    for _ in range(3):
        ann.ask(Op.SET_DATA, wire.set_data("/a"))
    assert bob.told() == [(CHANGED, "/a")]


def test_a_batch_tells_of_its_parts_in_their_order_and_only_if_it_is_done(ann, bob):
    bob.ask(Op.ADD_WATCH, jute.text("/") + wire.number(1))
    good = [(Op.CREATE, wire.create("/a")), (Op.SET_DATA, wire.set_data("/a")), (Op.DELETE, wire.delete("/a"))]
    ann.ask(Op.MULTI, wire.batch(*good, (Op.CHECK, wire.delete("/nowhere"))))
    assert bob.told() == []
    ann.ask(Op.MULTI, wire.batch(*good))
    assert bob.told() == [(CREATED, "/a"), (CHANGED, "/a"), (DELETED, "/a")]


def test_watches_are_gone_with_their_connection(driven, ann, bob):
    bob.ask(Op.EXISTS, wire.read("/a", watch=True))
    bob.leave()
    assert driven.core.watches.count == 0
    again = driven.session(session=bob.session, password=bob.password)
    ann.ask(Op.CREATE, wire.create("/a"))
    assert again.told() == []


def test_no_watch_is_found_at_what_is_no_path(ann):
    for path, code in (("/a", Code.OK), ("a", Code.MARSHALLING_ERROR), ("", Code.NO_WATCHER)):
        assert ann.ask(Op.ADD_WATCH, jute.text(path) + wire.number(0)).code == Code.OK
        assert ann.ask(Op.CHECK_WATCHES, jute.text(path) + wire.number(3)).code == code


def test_watches_that_are_set_again_tell_what_was_missed(driven, ann, bob):
    for path in ("/same", "/changed", "/deleted", "/parent"):
        ann.ask(Op.CREATE, wire.create(path))
    seen = bob.ask(Op.PING).zxid
    bob.leave()
    ann.ask(Op.SET_DATA, wire.set_data("/changed"))
    ann.ask(Op.DELETE, wire.delete("/deleted"))
    ann.ask(Op.CREATE, wire.create("/parent/a"))
    ann.ask(Op.CREATE, wire.create("/new"))
    again = driven.session(session=bob.session, password=bob.password, last_zxid=seen)
    body = wire.set_watches(
        seen, ["/same", "/changed", "/deleted"], ["/new", "/never"], ["/parent", "/same"], [], ["/"]
    )
    again.ask(Op.SET_WATCHES2, body)
    assert again.events == [(CHANGED, "/changed"), (DELETED, "/deleted"), (CREATED, "/new"), (CHILDREN, "/parent")]
    again.events.clear()
    ann.ask(Op.SET_DATA, wire.set_data("/same"))
    ann.ask(Op.CREATE, wire.create("/never"))
    assert again.told() == [(CHANGED, "/same"), (CREATED, "/never")]


# -- who may


def test_credentials_belong_to_the_connection_and_not_to_the_session(driven, ann):
    ann.ask(Op.AUTH, wire.auth("digest", b"ann:pw"), xid=-4)
    ann.ask(Op.CREATE, wire.create("/secret", b"s", acl=((31, "auth", ""),)))
    assert ann.ask(Op.GET_DATA, wire.read("/secret")).code == Code.OK
    again = driven.session(session=ann.session, password=ann.password)
    assert again.ask(Op.GET_DATA, wire.read("/secret")).code == Code.NO_AUTH
    again.ask(Op.AUTH, wire.auth("digest", b"ann:pw"), xid=-4)
    assert again.ask(Op.GET_DATA, wire.read("/secret")).code == Code.OK


def test_an_unknown_scheme_of_credentials_closes_the_connection(ann):
    assert ann.ask(Op.AUTH, wire.auth("nonsense", b"x"), xid=-4).code == Code.AUTH_FAILED
    assert ann.closed


def test_a_step_of_a_login_without_a_token_closes_the_connection(ann):
    assert ann.ask(Op.SASL, jute.buffer(b"")).body == jute.NONE
    with pytest.raises(Closed):
        ann.ask(Op.SASL, jute.NONE)


# -- what always holds


def test_nothing_is_sent_after_a_close(driven, ann):
    ann.ask(Op.GET_DATA, wire.read("/", watch=True))
    ann.ask(Op.CREATE, wire.create("/mine", flags=1))
    ann.ask(Op.EXISTS, wire.read("/mine", watch=True))
    ann.ask(Op.CLOSE)
    last = [order for order in driven.trace if order.connection == ann.number][-2:]
    assert [type(order) for order in last] == [Send, Close]
    with pytest.raises(Closed):
        ann.ask(Op.PING)


def test_a_server_that_was_told_the_same_answers_the_same():
    def run():
        driven = Driven(a_core())
        ann, bob = driven.session(), driven.session()
        bob.ask(Op.ADD_WATCH, jute.text("/") + wire.number(1))
        for xid in range(20):
            ann.feed(request(xid, Op.CREATE2, wire.create("/s-", flags=3)))
        driven.pass_time(30)
        return driven.trace

    assert run() == run()


def test_lists_of_permissions_that_no_znode_has_any_more_are_forgotten(driven, ann):
    ann.ask(Op.CREATE, wire.create("/a"))
    for number in range(500):
        ann.ask(
            Op.SET_ACL,
            wire.set_acl("/a", ((31, "ip", "127.0.0.1"), (31, "ip", f"10.0.{number // 250}.{number % 250}"))),
        )
    assert ann.ask(Op.SET_DATA, wire.set_data("/a")).code == Code.OK
    assert len(driven.core.database._acls) <= 100


def test_equal_lists_of_permissions_are_kept_once(driven, ann):
    for number in range(100):
        own = ((31, "world", "anyone"), (1, "ip", f"10.0.0.{number}"))
        for name in "ab":
            ann.ask(Op.CREATE, wire.create(f"/{name}{number}", acl=own))
    nodes = driven.core.database.nodes
    assert all(nodes[f"/a{number}"].acl is nodes[f"/b{number}"].acl for number in range(100))
