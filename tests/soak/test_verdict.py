import pytest

from tests.soak.verdict import breaches, counted, history, outages

LOG = ["1.0 tried 1\n", "1.5 acknowledged 1\n", "2.0 tried 2\n", "2.1 failed 2 ClientDisconnected\n", "2.2 tried 3\n"]
LOG += ["2.3 failed 3 ClientDisconnected\n", "2.4 outcome 3 NOT_COMMITTED\n", "3.0 tried 4\n", "3.5 acknowledged 4\n"]
LOG += ["4.0 ended 4\n", "5.0 acknow"]


def judged(stored, *, read=None, log=LOG, last_fault=3.0):
    read = set(stored if read is None else read)
    return list(breaches("w", history(log), counted(stored), read, last_fault=last_fault))


def test_what_was_acknowledged_is_there_once_and_what_was_not_at_most_once():
    assert judged(["w:1", "w:4"]) == []
    assert judged(["w:1", "w:2", "w:4", "v:7"]) == []
    assert outages(history(LOG)) == [2.0]


@pytest.mark.parametrize(
    ("stored", "word"),
    [
        (["w:1"], "w:4 was acknowledged"),
        (["w:1", "w:1", "w:4"], "w:1 was acknowledged, and is there 2 times"),
        (["w:1", "w:4", "w:2", "w:2"], "w:2 was not acknowledged"),
        (["w:1", "w:4", "w:3"], "NOT_COMMITTED"),
        (["w:1", "w:4", "w:9"], "never tried"),
    ],
)
def test_what_was_lost_doubled_or_told_wrongly_is_seen(stored, word):
    [breach] = judged(stored)
    assert word in breach


def test_what_a_client_sees_otherwise_than_it_is_stored_is_seen():
    assert judged(["w:1", "w:4"], read=["w:1"]) == ["w:4 is stored, and no client sees it"]
    assert judged(["w:1", "w:4", "v:1"], read=["w:1", "w:3", "w:4"]) == ["w:3 is seen by a client, and not stored"]


def test_who_is_stuck_is_seen():
    assert "stuck" in judged(["w:1", "w:4"], last_fault=3.6)[0]
    assert "did not end" in judged(["w:1"], log=LOG[:2], last_fault=0)[0]
