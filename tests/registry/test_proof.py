"""What is said of a lost write is true, in whatever order requests arrive, late ones included."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkfleet.registry.proof import FENCED, WRITTEN, Expected, Mark, Verdict, by_mark, by_versions
from zkfleet.registry.reads import Stat, Unreadable, Znode

MARK = Mark("/.zkfleet/m", session=1, version=3)


def a_znode(data=b"", version=0, czxid=1):
    return Znode(data, Stat(czxid, 9, 0, 0, version, 0, 0, 0, len(data), 0, 0))


class Server:
    """Makes conditional writes of one mark, in the order in which they arrive."""

    def __init__(self):
        self.mark, self.made = a_znode(FENCED, MARK.version), []

    def take(self, request):
        if self.mark is Unreadable.MISSING or self.mark.stat.version != MARK.version:
            return False
        self.mark = a_znode(FENCED if request.startswith("fence") else WRITTEN, MARK.version + 1)
        self.made.append(request)
        return True


@given(st.data())
def test_a_verdict_by_mark_holds_whatever_arrives_before_and_after(data):
    server, in_flight, judged = Server(), {"write"}, None
    for number in range(4):
        for request in data.draw(st.permutations(sorted(in_flight))):
            if data.draw(st.booleans(), label=f"{request} arrives"):
                server.take(request)
                in_flight.discard(request)
        if data.draw(st.booleans(), label="somebody deletes the mark") and number == 2:
            server.mark = Unreadable.MISSING
        if data.draw(st.booleans(), label="the reply to this fence comes"):
            server.take(f"fence {number}")
            judged = by_mark(MARK, server.mark)
            break
        in_flight.add(f"fence {number}")
    for request in data.draw(st.permutations(sorted(in_flight))):
        server.take(request)
    if judged is Verdict.HAPPENED:
        assert server.made == ["write"]
    if judged is Verdict.REFUSED:
        assert "write" not in server.made
    if judged is Verdict.UNKNOWN:
        assert server.mark is Unreadable.MISSING


@given(st.integers(0, 9), st.sampled_from([WRITTEN, FENCED, b"", b"x"]))
def test_a_mark_that_others_wrote_to_proves_nothing(version, content):
    seen = a_znode(content, version)
    if version != MARK.version + 1 or content not in (WRITTEN, FENCED):
        assert by_mark(MARK, seen) is Verdict.UNKNOWN


ACTIONS = st.sampled_from(["delete", "make", "b", "ours too"])


class Node:
    """A znode that several people set, delete and make, and one conditional write of ours to it."""

    def __init__(self):
        self.zxid, self.znode, self.ours = 1, a_znode(b"a", 2, czxid=1), False

    def others(self, action):
        self.zxid += 1
        there = isinstance(self.znode, Znode)
        if action == "delete":
            self.znode = Unreadable.MISSING
        elif action == "make" and not there:
            self.znode = a_znode(b"a", 0, czxid=self.zxid)
        elif action in ("b", "ours too") and there:
            after = b"ours" if action == "ours too" else b"b"
            self.znode = a_znode(after, self.znode.stat.version + 1, self.znode.stat.czxid)

    def arrive(self, expected):
        if not isinstance(self.znode, Znode) or self.znode.stat.version != expected.version:
            return
        self.zxid, self.ours = self.zxid + 1, True
        made = a_znode(expected.after or b"", expected.version + 1, self.znode.stat.czxid)
        self.znode = Unreadable.MISSING if expected.after is None else made


@pytest.mark.parametrize("after", [b"ours", None])
@given(before=st.lists(ACTIONS), since=st.lists(ACTIONS), arrives=st.booleans())
def test_versions_refute_no_write_that_happened(after, before, since, arrives):
    node, expected = Node(), Expected("/n", 2, 1, after)
    for action in before:
        node.others(action)
    if arrives:
        node.arrive(expected)
    for action in since:
        node.others(action)
    verdict = by_versions([(expected, node.znode)])
    assert verdict is not Verdict.HAPPENED
    if node.ours:
        assert verdict is Verdict.UNKNOWN


def test_one_operation_that_did_not_happen_refutes_all_that_were_sent_with_it():
    known, unknown = Expected("/a", 0, 1, b"x"), Expected("/b", 0, 1, b"x")
    replies = [(known, a_znode(b"", 0)), (unknown, Unreadable.MISSING)]
    assert by_versions(replies) is Verdict.REFUSED
    assert by_versions(replies[1:]) is Verdict.UNKNOWN
    assert by_versions([]) is Verdict.UNKNOWN
