"""However heavy nodes are, no server is asked for more than it can send at once."""

import pytest
from kazoo.client import KazooClient

import zkfleet
from zkfleet.registry.portions import BYTES_AT_ONCE, FIRST, MOST, weigh
from zkfleet.registry.readings import read_providers, reread_providers
from zkfleet.registry.reads import Answer, GetChildren, Stat, Znode, read_from
from zkfleet.registry.subtree import read_subtree
from zkfleet.testing import ZooKeeperServer


class Level:
    """A node with so many children, each of one weight; notes what each answer weighs."""

    def __init__(self, children, weight):
        self.names = tuple(f"n{number:05}" for number in range(children))
        self.weight, self.answers = weight, []

    def answer(self, batch):
        replies = tuple(self.names if isinstance(read, GetChildren) else self.znode(read.path) for read in batch.reads)
        self.answers.append(replies)
        return Answer(replies, len(self.answers))

    def znode(self, path):
        top = path == "/top"
        return Znode(b"" if top else b"x" * self.weight, Stat(*[1] * 9, len(self.names) if top else 0, 1))


def providers(level):
    return read_from(read_providers("/top"), level.answer)


def again(level):
    seen = providers(level)
    level.answers.clear()
    return read_from(reread_providers(seen, frozenset(level.names)), level.answer)


def subtree(level):
    return read_from(read_subtree(["/top"]), level.answer)


@pytest.mark.parametrize("read", [providers, again, subtree])
@pytest.mark.parametrize("weight", [20_000, 100_000, 900_000])
def test_no_answer_is_heavy(read, weight):
    level = Level(200, weight)
    read(level)
    assert max(map(weigh, level.answers)) < max(BYTES_AT_ONCE + 100_000, (FIRST + 1) * (weight + 100))
    assert sum(map(weigh, level.answers[3:])) / max(len(level.answers) - 3, 1) < BYTES_AT_ONCE * 1.1


def test_light_nodes_are_read_many_at_a_time():
    level = Level(2 * MOST, 10)
    assert len(subtree(level).znodes) == 2 * MOST + 1
    assert len(level.answers) < 12
    level = Level(1000, 100)
    assert providers(level).whole
    assert len(level.answers) == 3


def test_what_was_read_in_portions_is_not_called_one_moment():
    level = Level(200, 100_000)
    found = providers(level)
    assert not found.whole
    assert sorted(found.content) == list(level.names)


def test_a_batch_that_was_split_is_not_one_moment_either():
    level = Level(10, 10)
    assert not read_from(read_providers("/top"), lambda batch: level.answer(batch)._replace(whole=False)).whole


@pytest.mark.slow
def test_a_server_survives_that_its_nodes_are_read(tmp_path):
    with ZooKeeperServer(tmp_path / "zk", java_options=["-Xmx256m"]) as server:
        client = KazooClient(server.hosts, timeout=20)
        client.start()
        client.create("/big")
        waiting = [client.create_async(f"/big/n{number:04}", b"x" * 100_000) for number in range(600)]
        assert all(one.get(60) for one in waiting)
        with zkfleet.connect(server.hosts, timeout=60, session_timeout=20) as registry:
            assert len(registry.export_tree("/big")) > 600 * 100_000
            assert registry.statistics().reconnects == 0
        client.stop()
        client.close()
        assert "OutOfMemoryError" not in (server.folder / "log").read_text(errors="replace")
